"""Live migration as libvirt does it between two pretend hosts: helpful, and wrong when it matters.

Rules:
1. libvirt lets the source go on by itself after any error, also when the copy at the target is
   complete: when its word of success is lost, there are two machines that could run.
2. The memory of a copy is worth something only while the source has not run since it was complete.
3. What the two agents do about it is the real code: only what their hands do is pretended here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from outlast.model import VmState
from outlast.settings import MS, S
from outlast.sim.machine import Copy, Machine
from outlast.sim.world import Path

OFFER_NS = 10 * MS  # from the source's agent to the target's and back
FINISH_NS, REPLY_NS, RESUME_NS = 10 * MS, 5 * MS, 15 * MS
STANDS_NS = 100 * MS  # how often it is looked whether QEMU can stand still
NOTICE_NS = S  # until libvirt notices that the other side is gone


class Mind(Protocol):
    """The agent of one of the two hosts, as far as a move meets it."""

    up: bool
    life: int

    def wake(self) -> None: ...

    def refusal(self, vm: str, id_: str) -> str: ...


class SimMove:
    """One move, from the wish of the source's agent to its report."""

    def __init__(
        self, source: Machine, mind: Mind, target: Machine, other: Mind, vm: str, id_: str,
        report: Callable[[bool, str], None],
    ) -> None:  # fmt: skip
        self._source, self._mind = source, mind
        self._target, self._other = target, other
        self._vm, self._id = vm, id_
        self._report = report
        self._life = mind.life
        self._boot = target.world.lives[target.name]
        self._aborted = ""
        source.later(OFFER_NS, self._offer)

    def abort(self, why: str) -> None:
        self._aborted = why

    def _reaches(self) -> bool:
        world, here, there = self._source.world, self._source.name, self._target.name
        up = world.hears(here, there) and world.hears(there, here)
        return up and self._target.power and not self._target.frozen

    def _lost(self) -> str:
        """Why libvirt gives up now; "" when nothing is wrong."""
        if self._aborted:
            return self._aborted
        if not self._mind.up or self._mind.life != self._life:
            return "its agent is gone, and the way to the target with it"
        if self._vm not in self._source.running:
            return "the VM is gone"
        if not self._reaches() or self._target.world.lives[self._target.name] != self._boot:
            return "the target does not answer"
        return ""

    def _fail(self, why: str) -> None:
        self._report(False, why)

    def _offer(self) -> None:
        why = self._lost() or self._other.refusal(self._vm, self._id)
        if why:
            self._fail(why)
            return
        self._target.later(self._target.start_takes_ns, self._prepared)
        self._source.later(self._target.start_takes_ns + self._source.move_takes_ns, self._copied)

    def _prepared(self) -> None:
        target = self._target
        now, seen = target.reading(), target.guard_seen()
        if target.guard.enter(now, seen, self._vm, incoming=True).get("ok"):
            target.copies[self._vm] = Copy(self._id)
            self._other.wake()

    def _copied(self) -> None:
        copy = self._target.copies.get(self._vm)
        why = self._lost() or ("" if copy and copy.id == self._id else "its copy is gone")
        if why:
            self._drop_copy()
            self._fail(why)
            return
        assert copy is not None
        if self._source.world.paths[self._source.name] is Path.STUCK:  # its writes are not over
            self._source.later(STANDS_NS, self._copied)
            return
        self._source.running[self._vm] = VmState.PAUSED
        copy.complete = True
        one_in = self._source.replies_lost
        lost = bool(one_in) and self._source.world.random.randrange(one_in) == 0
        self._source.later(NOTICE_NS if lost else FINISH_NS + REPLY_NS, self._replied(lost))

    def _drop_copy(self) -> None:
        """libvirt ends a copy that is not complete, where it still can."""
        copy = self._target.copies.get(self._vm)
        if copy and copy.id == self._id and not copy.complete and self._reaches():
            del self._target.copies[self._vm]
            self._other.wake()

    def _replied(self, lost: bool) -> Callable[[], None]:
        def act() -> None:
            why = self._lost() or ("the word of its success was lost" if lost else "")
            if not why:
                self._source.end_vm(self._vm, lambda: self._report(True, ""))
            elif self._vm in self._source.running:
                self._source.later(RESUME_NS, lambda: self._resumes(why))
            else:
                self._fail(why)

        return act

    def _resumes(self, why: str) -> None:
        """Rule 1."""
        if self._vm in self._source.running:
            self._source.runs(self._vm)
        self._fail(why)
