"""Pairs of moves that help where no single move does: two VMs change places.

Rules:
1. A pair is judged by what both moves change together, and pays for the memory of both.
2. One goes first, into room that is there: whichever of the two fits at once. The other may use
   what the first has left. Neither step makes its target fuller than the fullest host is.
3. The CPU of a host may rise for the moment between the two steps; memory rules hold at each.
"""

from __future__ import annotations

from collections.abc import Callable

from outlast.placement.layout import Layout

WORTH = 0.002  # gain a move must bring per share of a host it copies
# host, memory and CPU share less the pool's, capacities, free MiB, sum of squares of the shares
Target = tuple[int, float, float, int, float, int, float]
Pair = tuple[float, tuple[tuple[int, int], tuple[int, int]]]


def exchanges(
    layout: Layout, source: int, targets: list[Target], may_leave: Callable[[int], bool], top: float
) -> list[Pair]:
    """(value, steps) of the pairs between source and targets that pay; rules not yet asked.

    `top`: the fullest host's memory share less the pool's.
    """
    memory, cpu = layout.pool_shares()
    m, c = layout.memory_share(source) - memory, layout.cpu_share(source) - cpu
    cap, cores = layout.cap_mib[source], layout.cap_cores[source]
    mine = [(vm, layout.mib[vm], layout.load[vm]) for vm in layout.on[source] if may_leave(vm)]
    free = layout.free_mib[source]
    found: list[Pair] = []
    for target, tm, tc, tcap, tcores, tfree, square in targets:
        before = m * m + c * c + square
        theirs = [(v, layout.mib[v], layout.load[v]) for v in layout.on[target] if may_leave(v)]
        best, pair = 0.0, None
        for u, u_mib, u_load in mine:
            for v, v_mib, v_load in theirs:
                d, e = u_mib - v_mib, u_load - v_load
                sm, sc, nm, nc = m - d / cap, c - e / cores, tm + d / tcap, tc + e / tcores
                gain = before - sm * sm - sc * sc - nm * nm - nc * nc
                both = u_mib + v_mib
                if gain <= WORTH * both / tcap + 1e-9 or gain / both <= best:
                    continue
                if u_mib <= tfree and tm + u_mib / tcap <= top:
                    if v_mib <= free + u_mib and sm <= top:
                        best, pair = gain / both, ((u, target), (v, source))
                elif v_mib <= free and u_mib <= tfree + v_mib and max(nm, m + v_mib / cap) <= top:
                    best, pair = gain / both, ((v, source), (u, target))
        if pair is not None:
            found.append((best, pair))
    return found
