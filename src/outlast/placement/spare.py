"""What is left when hosts die: who restarts where, in which order, and who does not fit.

Rules:
1. The order is that of restarts: priority, start order, then the largest first, then the name.
   VMs that a hard group keeps together follow each other, but nobody waits for best effort. A
   pool's master asks this very file, so what it does is what was foreseen.
2. Three ways are tried, the next only when the last left somebody out who is promised a place:
   the emptiest host for each ("spread"), the tightest that still takes it ("tight"), and a
   search through the combinations, given up after SEARCH_STEPS ("searched").
   The way that leaves out the fewest, high priorities first, is the answer.
3. The pool survives a failure when every VM with `ha` that ran there has a place; best effort is
   promised nothing. `proven` says whether a "does not fit" is certain or the search gave up.
4. What ran nowhere before is not counted; what is not `ha` stays off, and is named.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outlast.errors import InvalidInput, PoolTrouble
from outlast.placement import fit
from outlast.placement.choose import best_host
from outlast.placement.layout import NOWHERE, Layout
from outlast.placement.picture import Admission, HostState, Picture, Priority
from outlast.words import plural

SEARCH_STEPS = 20_000
CHOICES_MAX = 1000
NAMED = 12  # VMs named in a sentence


@dataclass(frozen=True, slots=True)
class Restart:
    vm: str
    source: str
    target: str  # "" = stays off
    why: str = ""  # why it stays off


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer for one set of hosts; `restarts` in the order the master takes."""

    hosts: tuple[str, ...]
    restarts: tuple[Restart, ...]
    homeless: tuple[str, ...]  # promised a place and without one
    way: str  # spread | tight | searched
    proven: bool  # False: somebody has no place, and a cleverer search might find one

    @property
    def survived(self) -> bool:
        return not self.homeless

    @property
    def sentence(self) -> str:
        """For people: "if b dies: 23 of 24 VMs restart (web1 on a, ...); db7 does not fit ..." """
        placed = [r for r in self.restarts if r.target]
        off = [r for r in self.restarts if not r.target]
        verb = "dies" if len(self.hosts) == 1 else "die"
        said = f"if {' and '.join(self.hosts)} {verb}: "
        if not self.restarts:
            return said + "no VM runs there"
        restart = plural(len(self.restarts), "VM restarts", "VMs restart")
        said += f"{len(placed)} of {restart}"
        if placed:
            said += f" ({', '.join(f'{r.vm} on {r.target}' for r in placed[:NAMED])}"
            said += ", ...)" if len(placed) > NAMED else ")"
        for r in off[:NAMED]:
            said += f"; {r.vm} {'does not fit' if r.vm in self.homeless else 'stays off'}"
            said += f" because {r.why}"
        if len(off) > NAMED:
            said += f"; and {len(off) - NAMED} more"
        if self.homeless and not self.proven:
            said += "; another arrangement might fit, none was found"
        return said


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    warning: str  # "" = nothing to say

    def enforce(self) -> None:
        """Raises PoolTrouble when the policy refuses."""
        if not self.allowed:
            hint = "add memory or a host, lower a priority to best-effort, or change the policy"
            raise PoolTrouble(self.warning, hint=hint)


def what_if(picture: Picture, hosts: Iterable[str]) -> Failure:
    """All of `hosts` die at once. NotFound: no such host. InvalidInput: none named."""
    names = tuple(dict.fromkeys(hosts))
    if not names:
        raise InvalidInput("no host is named", hint="name those that fail: b or b,c")
    for name in names:
        picture.host(name)
    layout = Layout(picture)
    return failure(layout, [layout.host_at[n] for n in names])


def every(picture: Picture) -> dict[str, Failure]:
    """Each host that is not down, alone: its failure."""
    layout = Layout(picture)
    alive = [n for n, h in enumerate(picture.hosts) if h.state is not HostState.DOWN]
    return {picture.hosts[n].name: failure(layout, [n]) for n in alive}


def any_of(picture: Picture, count: int) -> list[Failure]:
    """Each choice of so many hosts that are not down: their failure at once.

    Raises InvalidInput for more choices than can be counted while somebody waits.
    """
    layout = Layout(picture)
    alive = [n for n, h in enumerate(picture.hosts) if h.state is not HostState.DOWN]
    if not 1 <= count < max(2, len(alive)):
        raise InvalidInput(f"{count} of {len(alive)} hosts cannot fail and leave one")
    choices = math.comb(len(alive), count)
    if choices > CHOICES_MAX:
        raise InvalidInput(
            f"{choices:,} choices of {count} among {len(alive)} hosts are too many to look at",
            hint="name those that fail",
        )
    return [failure(layout, dead) for dead in itertools.combinations(alive, count)]


