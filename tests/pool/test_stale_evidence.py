"""Evidence older than the record it is held against proves nothing.

Host b was replaced by a newer life that joined, took a lease and runs its VM. Host a, whose storage
stalled for a moment, learns the pieces of that in the wrong order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from build import NOW, SETTINGS, TIMING, record, story, term, view

from outlast.agent.registers import Registers
from outlast.model import Lease
from outlast.pool.core import PoolCore
from outlast.pool.membership import Members
from outlast.pool.proof import of_death
from outlast.settings import S
from outlast.storage import format as fmt
from outlast.storage.register import Outcome, Swap

LATER = NOW + S  # after the newest read of the blocks began


def test_a_term_newer_than_the_view_is_not_taken_for_an_excluded_one() -> None:
    """a still follows view 1 without b, announced for long; the lease names b's new life, which
    view 2 lists. That view 1 does not list it proves nothing: it is newer than view 1."""
    told = story().follows(view(1, 3), announced_ns=500 * S)
    told = told.wants(record("web")).leased("web", 2, life=2, read_ns=LATER)
    members = Members(SETTINGS)
    members.step(LATER + S, told.facts)
    made = of_death(told.facts, TIMING, 2, term(2, 2), known_ns=LATER, excluded=members.excluded)
    assert made is None, made


def test_the_master_gives_no_order_on_such_evidence() -> None:
    told = story().follows(view(1, 3), announced_ns=500 * S)
    told = told.wants(record("web")).leased("web", 2, life=2, read_ns=LATER)
    decision = PoolCore(SETTINGS).step(LATER + S, told.facts)
    assert not [n.sentence for n in decision.notes if n.code == "order-given"]


class SlowRegister:
    """A register whose answer takes a while: the value is of the END of the call."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()

    def read(self, name: str) -> tuple[int, dict[str, object] | None]:
        self.asked.set()
        assert self.answer.wait(10)
        return 2, fmt.value_to(Lease("web", 2, term(2, 2), "start"))

    def swap(self, name: str, expected: int, value: Mapping[str, object]) -> Swap:
        return Swap(Outcome.UNKNOWN, 0)

    def names(self, kind: str) -> list[str]:
        return []


def test_a_block_read_while_a_record_was_being_read_is_older_than_the_record() -> None:
    """P1 compares the begin of the block's read with when the record became known. A read that
    hung for seconds may return what was written long after the block was read."""
    slow = SlowRegister()
    registers = Registers(slow, lambda: None)
    reader = threading.Thread(target=registers.read_now, args=("lease/web",))
    reader.start()
    assert slow.asked.wait(10)
    block_read_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # shows b's OLD life
    slow.answer.set()
    reader.join(10)
    held = registers.known.leases["web"]
    told = story().wants(record("web")).leased("web", 2, life=2, read_ns=held.read_ns)
    told = told.sampled(started_ns=block_read_ns)
    made = of_death(told.facts, TIMING, 2, term(2, 2), known_ns=held.read_ns, excluded={})
    assert made is None, made
