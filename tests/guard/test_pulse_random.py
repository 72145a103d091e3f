"""The pulse's rules against random storage, views, guards, restarts and clocks.

The world checks every step by its own books (pulse_world).
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pulse_world import BEAT, MS, TIMING, World, peer_block

from outlast.guard.pulse_facts import Confirm, Life
from outlast.model import GuardState

FAULTS = st.fixed_dictionaries({
    "write": st.sampled_from(["ok", "ok", "ok", "lost", "error", "torn"]),
    "read": st.sampled_from(["ok", "ok", "ok", "error", "stale"]),
    "read_ns": st.sampled_from([MS, 30 * MS, 5 * BEAT]),
    "write_ns": st.sampled_from([MS, 30 * MS, 7 * BEAT]),
    "view_error": st.sampled_from(["", "", "", "damaged"]),
    "blind": st.booleans(),
})  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("cycles"), st.integers(1, 6)),
        st.tuples(st.just("cycles"), st.integers(1, 6)),
        st.tuples(st.just("fault"), FAULTS),
        st.tuples(st.just("admit"), st.none()),
        st.tuples(st.just("exclude"), st.none()),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("reboot"), st.none()),
        st.tuples(st.just("guard"), st.sampled_from(["here", "gone", "mute"])),
        st.tuples(st.just("late open"), st.none()),
        st.tuples(st.just("populated"), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([BEAT, 4 * BEAT, TIMING.fence_ns])),
        st.tuples(st.just("hang"), st.sampled_from([BEAT, TIMING.fence_ns])),
        st.tuples(st.just("peer"), st.integers(0, 3)),
        st.tuples(st.just("rot"), st.integers(1, 2)),
        st.tuples(st.just("leave"), st.booleans()),
    ),
    max_size=40,
)


def play(w: World, kind: str, value: object) -> None:
    if kind == "cycles":
        w.beats(value)  # type: ignore[arg-type]
    elif kind == "fault":
        w.cycle(**value)  # type: ignore[arg-type]
    elif kind == "admit":
        w.admit()
    elif kind == "exclude":
        w.exclude()
    elif kind == "restart":
        w.restart_pulse()
    elif kind == "reboot":
        w.reboot()
    elif kind == "guard":
        w.guard_answers, w.guard_mute = value != "gone", value == "mute"
    elif kind == "late open":
        if w.core.life is not Life.LOOKING and w.core._asked_open:  # else none was ever sent
            w.late_open()
    elif kind == "populated":
        w.populated = bool(value) and w.guard.state is GuardState.OPEN
    elif kind == "wait":
        w.wait(value)  # type: ignore[arg-type]
    elif kind == "hang":
        w.hang(value)  # type: ignore[arg-type]
    elif kind == "peer":
        newest = max(w.views, default=0)
        w.put(peer_block(seq=w.boot_ns // MS, view=min(newest, int(value))))  # type: ignore[call-overload]
    elif kind == "rot":
        raw = bytearray(w.area[int(value)])  # type: ignore[call-overload]
        raw[700] ^= 1
        w.area[int(value)] = bytes(raw)  # type: ignore[call-overload]
    elif kind == "leave":
        w.core.leave(bool(value))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from([920, 1000, 1080]), st.booleans())
def test_never_what_must_not_be(
    steps: list[tuple[str, object]], skew: int, member: bool
) -> None:  # fmt: skip
    """The world's own checks hold after every cycle; afterwards, with all faults healed, the host
    comes back to a confirmed term unless it was told to leave."""
    w = World(skew)
    if member:
        w.become_member()
    for kind, value in steps:
        play(w, kind, value)
    w.guard_answers, w.guard_mute, w.populated = True, False, False
    w.core.leave(False)
    w.beats(12)
    if w.guard.state is GuardState.RESETTING or w.core.conflict:
        return
    for _ in range(3):
        if w.core.view is None or not w.core.view.lists(1, w.core.term):
            w.admit()
        w.beats(12)
    assert w.core.life is Life.MEMBER, (w.core.life, w.core.trouble, w.core.reason)
    assert [type(c) for c in w.cycle()] == [Confirm]