def any_sentence(found: Sequence[Failure], count: int) -> str:
    """What `any_of` comes to, for people."""
    lost = sum(not one.survived for one in found)
    which = f"any {plural(count, 'host')}"
    if not lost:
        return f"{which} may fail: every VM that is promised a place has one"
    said = plural(lost, "choice leaves", "choices leave")
    return f"not {which} may fail: {said} VMs without a place, of {len(found):,}"


def unsafe(picture: Picture) -> tuple[str, ...]:
    """Hosts whose failure the pool would not survive."""
    return tuple(name for name, f in every(picture).items() if not f.survived)


def admit(before: Picture, after: Picture) -> Verdict:
    """Whether a change (a start, a resize, a host that leaves) may be made, by the pool's policy.

    Only what gets worse counts: VMs that would lose their place in a failure, or a newly unsafe
    host. A pool that was unsafe already can still be changed where that harms nothing.
    """
    policy = after.policy.admission
    if policy is Admission.OFF:
        return Verdict(True, "")
    was = every(before)
    for name, found in every(after).items():
        known = set(was[name].homeless) if name in was else set()
        if set(found.homeless) - known:
            word = "refused" if policy is Admission.REFUSE else "careful"
            said = f"{word}: after this the pool does not survive the failure of {name}: "
            return Verdict(policy is not Admission.REFUSE, said + found.sentence)
    return Verdict(True, "")


def failure(layout: Layout, dead: Sequence[int]) -> Failure:
    """The same on a layout that is kept; it is as before afterwards."""
    gone = frozenset(dead)
    lost = [vm for host in dead for vm in layout.on[host]]
    was = {vm: layout.where[vm] for vm in lost}
    for vm in lost:
        layout.take(vm)
    try:
        found = assign(layout, [vm for vm in lost if layout.picture.vms[vm].ha], gone)
        return _told(layout, dead, was, found, gone)
    finally:
        for vm, host in was.items():
            layout.put(vm, host)


@dataclass(frozen=True, slots=True)
class Assigned:
    """Where each VM goes, in the order of starts; NOWHERE = it does not fit."""

    spots: dict[int, int]
    way: str  # spread | tight | searched
    proven: bool


def assign(layout: Layout, vms: Iterable[int], gone: frozenset[int] = fit.NONE) -> Assigned:
    """Places for VMs that run nowhere, by rules 1 and 2; the layout is as before afterwards."""
    units = in_order(layout, vms)
    way, proven, spots = "spread", True, _greedy(layout, units, gone, tight=False)
    if _homeless(layout, spots):
        tight = _greedy(layout, units, gone, tight=True)
        if _misery(layout, tight) < _misery(layout, spots):
            way, spots = "tight", tight
    if _homeless(layout, spots):
        exact, proven = _search(layout, units, gone)
        if exact is not None:
            way, spots, proven = "searched", exact, True
    return Assigned(spots, way, proven)


def in_order(layout: Layout, vms: Iterable[int]) -> list[list[int]]:
    """VMs as they are restarted, those kept together in one list."""
    wanted = set(vms)
    picture = layout.picture

    def key(vm: int) -> tuple[int, int, int, str]:
        v = picture.vms[vm]
        return (v.priority.rank, v.start_order, -v.memory_mib, v.name)

    units: list[list[int]] = []
    for vm in sorted(wanted, key=key):
        if vm in wanted:
            promise = _promised(layout, vm)
            unit = [m for m in layout.unit(vm) if m in wanted and _promised(layout, m) is promise]
            wanted.difference_update(unit)
            units.append(sorted(unit, key=key))
    return units


def _greedy(
    layout: Layout, units: list[list[int]], gone: frozenset[int], *, tight: bool
) -> dict[int, int]:
    """Where each VM goes, one after the other. The layout is as before afterwards."""
    spots: dict[int, int] = {}
    for unit in units:
        host = _target(layout, unit, gone, tight=tight)
        for vm in unit:
            spots[vm] = host
            if host >= 0:
                layout.put(vm, host)
    _undo(layout, spots)
    return spots


def _target(layout: Layout, unit: list[int], gone: frozenset[int], *, tight: bool) -> int:
    if len(unit) == 1 and not tight:
        return best_host(layout, unit[0], gone)
    found = [h for h in range(len(layout.cap_mib)) if takes(layout, unit, h, gone)]
    sign = 1 if tight else -1
    return min(found, key=lambda h: (sign * layout.free_mib[h], h), default=NOWHERE)


def takes(layout: Layout, unit: list[int], host: int, gone: frozenset[int]) -> bool:
    """All of the unit fit there at once. They must run nowhere."""
    if len(unit) == 1:
        return fit.fits(layout, unit[0], host, gone)
    put = []
    for vm in unit:
        if not fit.fits(layout, vm, host, gone):
            break
        layout.put(vm, host)
        put.append(vm)
    for vm in put:
        layout.take(vm)
    return len(put) == len(unit)


