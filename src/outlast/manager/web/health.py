"""States as words, and each word with its shape; what of a pool needs somebody's eyes (pure).

Rules: green, amber and red mean health and nothing else. A shape goes with each colour. Whether a
pool could fail over now is told by readiness.py, the same as `outlast pool check`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from outlast.manager.ports import PoolEntry, Scope
from outlast.readiness.lights import GREEN, RED, YELLOW, Light, pool_lights, worst
from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus

TONES = {GREEN: "ok", YELLOW: "warn", RED: "bad"}
VM_TONES = {
    "running": "ok", "starting": "busy", "stopping": "busy", "paused": "warn", "stopped": "off",
    "down": "bad", "waiting": "warn", "unconfirmed": "warn",
}  # fmt: skip
HOST_TONES = {
    "member": "ok", "joining": "busy", "closing": "warn", "closed": "off", "leaving": "warn",
    "silent": "bad", "unreachable": "bad", "unreadable": "bad", "absent": "off",
}  # fmt: skip
VM_STATES = tuple(VM_TONES)


@dataclass(frozen=True, slots=True)
class Summary:
    """A pool in numbers; of what the viewer sees."""

    hosts: int
    members: int
    vms: int
    running: int
    protected: int
    wanting: int  # wished to run and do not
    tone: str
    sentence: str
    lights: tuple[Light, ...]


def vm_tone(vm: VmStatus) -> str:
    return VM_TONES.get(vm.state, "warn")


def host_tone(host: HostStatus) -> str:
    if host.state == "member" and (host.maintenance or host.agent_away_ms or host.unheard):
        return "warn"
    return HOST_TONES.get(host.state, "warn")


def host_word(host: HostStatus) -> str:
    """What differs from an ordinary member; "" when nothing does."""
    if host.state != "member":
        return host.state.capitalize()
    if host.maintenance:
        return "Maintenance"
    if host.agent_away_ms:
        return "Agent away"
    return "Link down" if host.unheard else ""


def lights_of(status: PoolStatus) -> tuple[Light, ...]:
    """What is known without asking anybody: room for failures is foresight.py's."""
    return tuple(light for light in pool_lights(status, None) if light.colour != GREEN)


def summary(entry: PoolEntry, scope: Scope) -> Summary:
    status, whole = entry.status, scope.sees_pool(entry.id)
    vms = status.vms if whole else [v for v in status.vms if scope.sees_vm(entry.id, v.name)]
    hosts = status.hosts if whole else []
    lights = lights_of(status) if whole and status.hosts else ()
    tone = TONES[worst(lights)]
    if entry.stale:
        tone = "stale"
    return Summary(
        len(hosts), sum(h.state == "member" for h in hosts), len(vms),
        sum(v.state == "running" for v in vms),
        sum(v.ha and v.ha_off is None and status.ha_off is None for v in vms),
        sum(v.desired == "running" and v.state in ("down", "waiting") for v in vms),
        tone, _sentence(entry, lights, vms), lights,
    )  # fmt: skip


def _sentence(entry: PoolEntry, lights: tuple[Light, ...], vms: list[VmStatus]) -> str:
    if entry.stale:
        return "Not answering"
    if not lights:
        return "Healthy"
    kinds = Counter(what.partition(" ")[0] for what in {light.what for light in lights})
    if kinds["HA"]:
        return "HA is off"
    said = []
    if n := kinds["host"]:
        said.append(f"{n} host{'s' * (n > 1)} need a look" if n > 1 else "1 host needs a look")
    if n := kinds["vm"]:
        said.append(f"{n} VM{'s' * (n > 1)} not running")
    said += [w for w in ("master", "hosts", "knowledge", "margin") if kinds[w]]
    words = ", ".join(said) or "needs a look"
    return words[0].upper() + words[1:]


def used_mib(status: PoolStatus) -> dict[str, int]:
    """Memory of the VMs on each host."""
    used: Counter[str] = Counter()
    for vm in status.vms:
        if vm.host:
            used[vm.host] += vm.memory_mib
    return used


def counts(status: PoolStatus) -> Counter[str]:
    """VMs by the host that holds them."""
    return Counter(vm.host for vm in status.vms if vm.host)


def not_heard(host: HostStatus, members: list[HostStatus]) -> list[str]:
    """Members that do not hear this host."""
    return [m.name for m in members if host.name in m.unheard]
