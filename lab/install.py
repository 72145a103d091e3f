"""The install page as a new user: the commands of docs/operating/install.md, then a power cut.

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

from lab.channel import Done
from lab.contest import HOSTS
from lab.findings import Findings
from lab.nfs import serve
from lab.site import TREE, Site

MEMORY_MIB = 3072  # the page makes a VM of 2 GiB
PAGE = TREE / "docs/operating/install.md"
STEP = re.compile(r"^\*\*(\d+)\. ([^*]+)\*\*[^\n]*\n(?:.+\n)*\n((?:    .+\n)+)", re.MULTILINE)
RUNS = "pgrep -f guest=web,"
IS_MEMBER = (
    'python3 -c \'import json, sys; sys.exit((sys.argv[1], "member") not in '
    '[(h["name"], h["state"]) for h in json.load(sys.stdin)["hosts"]])\''
)
AGAIN_S, TYPED_S = 600.0, 1800.0


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
    for name in HOSTS:
        check = site[name].run("outlast host check")
        found.add(f"host check on {name}", check.text, check.code == 0)
    check = site["a"].run("outlast pool check")
    found.add("pool check", check.text, check.code == 0)
    power_cut(site, found)


def typed(site: Site, found: Findings, name: str, command: str, answer: str = "") -> Done:
    """At a terminal, as a person types it."""
    began = time.monotonic()
    line = command.replace("'", "'\\''")
    done = site[name].run(f"cd /mnt/lab && script -qec '{line}' /dev/null", TYPED_S, f"{answer}\n")
    shown = "" if "token" in command else f"\n{done.text[-1500:]}"
    found.add(f"{name}$ {command}", f"{time.monotonic() - began:.0f} s{shown}", done.code == 0)
    return done


def power_cut(site: Site, found: Findings) -> None:
    """Kill the machine that runs the VM; the other must run it, and nobody else."""
    where = next(name for name in HOSTS if site[name].run(RUNS).code == 0)
    other = "b" if where == "a" else "a"
    found.add("the VM runs on", where, site[other].run(RUNS).code != 0)
    site[where].kill()
    took = site[other].until(RUNS, AGAIN_S)
    found.add(f"power of {where} cut: the VM's QEMU runs on {other} after", f"{took:.0f} s")
    found.add(
        "the pool's own words", f"\n{site[other].check('outlast pool timeline | tail -n 15')}"
    )
    site.start(where)
    took = site[other].until(f"outlast --json status | {IS_MEMBER} {where}", AGAIN_S)
    found.add(f"{where} boots again, and is a member after", f"{took:.0f} s")
    both = [name for name in HOSTS if site[name].run(RUNS).code == 0]
    found.add("then the VM runs on", ", ".join(both), both == [other])
