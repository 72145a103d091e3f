"""How long VMs are away: hosts lose their power, QEMUs are killed, a host with many VMs dies."""

from __future__ import annotations

import time

from bench import watch
from bench.figures import Figure, figure
from outlast.errors import TimedOut
from outlast.rack.lab import Lab
from outlast.settings import S, preset

T_DEAD_S = preset("lab").dead_ns / S
RESTART_GOAL_S, FAILOVER_GOAL_S, MANY_GOAL_S = 0.5, 1.0, T_DEAD_S + 10
BACK_S = 60.0
SETTLE_S = 2.0  # after hosts joined: what they still have to say to each other is no part of it
STEPS = (("lease taken", "lease-taken"), ("start begun", "vm-starts"))


def cuts(lab: Lab, rounds: int) -> list[Figure]:
    """Power cuts of hosts with one VM each. The pool has as many VMs as hosts."""
    bare: list[float] = []
    whole: list[float] = []
    steps: dict[str, list[float]] = {"silence proven": [], **{name: [] for name, _ in STEPS}}
    masters = 0
    for number in range(rounds):
        watch.say(f"  power cut {number + 1} of {rounds}")
        host, vm = _host_of_one(lab)
        other = next(h for h in lab.hosts if h != host)
        masters += lab.client(other).status().master == host
        time.sleep(SETTLE_S)
        bare.append(watch.bare_boot(lab, other))
        time.sleep(0.5)
        logs, clock = watch.serial_logs(lab, [vm]), watch.Clock()
        lab.rack.power(host, "off")
        whole.append(watch.first_lines(logs, BACK_S)[vm] - clock.monotonic_s)
        steps["silence proven"].append(clock.noted(lab, "host-silent"))
        for name, code in STEPS:
            steps[name].append(clock.noted(lab, code, vm))
        lab.rack.power(host, "on")
        lab.wait_members(lab.hosts)
        lab.wait_running(lab.vms)
    over = [away - T_DEAD_S - boot for away, boot in zip(whole, bare, strict=True)]
    return [
        figure("bare boot to its first line", "s", bare),
        *(figure(f"power cut to {name}", "s", values) for name, values in steps.items()),
        figure("power cut to first line elsewhere", "s", whole),
        figure("  the same less T_dead and bare boot", "s", over, FAILOVER_GOAL_S,
               f"T_dead {T_DEAD_S:g} s; {masters} of {rounds} hosts were the master"),
    ]  # fmt: skip


def _host_of_one(lab: Lab) -> tuple[str, str]:
    """A host with exactly one VM, and that VM: with as many VMs as hosts there is one always."""
    by_host: dict[str, list[str]] = {}
    for vm, places in lab.processes().items():
        for host, _ in places:
            by_host.setdefault(host, []).append(vm)
    for host, vms in sorted(by_host.items()):
        if len(vms) == 1:
            return host, vms[0]
    raise TimedOut(f"no host has exactly one VM: {by_host}")


def kills(lab: Lab, timing: str, rounds: int) -> list[Figure]:
    """kill -9 of QEMUs, one after the other, each of another VM."""
    told: list[float] = []
    begun: list[float] = []
    back: list[float] = []
    for vm in lab.vms[:rounds]:
        logs, newcomers, clock = watch.serial_logs(lab, [vm]), watch.Newcomers(), watch.Clock()
        lab.kill_qemu(vm)
        begun.append(
            watch.until(lambda n=newcomers, v=vm: n.qemu(v), BACK_S, f"no new QEMU of {vm}")  # type: ignore[misc]
            - clock.monotonic_s
        )
        back.append(watch.first_lines(logs, BACK_S)[vm] - clock.monotonic_s)
        told.append(clock.noted(lab, "vm-starts", vm))
        lab.wait_running([vm])
        time.sleep(0.3 + 0.07 * len(back) % 0.4)  # not in step with beats and ticks
    name = f"QEMU killed, {timing} timing, to"
    return [
        figure(f"{name} note vm-starts", "s", told, RESTART_GOAL_S),
        figure(f"{name} new QEMU", "s", begun, RESTART_GOAL_S),
        figure(f"{name} first line", "s", back),
    ]


def many(lab: Lab, count: int) -> list[Figure]:
    """All VMs of a host with many small ones, running again elsewhere. The pool has none yet."""
    full, *others = lab.hosts
    for host in others:
        lab.rack.power(host, "off")
    lab.wait(lambda: _members(lab, full) == {full}, 40, f"{full} is not alone")
    vms = [f"m{n}" for n in range(1, count + 1)]
    everybody, lab.hosts = lab.hosts, [full]
    lab.create(vms, cmdline="ms=1000 lines=10")
    lab.wait_running(vms, 120)
    lab.hosts = everybody
    for host in others:
        lab.rack.power(host, "on")
    lab.wait_members(lab.hosts)
    time.sleep(SETTLE_S)
    lab.hosts = others
    logs, clock = watch.serial_logs(lab, vms), watch.Clock()
    lab.rack.power(full, "off")
    away = [at - clock.monotonic_s for at in watch.first_lines(logs, 120).values()]
    return [
        figure(f"{count} VMs of a host, each", "s", away),
        figure(f"{count} VMs of a host, the last one", "s", [max(away)], MANY_GOAL_S),
    ]


def _members(lab: Lab, host: str) -> set[str]:
    return {h.name for h in lab.client(host).status().hosts if h.state == "member"}
