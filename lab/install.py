"""The install page as a new user: the commands of docs/operating/install.md, then a power cut.

Before the cut the pool gets what the page leaves out: a second storage with a VM on it, and a VLAN.
After it the disk there moves to the pool's own, the second storage is taken away again, and a
host hangs.

Rules:
1. The page's own lines are typed, in its order, and nothing else: what is missing there fails here.
   `nas` is the third machine, `./` is where the package lies.
2. The machines have no KVM, so `join` says so; they have a watchdog device that resets them.
3. The VM is real; what runs it is seen on the hosts, not asked of the product alone.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from lab.contest import HOSTS
from lab.findings import Findings
from lab.nfs import SECOND, serve
from lab.pooled import AGAIN_S, RUNS, hang, joined, power_cut, typed
from lab.site import TREE, Site

MEMORY_MIB = 3072  # the page makes a VM of 2 GiB
PAGE = TREE / "docs/operating/install.md"
STEP = re.compile(r"^\*\*(\d+)\. ([^*]+)\*\*[^\n]*\n(?:.+\n)*\n((?:    .+\n)+)", re.MULTILINE)
VMS = ("db", "web")  # the first one on the second storage
FAST = "/srv/fast"
DEAF_S = 90.0  # a host that hears nothing says so after a minute


def commands(page: Path = PAGE) -> list[tuple[str, str]]:
    """Where each is typed, and what: as the page says, in its order."""
    return [(where.strip(), code.strip()) for _, where, code in STEP.findall(page.read_text())]


def trial(site: Site, found: Findings) -> None:
    site.start("a", "b", "c")
    serve(site)
    steps = commands()
    found.add("commands of the page", len(steps), len(steps) <= 6)
    package, mount, init, join, token, vm = (code for _, code in steps)
    for command in (package, mount):
        site.both(HOSTS, lambda name, command=command: typed(site, found, name, command))
    typed(site, found, "a", init)
    joined(site, found, join, token, join)
    typed(site, found, "a", vm)
    site["a"].until("outlast vm show web | grep -q running", AGAIN_S)
    second_storage(site, found)
    vlan(site, found)
    for name in HOSTS:
        check = site[name].run("outlast host check")
        found.add(f"host check on {name}", check.text, check.code == 0)
    check = site["a"].run("outlast pool check")
    found.add("pool check", check.text, check.code == 0)
    power_cut(site, found, "the page's pool", VMS)
    for name in HOSTS:
        took = site[name].until("outlast storage list | grep -q there$", AGAIN_S)
        found.add(f"the second storage is back on {name} after", f"{took:.0f} s")
    let_go(site, found)
    hang(site, found, "the page's pool", "web")


def second_storage(site: Site, found: Findings) -> None:
    """The agents mount it; a VM has its disk there."""
    typed(site, found, "a", f"outlast storage add fast nfs nas:{SECOND}")
    took = site.both(HOSTS, lambda n: site[n].until("outlast storage list | grep -q there$", 300))
    shown = site["b"].check(f"findmnt -n -o FSTYPE,OPTIONS {FAST}").strip()
    found.add("mounted by each agent after", f"{max(took):.0f} s: {shown}")
    typed(site, found, "a", "outlast vm create db --memory 128MiB --disk 64MiB --on fast --start")
    site["a"].until("outlast vm show db | grep -q running", AGAIN_S)


def let_go(site: Site, found: Findings) -> None:
    """The disk leaves the second storage while its VM runs; then each agent unmounts it."""
    number = RUNS.format("d", "b")  # of its QEMU
    before = [site[name].run(number).out for name in HOSTS]
    typed(site, found, "a", "outlast vm move-disk db --to pool")
    after = [site[name].run(number).out for name in HOSTS]
    found.add("db ran on meanwhile", "the same QEMU", any(after) and before == after)
    typed(site, found, "a", "outlast storage remove fast")
    took = site.both(HOSTS, lambda n: site[n].until(f"! findmnt {FAST}", AGAIN_S))
    found.add("unmounted by each agent after", f"{max(took):.0f} s")


def vlan(site: Site, found: Findings) -> None:
    """Tagged frames from kernel to kernel, of the whole MTU and no more."""
    typed(site, found, "a", "outlast network create lan --uplink eth0 --vlan 20")
    for number, name in enumerate(HOSTS, 1):
        site[name].until("ip -d link show lan.20 | grep -q 'vlan protocol 802.1Q id 20'", 120)
        site[name].check(f"ip addr add 10.88.0.{number}/24 dev lan")
    ping = "ping -c 3 -W 5 -M do 10.88.0.2 -s"
    said = site["a"].run(f"{ping} 1472")
    found.add("over VLAN 20, packets of 1500 bytes", said.text[-200:], said.code == 0)
    said = site["a"].run(f"{ping} 1473")
    found.add("of 1501 bytes", said.text[-200:], said.code != 0)
    time.sleep(DEAF_S)
    deaf = site["a"].run("outlast pool timeline | grep -e network-deaf -e network-lacks")
    found.add("each host hears the other there", deaf.text or "yes", not deaf.text)
