"""Notes that no story can utter, because stories have no half-seen worlds."""

from __future__ import annotations

from build import NOW, SETTINGS, TIMING, record, story, term

from outlast.model import Order, OrderBook
from outlast.pool.core import PoolCore
from outlast.pool.facts import Held
from outlast.settings import S


def codes(core: PoolCore, facts: object, at_ns: int) -> list[str]:
    return [n.code for n in core.step(at_ns, facts).notes]  # type: ignore[arg-type]


def test_a_vm_without_a_lease_here_is_ended_and_told() -> None:
    core = PoolCore(SETTINGS)
    decision = core.step(NOW, story().wants(record()).leased("web", 2).runs("web").facts)
    assert [k.vm for k in decision.kills] == ["web"]
    assert "vm-killed" in [n.code for n in decision.notes]


def test_a_block_that_cannot_be_read_is_told_once_by_the_master() -> None:
    core = PoolCore(SETTINGS)
    facts = story().unreadable(2).facts
    assert "block-unreadable" in codes(core, facts, NOW)
    assert "block-unreadable" not in codes(core, facts, NOW + S)


def test_a_refused_order_is_told_only_when_the_refusal_lasts() -> None:
    order = Order("start", "web", 1, 1, "its host is gone")
    book = OrderBook(1, 1, 1, term(1), (order,))
    told = story().wants(record()).leased("web", 2)
    facts = told._with(books={1: Held(1, book, NOW - S)}).facts
    core = PoolCore(SETTINGS)
    assert "order-refused" not in codes(core, facts, NOW)
    assert "order-refused" in codes(core, facts, NOW + 4 * TIMING.beat_ns)
