"""Who hears whom, and which set of live hosts belongs together when links are down.

Rules:
1. A link is up when both ends hear each other; each host publishes on disk whom it hears, so the
   map survives the network.
2. The best set is the largest one in which every pair is linked; ties are decided in this order
   and the deciding rule is named: more of its hosts reach the witness, contains the master, more
   VMs running, lowest slot.
3. The search is exact for up to 24 hosts; above, a deterministic greedy search from every host.
   Safety never depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Pairs = frozenset[tuple[int, int]]
EXACT_MAX = 24


def up_links(heard: Mapping[int, Iterable[int]]) -> Pairs:
    """Linked pairs (low, high) of what each live host hears: slot -> slots it hears."""
    sets = {slot: frozenset(others) for slot, others in heard.items()}
    return frozenset((a, b) for a in sets for b in sets if a < b and b in sets[a] and a in sets[b])


def linked(pairs: Pairs, a: int, b: int) -> bool:
    return (min(a, b), max(a, b)) in pairs


def best_set(
    live: frozenset[int], pairs: Pairs, master: int, vm_count: Mapping[int, int],
    witness: frozenset[int] = frozenset(),
) -> tuple[frozenset[int], str]:  # fmt: skip
    """The set that stays together, and the rule that chose it. witness: who surely reaches it."""
    cliques = _cliques(live, pairs)
    if not cliques:
        return frozenset(), "nobody is alive"

    def rank(c: frozenset[int]) -> tuple[int, int, bool, int, tuple[int, ...]]:
        slots = tuple(-s for s in sorted(c))  # a total order: every host chooses the same
        vms = sum(vm_count.get(s, 0) for s in c)
        return (len(c), len(c & witness), master in c, vms, slots)

    ranked = sorted(cliques, key=rank, reverse=True)
    best = ranked[0]
    if len(ranked) == 1 or len(ranked[1]) < len(best):
        return best, "it is the largest fully linked set"
    names = (
        "", "more of its hosts reach the witness", "it contains the master", "more VMs run in it",
        "it has the lowest slot",
    )  # fmt: skip
    mine, other = rank(best), rank(ranked[1])
    rule = next((n for n, x, y in zip(names, mine, other, strict=True) if x != y), names[-1])
    return best, rule


def reach(start: int, live: frozenset[int], pairs: Pairs) -> frozenset[int]:
    """Live hosts that can be reached from one, over others too."""
    reached, todo = {start}, [start]
    while todo:
        here = todo.pop()
        for other in live:
            if other not in reached and linked(pairs, here, other):
                reached.add(other)
                todo.append(other)
    return frozenset(reached)


def _cliques(live: frozenset[int], pairs: Pairs) -> list[frozenset[int]]:
    near = {a: frozenset(b for b in live if b != a and linked(pairs, a, b)) for a in live}
    if len(live) > EXACT_MAX:
        return sorted({_greedy(a, near) for a in live}, key=sorted)
    found: list[frozenset[int]] = []

    def grow(clique: frozenset[int], todo: frozenset[int], done: frozenset[int]) -> None:
        if not todo and not done:
            found.append(clique)
            return
        pivot = max(todo | done, key=lambda v: (len(near[v] & todo), -v))
        for v in sorted(todo - near[pivot]):
            grow(clique | {v}, todo & near[v], done & near[v])
            todo, done = todo - {v}, done | {v}

    if live:
        grow(frozenset(), live, frozenset())
    return found


def _greedy(start: int, near: Mapping[int, frozenset[int]]) -> frozenset[int]:
    clique = {start}
    for v in sorted(near[start], key=lambda v: (-len(near[v]), v)):
        if clique <= near[v]:
            clique.add(v)
    return frozenset(clique)
