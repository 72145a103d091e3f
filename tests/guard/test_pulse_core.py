"""The pulse's rules, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pulse_world import BEAT, ME, MS, TIMING, World, peer_block

from outlast.guard.pulse_facts import Close, Confirm, Life, Open, Retime
from outlast.model import BlockState, GuardState, SlotRecord


def kinds(commands: list[object]) -> list[type]:
    return [type(c) for c in commands]


def test_a_new_host_looks_joins_and_is_confirmed_with_the_start_of_the_write() -> None:
    w = World()
    assert w.cycle() == [] and w.own() is None  # nothing is written before X of good reads
    w.beats(5)
    own = w.own()
    assert own is not None and own.state is BlockState.JOINING
    assert w.beats(5) == []  # nobody lists it: the guard hears nothing
    w.admit()
    at = w.now()
    commands = w.cycle()
    assert commands == [Open(own.term, at)]
    w.wait(BEAT)
    at = w.now()
    assert w.cycle() == [Confirm(own.term, at)]
    assert w.own() is not None and w.own().state is BlockState.MEMBER  # type: ignore[union-attr]


@pytest.mark.parametrize("fault", [
    {"write": "lost"}, {"write": "error"}, {"write": "torn"}, {"read": "error"},
    {"read": "stale"}, {"view_error": "damaged"},
])  # fmt: skip
def test_no_confirm_after_a_bad_cycle(fault: dict[str, str]) -> None:
    w = World()
    w.become_member()
    assert w.cycle(**fault) == []  # type: ignore[arg-type]
    assert w.core.trouble
    assert kinds(w.cycle()) == [Confirm]


def test_no_confirm_while_a_named_view_is_not_loaded() -> None:
    w = World()
    w.become_member()
    w.put(peer_block(view=2))
    w.admit()
    assert w.cycle(blind=True) == []
    assert "view 2, named by slot 2" in w.core.trouble
    assert kinds(w.cycle()) == [Confirm]
    w.put(peer_block(slot=3, view=99))  # slot 3 is not listed: its word alone stops nothing
    assert kinds(w.cycle()) == [Confirm]


def test_exclusion_closes_drains_and_comes_back_with_a_new_term() -> None:
    w = World()
    w.become_member()
    term = w.core.term
    w.populated = True
    w.exclude()
    (close,) = w.cycle()
    assert close == Close(term, "view 2 does not list this term: test", False)
    w.beats(10)
    assert w.own().state is BlockState.CLOSING  # type: ignore[union-attr]
    w.populated = False
    w.cycle()
    emptied = w.now()
    while w.own().state is not BlockState.CLOSED:  # type: ignore[union-attr]
        w.beats(1)
    assert w.now().boot_ns - emptied.boot_ns >= TIMING.settle_ns
    w.beats(2)
    own = w.own()
    assert own is not None and own.state is BlockState.JOINING
    assert own.term != term and own.prev_term == term
    assert w.beats(5) == []


def test_the_guard_is_told_once_what_ran_has_drained() -> None:
    w = World()
    w.become_member()
    term, w.populated = w.core.term, True
    w.beats(1)
    w.exclude()
    w.beats(2)
    w.populated = False
    w.cycle()
    quiet = w.now()
    while not w.drained:
        assert w.guard.memory().undrained
        w.cycle(write="error" if w.now().boot_ns - quiet.boot_ns < 3 * BEAT else "ok")
        w.wait(BEAT)
    (told, at), *again = w.drained
    assert (told, again) == (term, [])
    assert at.boot_ns - quiet.boot_ns >= 3 * BEAT + TIMING.settle_ns
    assert w.guard.memory().undrained is None


def test_a_bad_cycle_restarts_the_drain() -> None:
    w = World()
    w.become_member()
    w.exclude()
    w.beats(2)
    for _ in range(10):
        w.beats(1)
        w.cycle(write="error")
        assert w.core.life is Life.CLOSING


def test_the_drain_begins_with_a_cycle_that_began_after_the_guard_was_quiet() -> None:
    w = World()
    w.become_member()
    w.populated = True
    w.exclude()
    w.beats(2)
    w.populated = False
    w.cycle(write_ns=2 * BEAT)  # the guard becomes quiet in the middle of it
    w.wait(BEAT)
    start = w.now()
    while w.core.life is not Life.CLOSED:
        w.cycle()
        w.wait(BEAT)
    newest = w.core.windows.newest_start
    assert newest is not None and newest.boot_ns - start.boot_ns >= TIMING.settle_ns


def test_killed_pulse_goes_on_with_term_and_seq() -> None:
    w = World()
    w.become_member()
    w.beats(3)
    term, seq = w.core.term, w.core.seq
    w.restart_pulse()
    assert w.cycle() == []
    assert kinds(w.cycle()) == [Confirm]
    assert w.core.term == term and w.core.seq == seq + 1


def test_killed_in_the_middle_of_a_write_goes_on_with_a_larger_seq() -> None:
    w = World()
    w.become_member()
    term, seq = w.core.term, w.core.seq
    w.area[1] = w.area[1][:512] + bytes(3584)
    w.restart_pulse()
    w.cycle()
    assert kinds(w.cycle()) == [Confirm]
    assert w.core.term == term and w.core.seq > seq


def test_a_restart_keeps_what_the_term_came_after_and_what_it_promised() -> None:
    w = World()
    w.become_member()
    first = w.core.term
    w.exclude()
    while w.core.life is not Life.JOINING:
        w.beats(1)
    w.admit()
    w.beats(3)
    own = w.own()
    assert own is not None and w.core.life is Life.MEMBER
    w.put(replace(own, dead_after_ms=9999))  # promised under a slower timing
    w.restart_pulse()
    promised = []
    for _ in range(5):  # until the guard has been told which times count now
        told = w.cycle()
        again = w.own()
        assert again is not None and again.prev_term == first
        promised.append((again.dead_after_ms, kinds(told)))
        w.wait(BEAT - 4 * MS)
    assert promised[-1] == (TIMING.dead_after_ms, [Confirm])
    at = next(n for n, (_, told) in enumerate(promised) if Retime in told)
    assert all(ms in {9999, TIMING.dead_after_ms} for ms, _ in promised)
    assert all(ms == 9999 for ms, _ in promised[1 : at + 1])


def test_an_open_whose_reply_was_lost_is_believed_only_as_the_guard_tells() -> None:
    w = World()
    w.beats(6)
    w.admit()
    commands = w.cycle_unheard()
    assert kinds(commands) == [Open]
    w.guard_mute = False
    w.heed()
    assert w.core.life is Life.MEMBER and kinds(w.cycle()) == [Confirm]


def test_an_open_whose_term_closed_unheard_is_closing() -> None:
    w = World()
    w.beats(6)
    w.admit()
    term = w.core.term
    assert kinds(w.cycle_unheard()) == [Open]
    w.wait(TIMING.fence_ns)
    w.guard_mute = False
    w.heed()
    assert (w.core.life, w.core.term) == (Life.CLOSING, term)


def test_a_late_open_of_a_closed_term_is_closed_before_the_next_term_begins() -> None:
    w = World()
    w.beats(6)
    w.core.leave(True)
    w.beats(8)
    assert w.core.life is Life.CLOSED
    term = w.core.term
    w.core.leave(False)
    w.late_open()
    assert w.guard.state is GuardState.OPEN
    w.populated = True
    w.beats(3)
    assert w.guard.state is GuardState.CLOSING and w.core.term == term
    w.populated = False
    w.beats(3)
    assert w.core.life is Life.JOINING and w.core.term != term


def test_views_are_never_followed_backwards() -> None:
    w = World()
    w.become_member()
    w.admit()
    w.beats(1)
    assert w.core.view is not None and w.core.view.version == 2
    w.cycle(old_view=1)
    assert w.core.view.version == 2


def test_restart_after_the_guard_closed_ends_the_term() -> None:
    w = World()
    w.become_member()
    term = w.core.term
    w.wait(TIMING.fence_ns)
    assert w.guard.state is GuardState.CLOSED
    w.restart_pulse()
    w.beats(2)
    assert (w.core.life, w.core.term) == (Life.CLOSING, term)
    w.beats(6)
    own = w.own()
    assert own is not None and own.state is BlockState.JOINING and own.prev_term == term


def test_restart_without_a_guard_writes_nothing() -> None:
    w = World()
    w.become_member()
    seq = w.core.seq
    w.guard_answers = False
    w.restart_pulse()
    w.beats(10)
    assert w.own().seq == seq  # type: ignore[union-attr]
    assert "guard does not answer" in w.core.trouble


def test_reboot_begins_a_new_term_only_after_settling() -> None:
    w = World()
    w.become_member()
    term, seq = w.core.term, w.core.seq
    w.reboot()
    at = w.now()
    while w.core.life is Life.LOOKING:
        w.beats(1)
    assert w.now().boot_ns - at.boot_ns >= TIMING.settle_ns
    assert w.core.prev_term == term and w.core.term != term
    assert w.core.seq > seq


def test_a_closing_guard_is_told_that_storage_is_sick() -> None:
    w = World()
    w.become_member()
    w.populated = True
    told = w.hang(TIMING.fence_ns + 2 * BEAT)
    assert told and all(c == Close(w.core.term, c.reason, True) for c in told)  # type: ignore[union-attr]
    assert w.core.life is Life.CLOSING


def test_over_a_strangers_block_only_after_its_own_promise() -> None:
    w = World()
    w.put(peer_block(slot=1, dead_after_ms=5000))
    at = w.now()
    while w.core.life is Life.LOOKING:
        w.beats(1)
    assert w.now().boot_ns - at.boot_ns >= 5000 * MS + TIMING.settle_ns


def test_two_sightings_of_a_stranger_close_the_guard_and_stop_writing() -> None:
    w = World()
    w.become_member()
    stranger = peer_block(slot=1)
    assert w.cycle(foreign=stranger) == [] and not w.core.conflict
    (close,) = w.cycle(foreign=replace(stranger, seq=2))
    assert isinstance(close, Close) and "slot conflict" in close.reason
    seq = w.core.seq
    w.core.slot_record(SlotRecord(1, "a", ME, 1, True))
    w.beats(10)
    assert w.core.seq == seq and "slot conflict" in w.core.denied
    assert w.guard.state is GuardState.CLOSED


def test_a_stranger_who_writes_between_our_cycles_is_seen_before_the_next_write() -> None:
    w = World()
    w.become_member()
    for seq in (1, 2):
        w.put(peer_block(slot=1, seq=seq))
        w.cycle()
    assert "slot conflict" in w.core.denied


@pytest.mark.parametrize("record", [
    None, SlotRecord(1, "b", "x", 1, True), SlotRecord(1, "a", ME, 2, True),
    SlotRecord(1, "a", ME, 1, False),
])  # fmt: skip
def test_a_slot_that_is_not_ours_is_never_written(record: SlotRecord | None) -> None:
    w = World()
    w.become_member()
    seq = w.core.seq
    w.core.slot_record(record)
    (close,) = w.cycle()
    assert isinstance(close, Close) and "slot 1" in close.reason
    w.beats(5)
    assert w.own().seq == seq  # type: ignore[union-attr]
    w.core.slot_record(SlotRecord(1, "a", ME, 1, True))
    w.beats(8)
    assert w.own().state is BlockState.JOINING  # type: ignore[union-attr]


def test_leaving_closes_for_good() -> None:
    w = World()
    w.become_member()
    w.core.leave(True)
    (close,) = w.core.watch(w.now())
    w.obey([close])
    w.cycle()
    assert w.own().state is BlockState.LEAVING  # type: ignore[union-attr]
    w.beats(20)
    assert w.own().state is BlockState.CLOSED  # type: ignore[union-attr]
    w.core.leave(False)
    w.beats(2)
    assert w.own().state is BlockState.JOINING  # type: ignore[union-attr]


def test_own_admission_restarts_all_windows() -> None:
    w = World()
    w.put(peer_block())
    w.beats(30)
    assert w.core.windows.still_ns(2) > 4 * BEAT
    w.admit()
    w.beats(2)
    assert w.core.windows.still_ns(2) <= 2 * BEAT


def test_an_unreadable_block_never_grows_old() -> None:
    w = World()
    w.put(peer_block())
    w.beats(5)
    w.area[2] = w.area[2][:100] + b"x" + w.area[2][101:]
    w.beats(5)
    assert not w.core.windows.slots[2].valid and w.core.windows.still_ns(2) == 0


def test_a_slow_read_counts_from_its_ends_and_breaks_the_run() -> None:
    w = World()
    w.put(peer_block())
    w.beats(5)
    still = w.core.windows.still_ns(2)
    w.cycle(read_ns=10 * BEAT)
    assert w.core.windows.still_ns(2) <= still + BEAT + 10 * MS  # not the ten beats of the read
    assert w.core.windows.run_ns() == 0


def test_announced_and_excluded_count_from_the_read_back() -> None:
    w = World()
    w.become_member()
    w.beats(5)
    assert w.core.announced is not None and w.core.announced[0] == 1
    w.view((1, w.core.term))  # slot 2 is out
    w.cycle()
    assert w.core.gone[2].version == 2 and w.core.gone[2].since is None
    w.beats(1)
    assert w.core.gone[2].since is not None and w.core.announced[0] == 2
    w.cycle(read="stale")
    assert w.core.gone[2].since is None and w.core.announced is None
