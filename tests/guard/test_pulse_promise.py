"""Another timing for a term that is open: what is promised, and what the guard counts with."""

from __future__ import annotations

from pulse_world import TIMING, World

from outlast.guard.pulse_facts import Command, Confirm, Retime
from outlast.settings import preset


def kinds(commands: list[Command]) -> list[type]:
    return [type(c) for c in commands]


def promise(w: World) -> int:
    own = w.own()
    assert own is not None
    return own.dead_after_ms


def test_a_longer_timing_is_promised_before_the_guard_may_use_it() -> None:
    w, new = World(), preset("quick")
    w.become_member()
    w.core.set_timing(new)
    assert kinds(w.cycle()) == [Confirm] and promise(w) == TIMING.dead_after_ms
    assert kinds(w.cycle()) == [Confirm, Retime] and promise(w) == new.dead_after_ms
    assert w.guard.memory().timing.fence_ns == new.fence_ns and w.core.timing == new
    assert kinds(w.cycle()) == [Confirm]


def test_a_shorter_timing_is_the_guards_before_it_is_promised() -> None:
    w, old = World(), preset("quick")
    w.become_member()
    w.core.set_timing(old)
    w.beats(3)
    assert promise(w) == old.dead_after_ms
    w.core.set_timing(TIMING)
    assert kinds(w.cycle()) == [Confirm, Retime] and promise(w) == old.dead_after_ms
    assert w.guard.memory().timing.fence_ns == TIMING.fence_ns
    w.cycle()
    assert promise(w) in {old.dead_after_ms, TIMING.dead_after_ms}
    w.cycle()
    assert promise(w) == TIMING.dead_after_ms


def test_a_guard_that_takes_no_other_timing_keeps_the_longer_promise() -> None:
    w, old = World(), preset("quick")
    w.become_member()
    w.core.set_timing(old)
    w.beats(3)
    w.retime = lambda c: None  # type: ignore[method-assign]  # it refuses
    w.core.set_timing(TIMING)
    w.beats(5)
    assert promise(w) == old.dead_after_ms and w.core.timing == old
