"""NFS 4.2, 4.1 and 3 of a real kernel, mounted by `outlast storage mount`: quiet, and cut off; then
a pool on the last one. (One on 4.2 is in install.py.)"""

from __future__ import annotations

import time

from lab.contest import HOSTS, POOL, contest, kit, probe
from lab.findings import Findings
from lab.pooled import pooled
from lab.site import Site

MEMORY_MIB = 1024
EXPORT, SECOND = "/export/pool", "/export/fast"
KINDS = {"NFS 4.2": "nfs", "NFS 4.1": "nfs", "NFS 3": "nfs3"}
OPTIONS = {"NFS 4.1": "--option vers=4.1"}
POOLED = "NFS 3"
CLIENT_CUT_S, SERVER_CONTEST_S = 20.0, 200


def trial(site: Site, found: Findings) -> None:
    site.start("a", "b", "c")
    found.add("machines", site["c"].check("uname -r; dpkg-query -W -f '${Package} ${Version}\\n' "
              "nfs-kernel-server nfs-common").replace("\n", ", "))  # fmt: skip
    site.lend(*HOSTS)
    serve(site)
    for name in KINDS:
        version(site, found, name)
        if name != POOLED:
            site.both(HOSTS, lambda host: site[host].check(f"outlast storage unmount {POOL}"))
    pooled(site, found, POOLED)


def serve(site: Site) -> None:
    options = "10.77.0.0/24(rw,sync,no_root_squash,no_subtree_check)"
    site["c"].check(
        f"mkdir -p {EXPORT} {SECOND} && "
        f"printf '%s {options}\\n' {EXPORT} {SECOND} >/etc/exports"
        " && systemctl enable nfs-server && systemctl restart nfs-server"
    )


def mount(site: Site, found: Findings, name: str) -> None:
    words = f"outlast storage mount {KINDS[name]} c:{EXPORT} {POOL} {OPTIONS.get(name, '')}"
    site.both(HOSTS, lambda host: site[host].check(words, 240))
    shown = site["a"].check(f"findmnt -n -o OPTIONS {POOL}").strip()
    found.add(f"{name}, mounted with", shown)


def version(site: Site, found: Findings, name: str) -> None:
    mount(site, found, name)
    probe(site, found)
    kit(site, found)
    contest(site, found, f"{name}, quiet", 30)
    contest(site, found, f"{name}, host b's cable out for {CLIENT_CUT_S:.0f} s", 60,
            lambda: _cut(site))  # fmt: skip
    contest(site, found, f"{name}, the server's NFS service restarted", SERVER_CONTEST_S,
            lambda: _restart(site))  # fmt: skip
    contest(site, found, f"{name}, the server's power cut and back", SERVER_CONTEST_S,
            lambda: _power(site, found))  # fmt: skip


def _cut(site: Site) -> None:
    site["b"].cut(away=True)
    time.sleep(CLIENT_CUT_S)
    site["b"].cut(away=False)


def _restart(site: Site) -> None:
    site["c"].check("systemctl restart nfs-server")


def _power(site: Site, found: Findings) -> None:
    began = time.monotonic()
    site["c"].kill()
    site.start("c")
    site["c"].until("systemctl is-active nfs-server", 120)
    found.add("server back after", f"{time.monotonic() - began:.0f} s")
