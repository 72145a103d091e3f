"""A picture without names, for bug reports. Pure.

Rules:
1. Hosts, VMs, groups, networks and storages get numbers, the same one wherever a name stands; why a
   host is closed is left out. Sizes, loads and CPU models stay: they are what an answer depends on.
2. Names keep their order, because ties are broken by name: the answer is that of the real pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from outlast.placement.picture import Host, Picture, Vm

Names = dict[str, str]


def masked(picture: Picture) -> Picture:
    """The same pool, so that nobody can tell whose it is."""
    likes = {name for v in picture.vms for name in v.likes}  # may name hosts that are gone
    hosts = _numbered("host", {h.name for h in picture.hosts} | likes)
    vms = _numbered("vm", (v.name for v in picture.vms))
    groups = _numbered("group", (g.name for g in picture.groups))
    both: list[Host | Vm] = [*picture.hosts, *picture.vms]
    networks = _numbered("network", (n for one in both for n in one.networks or ()))
    storage = _numbered("storage", (n for one in both for n in one.storage or ()))
    return replace(
        picture,
        hosts=tuple(
            replace(
                h, name=hosts[h.name], why="",
                networks=None if h.networks is None else _all(h.networks, networks),
                storage=None if h.storage is None else _all(h.storage, storage),
            )
            for h in picture.hosts
        ),
        vms=tuple(
            replace(
                v, name=vms[v.name], host=hosts.get(v.host, ""), likes=_all(v.likes, hosts),
                preferred=_all(v.preferred, hosts), networks=_all(v.networks, networks),
                storage=_all(v.storage, storage),
            )
            for v in picture.vms
        ),
        groups=tuple(
            replace(g, name=groups[g.name], vms=_all(g.vms, vms)) for g in picture.groups
        ),
    )  # fmt: skip


def _numbered(kind: str, names: Iterable[str]) -> Names:
    known = sorted(set(names))
    width = len(str(len(known)))
    return {name: f"{kind}-{n:0{width}}" for n, name in enumerate(known, 1)}


def _all(names: Iterable[str], known: Names) -> tuple[str, ...]:
    return tuple(known[name] for name in names)
