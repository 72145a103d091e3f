"""Byte-range locks, compared with a stupid twin that knows every byte by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outlast.rack.filelocks import READ, UNLOCK, WRITE, Lock, LockTable

BYTES = 8
locks = st.builds(
    lambda holder, owner, ends, kind, fh: Lock(holder, owner, *sorted(ends), kind, 1, fh),
    st.sampled_from("ab"),
    st.integers(1, 2),
    st.tuples(st.integers(0, BYTES - 1), st.integers(0, BYTES - 1)),
    st.sampled_from([READ, WRITE, UNLOCK]),
    st.integers(1, 2),
)


@given(st.lists(locks, max_size=25))
def test_the_table_agrees_with_a_map_of_bytes(wanted: list[Lock]) -> None:
    table = LockTable()
    held: list[dict[tuple[object, int], int]] = [{} for _ in range(BYTES)]
    for lock in wanted:
        span, me = range(lock.start, lock.end + 1), (lock.holder, lock.owner)
        free = lock.kind == UNLOCK or not any(
            who != me and WRITE in (kind, lock.kind)
            for at in span
            for who, kind in held[at].items()
        )
        assert table.put(1, lock) is free
        if free:
            for at in span:
                held[at].pop(me, None)
                if lock.kind != UNLOCK:
                    held[at][me] = lock.kind
    seen: list[dict[tuple[object, int], int]] = [{} for _ in range(BYTES)]
    for _, lock in table:
        for at in range(lock.start, lock.end + 1):
            seen[at][(lock.holder, lock.owner)] = lock.kind
    assert seen == held


def test_closing_a_handle_drops_its_locks_only() -> None:
    table = LockTable()
    table.put(1, Lock("a", 1, 0, 9, WRITE, 1, fh=5))
    table.put(1, Lock("a", 2, 10, 19, WRITE, 1, fh=6))
    assert table.close(1, "a", 5)
    assert [lock.fh for _, lock in table] == [6]
    assert not table.close(1, "b", 6)
    assert table.forget("a")
    assert not table


def test_a_dead_holder_keeps_its_lock_until_somebody_wants_it() -> None:
    dead: set[object] = set()
    table = LockTable(lambda holder: holder not in dead)
    table.put(1, Lock("a", 1, 0, 9, WRITE, 1, 1))
    rival = Lock("b", 1, 5, 5, READ, 1, 1)
    assert not table.put(1, rival)
    dead.add("a")
    assert [lock.holder for _, lock in table] == ["a"]
    assert table.put(1, rival)
    assert [lock.holder for _, lock in table] == ["b"]


def test_flocks_and_record_locks_do_not_meet() -> None:
    table = LockTable()
    assert table.put(1, Lock("a", 1, 0, 9, WRITE, 1, 1))
    assert table.put(1, Lock("b", 1, 0, 9, WRITE, 1, 1, flock=True))
    assert not table.put(1, Lock("c", 1, 0, 9, READ, 1, 1, flock=True))
