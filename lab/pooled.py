"""A pool as people make it, and its power cut: the VMs outlast the machine that runs them.

Rules:
1. What a person types is typed at a terminal; what a person reads is written down. What runs is
   seen on the hosts, not asked of the product alone.
2. `pooled` is for a storage that was tried before. Its timing is `tolerant`, the least that the
   product allows on cluster file systems.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence

from lab.channel import Done
from lab.contest import BOOT, HOSTS, POOL
from lab.findings import Findings
from lab.site import Site

UNITS = "/mnt/lab/outlast/lib/systemd/system/outlast-*.service"
SERVICES = "outlast-guard outlast-pulse outlast-agent"
PLACE = f"{POOL}/live"
RUNS = "pgrep -f guest=[{}]{},"  # the bracket keeps it from finding itself
IS_MEMBER = (
    'python3 -c \'import json, sys; sys.exit((sys.argv[1], "member") not in '
    '[(h["name"], h["state"]) for h in json.load(sys.stdin)["hosts"]])\''
)
AGAIN_S, TYPED_S = 600.0, 1800.0


def pooled(site: Site, found: Findings, name: str) -> None:
    """Both hosts have it mounted at POOL and have Outlast lent."""
    site.both(HOSTS, lambda n: site[n].check(
        f"cp {UNITS} /etc/systemd/system/ && systemctl daemon-reload"))  # fmt: skip
    site["a"].check(f"mkdir -p {PLACE}")
    typed(site, found, "a", f"outlast pool init {PLACE} --name lab --preset tolerant")
    join = f"outlast host join {PLACE} --prepare"
    joined(site, found, join, "outlast host token", join)
    made = typed(site, found, "a", "outlast vm create web --memory 64MiB --disk 64MiB --start")
    if made.code:
        return
    site["a"].until("outlast vm show web | grep -q running", AGAIN_S)
    power_cut(site, found, f"a pool on {name}", ["web"])


def joined(site: Site, found: Findings, first: str, token: str, second: str) -> None:
    """Both machines: the second one with a token of the first."""
    typed(site, found, "a", first)
    words = typed(site, found, "a", token).out.split()
    typed(site, found, "b", second, next((w for w in words if w.startswith("outlast1.")), ""))


def typed(site: Site, found: Findings, name: str, command: str, answer: str = "") -> Done:
    """At a terminal, as a person types it."""
    began = time.monotonic()
    line = f"cd /mnt/lab && python3 lab/inside/typed.py {shlex.quote(command)}"
    done = site[name].run(line, TYPED_S, f"{answer}\n")
    shown = "" if "token" in command else f"\n{done.text[-1500:]}"
    found.add(f"{name}$ {command}", f"{time.monotonic() - began:.0f} s{shown}", done.code == 0)
    return done


def runs(site: Site, name: str, vm: str) -> bool:
    return site[name].run(RUNS.format(vm[0], vm[1:])).code == 0


def power_cut(site: Site, found: Findings, pool: str, vms: Sequence[str]) -> None:
    """Kill the machine that runs the first VM; the other must run all of them, and nobody else,
    also when the first one is switched on again."""
    where = next(name for name in HOSTS if runs(site, name, vms[0]))
    (other,) = set(HOSTS) - {where}
    found.add(f"the VM {vms[0]} runs on", where, not runs(site, other, vms[0]))
    lost = [vm for vm in vms if runs(site, where, vm)]
    site[where].kill()
    began = time.monotonic()
    for vm in lost:
        # not its QEMU: that may wait in vain for a lock of the dead host
        site[other].until(f"outlast pool timeline | grep ' {vm} runs on {other}$'", AGAIN_S)
        found.add(f"{pool}, power of {where} cut: {vm} runs on {other}, as the pool sees it, after",
                  f"{time.monotonic() - began:.0f} s", runs(site, other, vm))  # fmt: skip
    found.add(
        "the pool's own words", f"\n{site[other].check('outlast pool timeline | tail -n 20')}"
    )
    site.start(where)
    # programs that are lent are there only since the lab has mounted them
    site[where].run(f"systemctl reset-failed {SERVICES}; systemctl start {SERVICES}")
    took = site[other].until(f"outlast --json status | {IS_MEMBER} {where}", AGAIN_S)
    found.add(f"{where} boots again, and is a member after", f"{took:.0f} s")
    for vm in vms:
        both = [name for name in HOSTS if runs(site, name, vm)]
        found.add(f"then {vm} runs on", ", ".join(both), both == [other])


def hang(site: Site, found: Findings, pool: str, vm: str) -> None:
    """The guard of the VM's host stands still, as all does in a host that hangs: the chipset's
    watchdog resets the machine, and the VM is started again, once."""
    where = next(name for name in HOSTS if runs(site, name, vm))
    boot = site[where].check(BOOT).strip()
    site[where].check("systemctl kill --kill-whom=main -s STOP outlast-guard")
    began = time.monotonic()
    site[where].until(f"test $({BOOT}) != {boot}", AGAIN_S)
    up_s = float(site[where].check("cat /proc/uptime").split()[0])
    found.add(f"{pool}, the guard of {where} stands still: its watchdog has reset it after",
              f"{time.monotonic() - began - up_s:.0f} s")  # fmt: skip
    site.wait_again(where)
    until = began + AGAIN_S
    while not (on := [name for name in HOSTS if runs(site, name, vm)]):
        if time.monotonic() > until:
            break
        time.sleep(1)
    found.add(f"then {vm} runs on", f"{', '.join(on)}, after {time.monotonic() - began:.0f} s",
              len(on) == 1)  # fmt: skip
    (other,) = set(HOSTS) - {where}
    words = site[other].check("outlast pool timeline | tail -n 12")
    found.add("the pool's own words", f"\n{words}")
