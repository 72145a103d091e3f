"""Small pools for the tests of placement, by hand and by Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from outlast.placement.fit import broken
from outlast.placement.layout import Layout
from outlast.placement.picture import Group, GroupKind, Host, Picture, Policy, Priority, Vm


def hosts(*mib: int, cores: int = 8) -> tuple[Host, ...]:
    return tuple(Host("abcdefgh"[n], m, cores) for n, m in enumerate(mib))


@st.composite
def pools(draw: st.DrawFn, most_hosts: int = 5, most_vms: int = 14, groups: bool = True) -> Picture:
    """Pools that break no hard rule; every VM runs."""
    n = draw(st.integers(2, most_hosts))
    made = hosts(*(draw(st.integers(8, 24)) for _ in range(n)))
    free = [h.memory_mib for h in made]
    vms: list[Vm] = []
    for k in range(draw(st.integers(0, most_vms))):
        mib = draw(st.integers(1, 8))
        at = draw(st.integers(0, n - 1))
        if free[at] < mib:
            continue
        free[at] -= mib
        vms.append(Vm(
            f"vm{k}", mib, draw(st.integers(1, 3)), made[at].name,
            busy_cores=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0])),
            priority=draw(st.sampled_from(Priority)), movable=draw(st.integers(0, 9)) > 0,
            preferred=(made[at].name, made[0].name) if draw(st.integers(0, 7)) == 0 else (),
        ))  # fmt: skip
    found: list[Group] = []
    if groups and len(vms) >= 2:
        for k in range(draw(st.integers(0, 2))):
            names = draw(st.lists(st.sampled_from([v.name for v in vms]), min_size=2,
                                  max_size=3, unique=True))  # fmt: skip
            kind = draw(st.sampled_from(GroupKind))
            found.append(Group(f"g{k}", kind, tuple(names), draw(st.booleans())))
    kept: tuple[Group, ...] = ()
    for group in found:
        tried = Picture(made, tuple(vms), (*kept, group))
        if not broken(Layout(tried)):
            kept = tried.groups
    return Picture(made, tuple(vms), kept, Policy(moved_share_max=9.0))
