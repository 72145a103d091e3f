"""A pool without a shared file system: etcd on three machines, disks on LVM on a LUN by iSCSI.

What docs/operating/etcd.md says is typed: members with certificates on both sides, a volume that
one host makes and both activate, a VM on it, and a power cut, which also takes a member of etcd.
"""

from __future__ import annotations

from lab.contest import HOSTS, PYTHON
from lab.findings import Findings
from lab.gfs2 import ISCSI
from lab.ocfs2 import DEVICE, lun
from lab.pooled import AGAIN_S, UNITS, joined, power_cut, typed
from lab.site import NAMES, Site

MEMORY_MIB = 1024
DIR, PKI = "/var/lib/outlast/pool", "/etc/outlast/etcd"
ADDRESSES = {name: f"10.77.0.{number}" for number, name in enumerate(NAMES, 1)}
THERE = " ".join(f"--etcd https://{address}:2379" for address in ADDRESSES.values())
MAKE_PKI = (
    "import sys, pathlib; sys.path.insert(0, '/mnt/lab/tests/contract'); import etcd_process; "
    f"etcd_process.make_pki(pathlib.Path('/root/pki'), *{tuple(ADDRESSES.values())})"
)
TAKE = (
    f"mkdir -p {PKI} /etc/etcd && base64 -d | tar -xz -C {PKI} && cp {PKI}/c* /etc/etcd && "
    "chown etcd: /etc/etcd/*"
)
OWN = "\n".join(
    f'ETCD_{side}CLIENT_CERT_AUTH="true"\nETCD_{side}TRUSTED_CA_FILE="/etc/etcd/ca.pem"\n'
    f'ETCD_{side}CERT_FILE="/etc/etcd/cert.pem"\nETCD_{side}KEY_FILE="/etc/etcd/cert.key"'
    for side in ("", "PEER_")
)
# a translated processor may be away for a second, which is no death
MEMBER = """\
ETCD_NAME="{0}"
ETCD_LISTEN_CLIENT_URLS="https://{1}:2379"
ETCD_ADVERTISE_CLIENT_URLS="https://{1}:2379"
ETCD_LISTEN_PEER_URLS="https://{1}:2380"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://{1}:2380"
ETCD_INITIAL_CLUSTER="{2}"
ETCD_HEARTBEAT_INTERVAL="500"
ETCD_ELECTION_TIMEOUT="5000"
"""


def trial(site: Site, found: Findings) -> None:
    site["c"].add_disk("lun", "4G")
    site.start(*NAMES)
    found.add("machines", site["c"].check("uname -r; dpkg-query -W -f '${Package} ${Version}\\n' "
              "etcd-server lvm2 open-iscsi tgt").replace("\n", ", "))  # fmt: skip
    site.lend(*HOSTS)
    etcd(site)
    lun(site)
    site.both(HOSTS, lambda name: site[name].check(ISCSI))
    site.both(HOSTS, lambda name: site[name].until(f"test -e {DEVICE}", 60))
    typed(site, found, "a", f"outlast storage probe {THERE}")
    site["a"].check(f"pvcreate {DEVICE} && vgcreate vg0 {DEVICE} && lvcreate -y -L 64M -n web vg0")
    site["b"].check("pvscan && vgchange -ay vg0")
    pool(site, found)
    made = "outlast vm create web --memory 64MiB --disk /dev/vg0/web --use-existing --start"
    if typed(site, found, "a", made).code == 0:
        site["a"].until("outlast vm show web | grep -q running", AGAIN_S)
        power_cut(site, found, "a pool on etcd, with LVM", ["web"])


def etcd(site: Site) -> None:
    """A member on each machine."""
    made = site["a"].check(f'{PYTHON} -c "{MAKE_PKI}" && tar -C /root/pki -cz . | base64 -w0')
    all_of_them = ",".join(f"{name}=https://{ip}:2380" for name, ip in ADDRESSES.items())

    def member(name: str) -> None:
        site[name].check(TAKE, typed=made)
        its = MEMBER.format(name, ADDRESSES[name], all_of_them)
        site[name].check("cat >/etc/default/etcd", typed=f"{its}{OWN}\n")
        site[name].check("systemctl enable --now etcd")

    site.both(NAMES, member)


def pool(site: Site, found: Findings) -> None:
    site.both(HOSTS, lambda n: site[n].check(
        f"cp {UNITS} /etc/systemd/system/ && systemctl daemon-reload"))  # fmt: skip
    typed(site, found, "a", f"outlast pool init {DIR} --name lab {THERE}")
    join = f"outlast host join {DIR} --prepare"
    joined(site, found, join, "outlast host token", f"{join} {THERE}")
