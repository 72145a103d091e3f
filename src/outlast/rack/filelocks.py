"""Byte-range locks of the storage server, and their replay by a client (pure).

Rules:
1. A lock belongs to (holder, owner): the holder is a client, the owner a number from its kernel.
2. Two locks conflict if they overlap, belong to different owners, are of the same family (record
   locks or whole-file flocks) and at least one of them is exclusive.
3. A new lock replaces what the same owner held in that range; unlocking cuts holes.
4. Closing a file handle drops the locks set through it: the kernel sends no unlock for
   open-file-description locks.
5. A holder that has not renewed its lease loses a lock only when somebody else wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

READ, WRITE, UNLOCK = 0, 1, 2
END = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Lock:
    """One locked range [start, end] of one file."""

    holder: Hashable
    owner: int
    start: int
    end: int
    kind: int  # READ | WRITE | UNLOCK
    pid: int
    fh: int
    flock: bool = False

    def mine(self, other: Lock) -> bool:
        return (self.holder, self.owner, self.flock) == (other.holder, other.owner, other.flock)

    def overlaps(self, other: Lock) -> bool:
        return self.start <= other.end and other.start <= self.end

    def conflicts(self, other: Lock) -> bool:
        return (
            self.flock == other.flock
            and not self.mine(other)
            and self.overlaps(other)
            and WRITE in (self.kind, other.kind)
        )


class LockTable:
    """All locks of one file system, by node. Not thread-safe: callers serialise."""

    def __init__(self, alive: Callable[[Hashable], bool] = lambda holder: True) -> None:
        self._alive = alive
        self._nodes: dict[int, list[Lock]] = {}

    def conflict(self, node: int, wanted: Lock) -> Lock | None:
        """A lock that stands in the way; conflicting locks of dead holders are dropped."""
        held = self._nodes.get(node, [])
        for lock in list(held):
            if wanted.kind != UNLOCK and lock.conflicts(wanted):
                if self._alive(lock.holder):
                    return lock
                held.remove(lock)
        return None

    def put(self, node: int, lock: Lock) -> bool:
        """Lock or unlock. False: somebody else holds a conflicting lock."""
        if self.conflict(node, lock) is not None:
            return False
        kept: list[Lock] = []
        for old in self._nodes.get(node, []):
            if not (old.mine(lock) and old.overlaps(lock)):
                kept.append(old)
                continue
            if old.start < lock.start:
                kept.append(replace(old, end=lock.start - 1))
            if old.end > lock.end:
                kept.append(replace(old, start=lock.end + 1))
        if lock.kind != UNLOCK:
            kept.append(lock)
        self._store(node, kept)
        return True

    def close(self, node: int, holder: Hashable, fh: int) -> bool:
        """Drop the locks set through a file handle. True: something was dropped."""
        return self._drop(node, lambda lock: (lock.holder, lock.fh) == (holder, fh))

    def forget(self, holder: Hashable) -> bool:
        """Drop everything a holder has. True: something was dropped."""
        dropped = [self._drop(node, lambda lock: lock.holder == holder) for node in [*self._nodes]]
        return any(dropped)

    def __iter__(self) -> Iterator[tuple[int, Lock]]:
        for node, locks in self._nodes.items():
            for lock in locks:
                yield node, lock

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def _drop(self, node: int, doomed: Callable[[Lock], bool]) -> bool:
        held = self._nodes.get(node, [])
        kept = [lock for lock in held if not doomed(lock)]
        self._store(node, kept)
        return len(kept) != len(held)

    def _store(self, node: int, locks: list[Lock]) -> None:
        if locks:
            self._nodes[node] = locks
        else:
            self._nodes.pop(node, None)
