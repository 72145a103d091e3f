"""CephFS, mounted by the kernel of both hosts; the third machine is the Ceph."""

from __future__ import annotations

from lab.contest import HOSTS, PYTHON, tried
from lab.findings import Findings
from lab.pooled import pooled
from lab.site import Site

MEMORY_MIB, SET_UP_S = 2048, 3600.0


def trial(site: Site, found: Findings) -> None:
    site.start("a", "b", "c")
    found.add("machines", site["c"].check("uname -r; dpkg-query -W -f '${Package} ${Version}' "
              "ceph-mds").replace("\n", ", "))  # fmt: skip
    site.lend(*HOSTS)
    site["c"].check(f"{PYTHON} /mnt/lab/lab/inside/ceph.py", SET_UP_S)
    key = site["c"].check("ceph auth get client.admin")
    for name in HOSTS:
        site[name].check(
            "mkdir -p /etc/ceph && cat >/etc/ceph/ceph.client.admin.keyring", typed=key
        )
    tried(site, found, "CephFS",
          "outlast storage mount cephfs c:/ /srv/pool --option name=admin")  # fmt: skip
    pooled(site, found, "CephFS")
