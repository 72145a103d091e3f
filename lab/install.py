"""The install page as a new user: the commands of docs/operating/install.md, then a power cut.

Before the cut the pool gets what the page leaves out: a second storage with a VM on it, and a VLAN.

Rules:
1. The page's own lines are typed, in its order, and nothing else: what is missing there fails here.
   `nas` is the third machine, `./` is where the package lies.
2. The machines have no KVM, so `join` says so; they have a watchdog device that resets them.
3. The VM is real; what runs it is seen on the hosts, not asked of the product alone.
"""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

from lab.channel import Done
from lab.contest import HOSTS
from lab.findings import Findings
from lab.nfs import SECOND, serve
from lab.site import TREE, Site

MEMORY_MIB = 3072  # the page makes a VM of 2 GiB
PAGE = TREE / "docs/operating/install.md"
STEP = re.compile(r"^\*\*(\d+)\. ([^*]+)\*\*[^\n]*\n(?:.+\n)*\n((?:    .+\n)+)", re.MULTILINE)
RUNS = "pgrep -f guest=[{}]{},"  # the bracket keeps it from finding itself
IS_MEMBER = (
    'python3 -c \'import json, sys; sys.exit((sys.argv[1], "member") not in '
    '[(h["name"], h["state"]) for h in json.load(sys.stdin)["hosts"]])\''
)
VMS = ("db", "web")
AGAIN_S, TYPED_S = 600.0, 1800.0
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
    typed(site, found, "a", join)
    secret = typed(site, found, "a", token).out.split()
    typed(site, found, "b", join, next((w for w in secret if len(w) > 30), ""))
    typed(site, found, "a", vm)
    site["a"].until("outlast vm show web | grep -q running", AGAIN_S)
    second_storage(site, found)
    vlan(site, found)
    for name in HOSTS:
        check = site[name].run("outlast host check")
        found.add(f"host check on {name}", check.text, check.code == 0)
    check = site["a"].run("outlast pool check")
    found.add("pool check", check.text, check.code == 0)
    power_cut(site, found)


def typed(site: Site, found: Findings, name: str, command: str, answer: str = "") -> Done:
    """At a terminal, as a person types it."""
    began = time.monotonic()
    line = f"cd /mnt/lab && python3 lab/inside/typed.py {shlex.quote(command)}"
    done = site[name].run(line, TYPED_S, f"{answer}\n")
    shown = "" if "token" in command else f"\n{done.text[-1500:]}"
    found.add(f"{name}$ {command}", f"{time.monotonic() - began:.0f} s{shown}", done.code == 0)
    return done


def second_storage(site: Site, found: Findings) -> None:
    """The agents mount it; a VM has its disk there."""
    typed(site, found, "a", f"outlast storage add fast nfs nas:{SECOND}")
    took = site.both(HOSTS, lambda n: site[n].until("outlast storage list | grep -q there$", 300))
    shown = site["b"].check("findmnt -n -o FSTYPE,OPTIONS /srv/fast").strip()
    found.add("mounted by each agent after", f"{max(took):.0f} s: {shown}")
    typed(site, found, "a", "outlast vm create db --memory 128MiB --disk 64MiB --on fast --start")
    site["a"].until("outlast vm show db | grep -q running", AGAIN_S)


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


def runs(site: Site, name: str, vm: str) -> bool:
    return site[name].run(RUNS.format(vm[0], vm[1:])).code == 0


def power_cut(site: Site, found: Findings) -> None:
    """Kill the machine that runs the VM on the second storage; the other must run all of them, and
    nobody else."""
    where = next(name for name in HOSTS if runs(site, name, "db"))
    other = "b" if where == "a" else "a"
    found.add("the VM db runs on", where, not runs(site, other, "db"))
    lost = [vm for vm in VMS if runs(site, where, vm)]
    site[where].kill()
    began = time.monotonic()
    for vm in lost:
        # not its QEMU: that may wait in vain for a lock of the dead host
        site[other].until(f"outlast pool timeline | grep ' {vm} runs on {other}$'", AGAIN_S)
        found.add(f"power of {where} cut: {vm} runs on {other}, as the pool sees it, after",
                  f"{time.monotonic() - began:.0f} s", runs(site, other, vm))  # fmt: skip
    found.add(
        "the pool's own words", f"\n{site[other].check('outlast pool timeline | tail -n 20')}"
    )
    site.start(where)
    took = site[other].until(f"outlast --json status | {IS_MEMBER} {where}", AGAIN_S)
    found.add(f"{where} boots again, and is a member after", f"{took:.0f} s")
    site[where].until("outlast storage list | grep -q there$", AGAIN_S)
    for vm in VMS:
        both = [name for name in HOSTS if runs(site, name, vm)]
        found.add(f"then {vm} runs on", ", ".join(both), both == [other])
