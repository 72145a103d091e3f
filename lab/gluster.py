"""GlusterFS with three bricks, mounted by `outlast storage mount`; then a brick's machine dies."""

from __future__ import annotations

from lab.contest import HOSTS, POOL, contest, kit, probe
from lab.findings import Findings
from lab.site import NAMES, Site

MEMORY_MIB = 1024
SETTINGS = (  # what the product advises
    "network.ping-timeout 10", "cluster.quorum-type auto", "performance.strict-o-direct on",
)  # fmt: skip


def trial(site: Site, found: Findings) -> None:
    site.start(*NAMES)
    version = site["c"].check(
        "uname -r; dpkg-query -W -f '${Package} ${Version}\\n' glusterfs-server"
    )
    found.add("machines", version.replace("\n", ", "))
    site.lend(*HOSTS)
    site.both(NAMES, lambda name: site[name].check("systemctl start glusterd", 300))
    for name in ("b", "c"):
        site["a"].until(f"gluster peer probe {name}", 120)
    bricks = " ".join(f"{name}:/brick" for name in NAMES)
    site["a"].until(f"gluster --mode=script volume create pool replica 3 {bricks} force", 120)
    for setting in SETTINGS:
        site["a"].check(f"gluster volume set pool {setting}")
    site["a"].check("gluster volume start pool", 300)
    mount = f"outlast storage mount glusterfs a,b,c:/pool {POOL}"
    site.both(HOSTS, lambda name: site[name].check(mount, 300))
    found.add("mounted with", site["a"].check(f"findmnt -n -o OPTIONS {POOL}").strip())
    probe(site, found)
    kit(site, found)
    contest(site, found, "GlusterFS, quiet", 30)
    contest(site, found, "GlusterFS, a brick's machine loses power", 120, site["c"].kill)
