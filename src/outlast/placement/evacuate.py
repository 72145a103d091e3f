"""Empty a host by live migration; empty as many as possible for power-off.

Rules:
1. Largest VMs first, the ones that hard groups keep together as one. Each goes to the best host
   that takes it; when somebody is left over, the tightest is tried for all instead, and the
   way that leaves fewer is the plan.
2. Each move is feasible at its place in the order. What cannot go stays, with the reason.
3. Consolidation takes the least used host first and keeps a host's moves only when the host gets
   empty and no further host becomes unsafe (spare.py).
"""

from __future__ import annotations

from dataclasses import replace

from outlast.placement import fit, spare
from outlast.placement.choose import best_host
from outlast.placement.layout import NOWHERE, Layout
from outlast.placement.picture import HostState, Picture
from outlast.placement.plan import Move, Plan, follow, planned


def evacuate(picture: Picture, host: str) -> Plan:
    """Moves that leave nothing on the host. NotFound: no such host."""
    picture.host(host)
    layout = Layout(picture)
    at = layout.host_at[host]
    moves, left = empty(layout, at)
    if left:
        other = Layout(picture)
        again, fewer = empty(other, at, tight=True)
        if len(fewer) < len(left):
            layout, moves, left = other, again, fewer
    return planned(picture, layout, moves, left, [host] if moves and not left else [])


def meanwhile(picture: Picture, found: Plan, host: str) -> spare.Verdict:
    """What the pool would not survive while this host is away, by its admission policy."""
    after = follow(picture, found.moves)
    closed = tuple(
        replace(h, state=HostState.CLOSED, why="it is in maintenance") if h.name == host else h
        for h in after.hosts
    )
    return spare.admit(picture, replace(after, hosts=closed))


def consolidate(picture: Picture) -> Plan:
    """Moves that empty hosts, for power-off."""
    layout = Layout(picture)
    moves: list[Move] = []
    emptied: list[int] = []
    known = set(spare.unsafe(picture))
    used = [h for h in layout.open_hosts() if layout.on[h]]
    for host in sorted(used, key=lambda h: (layout.cap_mib[h] - layout.free_mib[h], h)):
        tried = Layout(layout.as_picture())
        gone = frozenset((*emptied, host))
        found, left = empty(tried, host, gone=gone, tight=True)
        if left or len(moves) + len(found) > picture.policy.moves_max:
            continue
        if not set(_unsafe_without(tried, gone)) <= known:
            continue
        layout = tried
        moves += found
        emptied.append(host)
    names = [picture.hosts[h].name for h in emptied]
    return planned(picture, layout, moves, emptied=names)


def _unsafe_without(layout: Layout, gone: frozenset[int]) -> list[str]:
    """Unsafe hosts when those in `gone` are switched off; an empty host loses nothing itself."""
    alive = [h for h in layout.open_hosts() if h not in gone]
    found = []
    for host in alive:
        # the switched-off hosts "die" too: they run nothing and take nothing
        if not spare.failure(layout, [host, *gone]).survived:
            found.append(layout.picture.hosts[host].name)
    return found


def empty(
    layout: Layout, host: int, *, gone: frozenset[int] = fit.NONE, tight: bool = False
) -> tuple[list[Move], list[tuple[str, str]]]:
    """Moves everything it can off the host, in the layout too; and what is left with reasons."""
    leaving = gone | {host}
    source = layout.picture.hosts[host].name
    moves: list[Move] = []
    left: list[tuple[str, str]] = []
    units = spare.in_order(layout, layout.on[host])
    units.sort(key=lambda u: -sum(layout.mib[vm] for vm in u))
    for unit in units:
        stuck = [layout.picture.vms[vm].name for vm in unit if not layout.picture.vms[vm].movable]
        if stuck:
            left += [(layout.picture.vms[vm].name, f"{stuck[0]} cannot migrate") for vm in unit]
            continue
        for vm in unit:
            layout.take(vm)
        target = _target(layout, unit, leaving, tight=tight)
        if target == NOWHERE:
            for vm in unit:
                left.append((layout.picture.vms[vm].name, spare.why_nowhere(layout, vm, leaving)))
            for vm in unit:
                layout.put(vm, host)
            continue
        name = layout.picture.hosts[target].name
        for vm in unit:
            layout.put(vm, target)
            v = layout.picture.vms[vm]
            moves.append(Move(v.name, source, name, v.memory_mib, f"{source} is to be empty"))
    return moves, left


def _target(layout: Layout, unit: list[int], leaving: frozenset[int], *, tight: bool) -> int:
    if len(unit) == 1 and not tight:
        return best_host(layout, unit[0], leaving)
    found = [h for h in range(len(layout.cap_mib)) if spare.takes(layout, unit, h, leaving)]
    # a host that runs something already, so that emptied ones stay so
    sign = 1 if tight else -1
    return min(found, key=lambda h: (sign * layout.free_mib[h], h), default=NOWHERE)
