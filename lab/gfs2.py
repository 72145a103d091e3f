"""GFS2 on a LUN of the third machine, with corosync and dlm as a distribution brings them.

Rule: dlm goes on after a death only when its own fencing has said that the host is off. Here the
command that says so says it at once: only a machine that has lost its power is asked about.
"""

from __future__ import annotations

from lab.contest import HOSTS, tried
from lab.findings import Findings
from lab.ocfs2 import DEVICE, TARGET, lun
from lab.pooled import pooled
from lab.site import NAMES, Site

MEMORY_MIB = 1024
NODE = "  node {{\n    ring0_addr: 10.77.0.{0}\n    nodeid: {0}\n    name: {1}\n  }}\n"
COROSYNC = (
    # a translated processor may be away for seconds, which is no death
    "totem {\n  version: 2\n  cluster_name: lab\n  transport: knet\n  token: 10000\n}\n"
    "quorum {\n  provider: corosync_votequorum\n}\n"
    f"nodelist {{\n{''.join(NODE.format(n, name) for n, name in enumerate(NAMES, 1))}}}\n"
)
ISCSI = (
    "iscsiadm -m discovery -t sendtargets -p 10.77.0.3 && "
    f"iscsiadm -m node -T {TARGET} -o update -n node.startup -v automatic && "
    f"iscsiadm -m node -T {TARGET} -l && systemctl enable open-iscsi"
)


def trial(site: Site, found: Findings) -> None:
    site["c"].add_disk("lun", "4G")
    site.start(*NAMES)
    found.add("machines", site["c"].check("uname -r; dpkg-query -W -f '${Package} ${Version}\\n' "
              "gfs2-utils dlm-controld corosync").replace("\n", ", "))  # fmt: skip
    site.lend(*HOSTS)
    lun(site)
    for name in NAMES:
        site[name].check("cat >/etc/corosync/corosync.conf", typed=COROSYNC)
    site.both(
        NAMES,
        lambda name: site[name].check("systemctl enable corosync && systemctl restart corosync"),
    )
    site["a"].until("corosync-quorumtool | grep -q 'Total votes: *3'", 120)
    site.both(HOSTS, lambda name: site[name].check(
        "mkdir -p /etc/dlm && echo 'fence_all /bin/true' >/etc/dlm/dlm.conf && "
        f"systemctl enable --now dlm && {ISCSI}"))  # fmt: skip
    site.both(HOSTS, lambda name: site[name].until(f"test -e {DEVICE}", 60))
    site["a"].check(f"mkfs.gfs2 -O -p lock_dlm -t lab:pool -j 3 {DEVICE}")
    tried(site, found, "GFS2", f"outlast storage mount gfs2 {DEVICE} /srv/pool")
    pooled(site, found, "GFS2")
