"""What no balancing can go below: a bound on the deviation of a pool, by counting.

A VM of G MiB restarts only where G are free at once. So when N such VMs have a refuge (refuge.py)
and every one is to keep one, each host can hold no more of them than there are free *places* of G
on all the other hosts together. So many places must be free, and free places make a pool uneven.

Rules:
1. It is a bound for every end state, whatever the moves: of all ways to spread free places over the
   hosts that are enough for N, the one is taken that costs least, with VMs as fine as sand, no
   group, no limit of moves, and CPU as even as can be.
2. Each size of VM gives a bound; the highest is the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from outlast.placement.layout import Layout
from outlast.placement.picture import HostState, Picture
from outlast.placement.refuge import Refuges


def least_deviation(picture: Picture) -> float:
    """No plan that leaves every VM its refuge ends below it. All hosts must be open."""
    assert all(h.state is HostState.OPEN for h in picture.hosts)
    layout = Layout(picture)
    refuges = Refuges(layout)
    kept = Counter(m for m, at in zip(layout.mib, refuges.of, strict=True) if at >= 0)
    bounds, count = [0.0], 0
    for size in sorted(kept, reverse=True):
        count += kept[size]
        bounds.append(_bound(layout.cap_mib, sum(layout.free_mib), size, count))
    return max(bounds)


def _bound(caps: Sequence[int], free: int, size: int, count: int) -> float:
    """The same for `count` VMs of at least that size, all of which keep a refuge."""
    least, seen = float("inf"), set()
    todo: list[dict[int, int]] = [{}]  # host: places that must be free there
    while todo:
        places = todo.pop()
        key = frozenset(Counter((caps[h], n) for h, n in places.items()).items())
        if key in seen:  # hosts of one size are alike
            continue
        seen.add(key)
        found = evenest(caps, free, {h: n * size for h, n in places.items()})
        if found >= least:
            continue
        if _held(caps, size, places) >= count:
            least = found
            continue
        for h, cap in enumerate(caps):
            if (places.get(h, 0) + 1) * size <= cap:
                todo.append({**places, h: places.get(h, 0) + 1})
    return least


def _held(caps: Sequence[int], size: int, places: Mapping[int, int]) -> int:
    """VMs of that size which the hosts can hold so that each has a place elsewhere."""
    total = sum(places.values())
    own = [places.get(h, 0) for h in range(len(caps))]
    return sum(min(total - n, cap // size - n) for cap, n in zip(caps, own, strict=True))


def evenest(caps: Sequence[int], free: float, needs: Mapping[int, float]) -> float:
    """The least deviation when so much is free in all and `needs` on single hosts.

    The optimum of a convex problem: a host either has just what it needs, or its share differs
    from the pool's in proportion to its size.
    """
    even = free / sum(caps)
    pinned: dict[int, float] = {}
    while True:
        rest = [h for h in range(len(caps)) if h not in pinned]
        left = free - sum(pinned.values())
        if left < 0:
            return float("inf")
        over = sum(caps[h] for h in rest) * even - left
        slope = over / sum(caps[h] ** 2 for h in rest) if rest else 0.0
        at = pinned | {h: caps[h] * even - slope * caps[h] ** 2 for h in rest}
        short = {h: needs.get(h, 0.0) for h in rest if at[h] < needs.get(h, 0.0)}
        if not short:
            break
        pinned |= short
    squares = sum((at[h] / cap - even) ** 2 for h, cap in enumerate(caps))
    return float((squares / (2 * len(caps))) ** 0.5)