def _search(
    layout: Layout, units: list[list[int]], gone: frozenset[int]
) -> tuple[dict[int, int] | None, bool]:
    """A place for every promised unit, and whether the answer is certain."""
    must = [u for u in units if any(_promised(layout, vm) for vm in u)]
    must.sort(key=lambda u: -sum(layout.mib[vm] for vm in u))
    open_hosts = [h for h in layout.open_hosts() if h not in gone]
    room = sum(max(0, layout.free_mib[h]) for h in open_hosts)
    if sum(layout.mib[vm] for u in must for vm in u) > room:
        return None, True
    spots: dict[int, int] = {}
    choices: list[list[int]] = []
    steps = 0
    while len(choices) < len(must) or not must:
        if not must:
            break
        unit = must[len(choices)]
        found = [h for h in open_hosts if takes(layout, unit, h, gone)]
        choices.append(sorted(found, key=lambda h: (-layout.free_mib[h], h)))
        while choices and not choices[-1]:
            choices.pop()
            if choices:
                _lift(layout, must[len(choices) - 1], spots)
        if not choices:
            return None, True
        steps += 1
        if steps > SEARCH_STEPS:
            _undo(layout, spots)
            return None, False
        host = choices[-1].pop()
        for vm in must[len(choices) - 1]:
            layout.put(vm, host)
            spots[vm] = host
    rest = [u for u in units if u not in must]
    found_rest = _greedy(layout, rest, gone, tight=True)
    _undo(layout, spots)
    return {vm: (spots | found_rest)[vm] for u in units for vm in u}, True


def _lift(layout: Layout, unit: list[int], spots: dict[int, int]) -> None:
    for vm in unit:
        layout.take(vm)
        del spots[vm]


def _undo(layout: Layout, spots: dict[int, int]) -> None:
    for vm, host in spots.items():
        if host >= 0:
            layout.take(vm)


def _promised(layout: Layout, vm: int) -> bool:
    v = layout.picture.vms[vm]
    return v.ha and v.priority is not Priority.BEST_EFFORT


def _homeless(layout: Layout, spots: dict[int, int]) -> list[int]:
    return [vm for vm, host in spots.items() if host < 0 and _promised(layout, vm)]


def _misery(layout: Layout, spots: dict[int, int]) -> tuple[int, ...]:
    """How many stay off, by priority; less is better."""
    off = [layout.picture.vms[vm].priority for vm, host in spots.items() if host < 0]
    return tuple(off.count(p) for p in Priority)


def _told(
    layout: Layout, dead: Sequence[int], was: dict[int, int], found: Assigned,
    gone: frozenset[int],
) -> Failure:  # fmt: skip
    picture, spots = layout.picture, found.spots
    name = [h.name for h in picture.hosts]
    _undo_later = {vm: host for vm, host in spots.items() if host >= 0}
    for vm, host in _undo_later.items():
        layout.put(vm, host)
    restarts = []
    for vm, host in spots.items():
        why = "" if host >= 0 else why_nowhere(layout, vm, gone)
        target = name[host] if host >= 0 else ""
        restarts.append(Restart(picture.vms[vm].name, name[was[vm]], target, why))
    _undo(layout, _undo_later)
    for vm, host in was.items():
        if vm not in spots:
            why = "it is not to be restarted elsewhere"
            restarts.append(Restart(picture.vms[vm].name, name[host], "", why))
    homeless = tuple(picture.vms[vm].name for vm in _homeless(layout, spots))
    hosts = tuple(name[h] for h in dead)
    return Failure(hosts, tuple(restarts), homeless, found.way, found.proven)


def why_nowhere(layout: Layout, vm: int, gone: frozenset[int]) -> str:
    """Each living host's refusal; hosts that are only short of memory are told as one."""
    said: list[str] = []
    short: list[int] = []
    for host, h in enumerate(layout.picture.hosts):
        if host in gone or h.state is HostState.DOWN:
            continue
        why = fit.refusal(layout, vm, host, gone)
        if why and layout.may[vm][host] and layout.free_mib[host] < layout.mib[vm]:
            short.append(host)
        else:
            said.append(why or f"{h.name} lacks room for all of its group")
    if len(said) > NAMED:
        said[NAMED:] = [f"and {len(said) - NAMED} more hosts refuse it"]
    if short:
        most = max(short, key=lambda h: (layout.free_mib[h], -h))
        name, free = layout.picture.hosts[most].name, max(0, layout.free_mib[most])
        told = f"{name} has {free} MiB free of the {layout.mib[vm]} MiB needed"
        if len(short) > 1:
            told = f"{layout.mib[vm]} MiB are needed, and none of {len(short)} hosts has as much: "
            told += f"the most is {free} MiB, on {name}"
        said.insert(0, told)
    return "; ".join(said) or "no host is left"
