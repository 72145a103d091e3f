"""OCFS2 on a LUN that two hosts see by iSCSI, set up by `outlast storage ocfs2`; then a host dies.

What the other host must wait for is OCFS2's own: its heartbeat on the LUN and its network have
limits of their own, and until it is sure of a death nobody there may take the dead host's locks.
"""

from __future__ import annotations

from lab.contest import BACK_S, BOOT, HOSTS, POOL, back, contest, kit, probe
from lab.findings import Findings
from lab.pooled import pooled
from lab.site import Site
from outlast.mounts.unit import unit_name

MEMORY_MIB = 1024
TARGET = "iqn.2026-01.nas:pool"
DEVICE = f"/dev/disk/by-path/ip-10.77.0.3:3260-iscsi-{TARGET}-lun-1"
FAIL_S = 240


def trial(site: Site, found: Findings) -> None:
    site["c"].add_disk("lun", "4G")
    site.start("a", "b", "c")
    found.add("machines", site["c"].check("uname -r; dpkg-query -W -f '${Package} ${Version}\\n' "
              "ocfs2-tools open-iscsi tgt").replace("\n", ", "))  # fmt: skip
    site.lend(*HOSTS)
    lun(site)
    set_up(site, found, "a", f"--format --yes {DEVICE}")
    set_up(site, found, "b")
    probe(site, found)
    kit(site, found)
    contest(site, found, "OCFS2, quiet", 30)
    contest_with(site, found, "OCFS2, host b loses power", "kill")
    site.start("b")
    back(site, found, "OCFS2", "b")
    contest_with(site, found, "OCFS2, the cable of host b is out", "cut")
    # reset without its cable, its boot gave up the LUN; an agent would ask again every ten seconds
    took = site["b"].until(f"systemctl start {unit_name(POOL)}", BACK_S)
    found.add("its cable is in again, and asked again it has mounted after", f"{took:.0f} s")
    contest(site, found, "OCFS2, both again", 20)
    pooled(site, found, "OCFS2")


def lun(site: Site) -> None:
    """The third machine's second disk, for everybody."""
    site["c"].check(
        f"printf '<target {TARGET}>\\n backing-store /dev/vdb\\n</target>\\n' "
        ">/etc/tgt/conf.d/pool.conf && systemctl enable --now tgt"
    )


def set_up(site: Site, found: Findings, name: str, more: str = "") -> None:
    """The product's one command."""
    command = (
        f"outlast storage ocfs2 {DEVICE} {POOL} --portal 10.77.0.3 --target {TARGET} "
        f"--node a=10.77.0.1 --node b=10.77.0.2 {more}"
    )
    done = site[name].run(command, 400)
    found.add(f"{name}$ {command}", f"\n{done.text}", done.code == 0)
    found.add(
        f"mounted on {name}", site[name].check(f"findmnt -n -o FSTYPE,OPTIONS {POOL}").strip()
    )


def contest_with(site: Site, found: Findings, what: str, fault: str) -> None:
    """b fails during a contest; a must go on."""
    before = site["a"].check(BOOT)
    boots = site["b"].check(BOOT)

    def fail() -> None:
        if fault == "kill":
            site["b"].kill()
        else:
            site["b"].cut(away=True)

    contest(site, found, what, FAIL_S, fail, dies="b")
    found.add(
        "host a was not reset", site["a"].check(BOOT) == before, site["a"].check(BOOT) == before
    )
    if fault == "cut":
        site["b"].cut(away=False)
        site.wait_again("b")
        own = site["b"].check(BOOT) != boots
        found.add("OCFS2 reset host b, whose cable was out", own, own)
