"""The numbers of a pool: presets fit together, and each relation alone is enough to be refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.errors import InvalidInput
from outlast.settings import MS, PRESETS, RHO, S, Timing, check, preset

GOOD = preset("standard")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_passes_and_carries_its_name(name: str) -> None:
    timing = preset(name)
    check(timing)
    assert timing.preset == name


def test_an_unknown_preset_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(InvalidInput) as refused:
        preset("fast")
    assert all(name in refused.value.hint for name in PRESETS)


BROKEN: dict[str, tuple[Timing, str]] = {
    "a beat too many": (replace(GOOD, beat_ns=GOOD.fence_ns // 3 + 1), "three beats"),
    "a watchdog too slow": (replace(GOOD, watchdog_s=GOOD.kill_ns // S + 1), "watchdog"),
    "no slack": (replace(GOOD, dead_ns=GOOD.fence_ns + GOOD.kill_ns + GOOD.settle_ns), "dead"),
    "no settle": (replace(GOOD, settle_ns=0), "positive"),
    "no beat": (replace(GOOD, beat_ns=0), "positive"),
    "negative kill": (replace(GOOD, kill_ns=-1), "positive"),
    "no watchdog time": (replace(GOOD, watchdog_s=0), "positive"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_each_relation_broken_alone_is_refused_by_its_name(what: str) -> None:
    timing, word = BROKEN[what]
    with pytest.raises(InvalidInput, match=word):
        check(timing)


def test_the_limits_are_exact() -> None:
    check(replace(GOOD, beat_ns=GOOD.fence_ns // 3))
    check(replace(GOOD, watchdog_s=GOOD.kill_ns // S))
    least = int((GOOD.fence_ns + GOOD.kill_ns) * (1 + RHO) ** 2 + GOOD.settle_ns)
    check(replace(GOOD, dead_ns=least + 2))
    with pytest.raises(InvalidInput):
        check(replace(GOOD, dead_ns=least))


@given(
    beat=st.integers(1, 10_000),
    fence=st.integers(1, 200_000),
    kill=st.integers(1, 60_000),
    watchdog_s=st.integers(1, 60),
    settle=st.integers(1, 60_000),
    dead=st.integers(1, 400_000),
)
def test_what_passes_is_safe_whatever_the_numbers(
    beat: int, fence: int, kill: int, watchdog_s: int, settle: int, dead: int
) -> None:
    """In milliseconds, with the worst clocks: the victim slow, the observer fast."""
    timing = Timing("any", beat * MS, fence * MS, kill * MS, watchdog_s, settle * MS, dead * MS, 1)
    try:
        check(timing)
    except InvalidInput:
        return
    victim_done_ns = (timing.fence_ns + timing.kill_ns) * (1 + RHO)
    observer_acts_ns = timing.dead_ns / (1 + RHO)
    assert victim_done_ns < observer_acts_ns
    assert timing.dead_after_ms * MS >= timing.fence_ns + timing.kill_ns
    assert timing.margin_ns < timing.fence_ns
