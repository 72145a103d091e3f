"""GlusterFS with three bricks, on both hosts and the third machine, as its advice wants it."""

from __future__ import annotations

from lab.contest import tried
from lab.findings import Findings
from lab.pooled import pooled
from lab.site import NAMES, Site

MEMORY_MIB = 1536
VOLUME = (
    "create pool replica 3 a:/brick b:/brick c:/brick force",
    # what `outlast storage mount glusterfs` says of the volume
    "set pool network.ping-timeout 10",
    "set pool server.tcp-user-timeout 10",
    "set pool cluster.quorum-type auto",
    "set pool performance.strict-o-direct on",
    "start pool",
)


def trial(site: Site, found: Findings) -> None:
    site.start(*NAMES)
    found.add("machines", site["c"].check("uname -r; dpkg-query -W -f '${Package} ${Version}' "
              "glusterfs-server").replace("\n", ", "))  # fmt: skip
    site.lend(*NAMES)
    site.both(NAMES, lambda name: site[name].check("systemctl enable --now glusterd"))
    for other in ("b", "c"):
        site["a"].check(f"gluster peer probe {other}")
    site["a"].until("test $(gluster pool list | grep -c Connected) = 3", 120)
    for words in VOLUME:
        site["a"].check(f"gluster --mode=script volume {words}")
    tried(site, found, "GlusterFS", "outlast storage mount glusterfs a,b,c:/pool /srv/pool")
    pooled(site, found, "GlusterFS")
