"""Live migration as the pool core sees it, each rule from both sides (docs/PROTOCOL.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from build import NOW, SETTINGS, Story, record, story, term

from outlast.errors import BrokenInvariant
from outlast.model import Handover, Lease, LocalVm, Move, Order, OrderBook, VmState
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision, Depart, Resume, Start, Swap, check
from outlast.pool.facts import Held, Result
from outlast.settings import S

ID = "1" * 16
WISH = Move(ID, "b", "somebody wished it")
WAY = Handover(ID, 1, 2, term(2))
OURS = Lease("web", 1, term(1), "start", move=WAY)
GIVEN = Lease("web", 2, term(2), "migration", move=WAY)


def leased(told: Story, lease: Lease, version: int = 2) -> Story:
    return told._with(leases={"web": Held(version, lease, NOW - S)})


def here(told: Story, **of: object) -> Story:
    """Something of web is in this host's hypervisor and its control group."""
    local = LocalVm("web", VmState.PAUSED)
    local = replace(local, **of)  # type: ignore[arg-type]
    return told._with(local={"web": local}).guard(populated=frozenset({"web"}))


def copy(told: Story, id_: str = ID) -> Story:
    return here(told, incoming=id_)


def runs(told: Story) -> Story:
    return here(told, state=VmState.RUNNING)


def ordered(told: Story, **of: object) -> Story:
    order = replace(Order("move", "web", 1, 1, "wished", 2, ID), **of)  # type: ignore[arg-type]
    book = OrderBook(1, 1, 1, term(1), (order,))
    return told._with(books={1: Held(1, book, NOW - S)})


def source() -> Story:
    """web runs here, on a, and shall move to b."""
    return runs(leased(story(), Lease("web", 1, term(1), "start"), 1)).wants(record(move=WISH))


def begun(core: PoolCore) -> Story:
    """The core has written the move into the lease, seen it, and begun."""
    core.step(NOW + S, ordered(source()).facts)
    told = leased(source(), OURS)
    decision = core.step(NOW + S, told.facts)
    assert decision.departs == (Depart("web", ID, 2),)
    return told


def reports(told: Story, *, ok: bool, why: str = "") -> Story:
    return told._with(results=(Result("move", "web", ok, "" if ok else "other", why),))


def gone(told: Story) -> Story:
    return told._with(local={}).guard(populated=frozenset())


def lease_swap(decision: Decision) -> Lease | None:
    return next((s.value for s in decision.swaps if isinstance(s.value, Lease)), None)


# ---- the host it leaves


def test_an_order_is_written_into_the_lease_before_anything_moves() -> None:
    decision = PoolCore(SETTINGS).step(NOW + S, ordered(source()).facts)
    assert lease_swap(decision) == replace(OURS, why="")
    assert not decision.departs


@pytest.mark.parametrize(
    "told",
    [
        ordered(source(), move="2" * 16),
        ordered(source(), to_slot=1),
        ordered(source(), to_slot=9),
        ordered(source(), lease_version=7),
        ordered(source(), def_version=7),
        ordered(source().wants(record())),
        ordered(here(source())),
        ordered(gone(source())),
    ],
    ids=["another", "here", "nobody", "lease", "record", "no wish", "paused", "gone"],
)
def test_orders_that_are_not_carried_out(told: Story) -> None:
    lease = lease_swap(PoolCore(SETTINGS).step(NOW + S, told.facts))
    assert lease is None or lease.move is None


def test_the_lease_is_given_only_after_the_hands_saw_it_leave() -> None:
    core = PoolCore(SETTINGS)
    told = begun(core)
    busy = told._with(busy=frozenset({("move", "web")}))
    assert lease_swap(core.step(NOW + 2 * S, busy.facts)) is None
    assert lease_swap(core.step(NOW + 2 * S, gone(busy).facts)) is None, "it is gone, not yet left"
    still = core.step(NOW + 3 * S, reports(told, ok=True).facts)
    assert lease_swap(still) is None, "its process is still here"
    assert not still.starts
    given = lease_swap(core.step(NOW + 3 * S, gone(told).facts))
    assert given is not None
    assert (given.slot, given.term, given.via, given.move) == (2, term(2), "migration", WAY)


def test_what_has_left_is_no_stranger_while_libvirt_still_lists_it() -> None:
    core = PoolCore(SETTINGS)
    told = begun(core)
    core.step(NOW + 2 * S, gone(reports(told, ok=True)).facts)
    listed = leased(told.guard(populated=frozenset()), GIVEN, 3)
    decision = core.step(NOW + 3 * S, listed.facts)
    assert not decision.kills
    assert [n.code for n in decision.notes if n.vm == "web"] == ["lease-given"]
    alive = core.step(NOW + 3 * S, leased(told, GIVEN, 3).facts)
    assert [k.vm for k in alive.kills] == ["web"], "a process without a lease is ended"


def test_a_restarted_agent_gives_nothing_away() -> None:
    told = gone(leased(source(), OURS))
    first = PoolCore(SETTINGS).step(NOW + S, reports(told, ok=True).facts)
    assert [s.name for s in first.swaps if s.name.startswith("vm/")] == ["vm/web"]
    assert lease_swap(first) is None
    failed = told.wants(record(move=replace(WISH, failed="restarted")), 2)
    given_up = lease_swap(PoolCore(SETTINGS).step(NOW + 2 * S, failed.facts))
    assert given_up is not None
    assert given_up.move is None
    assert given_up.slot == 1


def test_a_move_that_failed_is_told_before_it_leaves_the_lease() -> None:
    core = PoolCore(SETTINGS)
    told = begun(core)
    decision = core.step(NOW + 2 * S, reports(told, ok=False, why="no way").facts)
    (swap,) = [s for s in decision.swaps if s.name == "vm/web"]
    assert getattr(swap.value, "move", None) == replace(WISH, failed="no way")
    assert lease_swap(decision) is None
    assert [n.sentence for n in decision.notes if n.code == "move-failed"] == [
        "web stays on a: no way"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.wants(record(move=None), 2),
        lambda told: told.wants(record(move=replace(WISH, id="2" * 16)), 2),
        lambda told: told.wants(record(move=WISH, held_down="by hand"), 2),
        lambda told: told.follows(
            replace(told.facts.view, members={1: told.facts.view.members[1]})
        ),
    ],
    ids=["taken back", "another wish", "not wanted", "target out"],
)
def test_what_ends_a_move_that_has_begun(change: object) -> None:
    core = PoolCore(SETTINGS)
    told = begun(core)._with(busy=frozenset({("move", "web")}))
    decision = core.step(NOW + 2 * S, change(told).facts)  # type: ignore[operator]
    assert [a.vm for a in decision.aborts] == ["web"]
    again = core.step(NOW + 3 * S, change(told).facts)  # type: ignore[operator]
    assert not again.aborts, "said once"


def test_no_more_moves_at_once_than_the_pool_allows() -> None:
    told = ordered(source())
    leases = dict(told.facts.leases)
    for vm in ("v1", "v2"):
        leases[vm] = Held(2, replace(OURS, vm=vm), NOW - S)
        told = told.wants(record(vm, move=WISH))
    told = told._with(leases=leases, busy=frozenset({("move", "v1"), ("move", "v2")}))
    lease = lease_swap(PoolCore(SETTINGS).step(NOW + S, told.facts))
    assert lease is None or lease.vm != "web"


# ---- the host it comes to


def target() -> Story:
    return story(me=2).wants(record(move=WISH))


def test_a_copy_stands_still_until_its_lease_is_here() -> None:
    decision = PoolCore(SETTINGS).step(NOW + S, copy(leased(target(), OURS)).facts)
    assert not decision.kills
    assert not decision.resumes
    goes_on = PoolCore(SETTINGS).step(NOW + S, copy(leased(target(), GIVEN, 3)).facts)
    assert [r.vm for r in goes_on.resumes] == ["web"]


@pytest.mark.parametrize(
    "told",
    [
        copy(leased(target(), replace(OURS, move=None))),
        copy(leased(target(), replace(OURS, move=replace(WAY, id="2" * 16)))),
        copy(leased(target(), replace(OURS, move=replace(WAY, to_term=term(2, 0))))),
        copy(leased(target(), replace(OURS, move=replace(WAY, to_slot=3)))),
        runs(leased(target(), OURS)),
        here(leased(target(), OURS)),
        copy(target()),
    ],
    ids=["given up", "another move", "earlier term", "another host", "runs", "no copy", "no lease"],
)
def test_what_no_lease_names_is_ended(told: Story) -> None:
    decision = PoolCore(SETTINGS).step(NOW + S, told.facts)
    assert [k.vm for k in decision.kills] == ["web"]
    assert not decision.resumes


@pytest.mark.parametrize(
    "lease",
    [
        replace(GIVEN, via="takeover"),
        replace(GIVEN, move=None),
        replace(GIVEN, move=replace(WAY, id="2" * 16)),
    ],
)
def test_a_lease_got_in_another_way_ends_the_copy(lease: Lease) -> None:
    decision = PoolCore(SETTINGS).step(NOW + S, copy(leased(target(), lease, 3)).facts)
    assert [k.vm for k in decision.kills] == ["web"]
    assert not decision.resumes
    assert not decision.starts


def test_it_starts_from_its_disk_when_the_copy_is_gone() -> None:
    decision = PoolCore(SETTINGS).step(NOW + S, leased(target(), GIVEN, 3).facts)
    assert [s.vm for s in decision.starts] == ["web"]


def test_a_copy_that_does_not_go_on_is_ended_at_last() -> None:
    core, told = PoolCore(SETTINGS), copy(leased(target(), GIVEN, 3))
    tries = 0
    while not (decision := core.step(NOW + tries * S, told.facts)).kills:
        tries += len(decision.resumes)
        assert tries < 20
    assert tries == 5


def test_the_wish_is_fulfilled_when_it_runs() -> None:
    core = PoolCore(SETTINGS)
    core.step(NOW + S, copy(leased(target(), GIVEN, 3)).facts)
    decision = core.step(NOW + 2 * S, runs(leased(target(), GIVEN, 3)).facts)
    (swap,) = [s for s in decision.swaps if s.name == "vm/web"]
    assert getattr(swap.value, "move", "") is None
    assert "vm-moved" in [n.code for n in decision.notes]


def test_a_vm_that_libvirt_left_standing_goes_on_when_its_move_is_over() -> None:
    stuck = here(leased(source(), replace(OURS, move=None)), reason="migration")
    decision = PoolCore(SETTINGS).step(NOW + S, stuck.facts)
    assert [r.vm for r in decision.resumes] == ["web"]
    other = here(leased(source(), replace(OURS, move=None)), reason="disk error")
    assert not PoolCore(SETTINGS).step(NOW + S, other.facts).resumes


# ---- what a decision may never hold


def refused(told: Story, decision: Decision, word: str) -> None:
    with pytest.raises(BrokenInvariant, match=word):
        check(told.facts, decision)


def swap(lease: Lease) -> Decision:
    return Decision(swaps=(Swap("lease/web", 2, lease, "told"),))


def test_a_lease_is_given_only_to_whom_it_names() -> None:
    told = gone(leased(source(), OURS))
    check(told.facts, swap(GIVEN))
    refused(told, swap(replace(GIVEN, slot=3, term=term(3))), "somebody else")
    refused(told, swap(replace(GIVEN, term=term(2, 0))), "somebody else")
    refused(told, swap(replace(GIVEN, via="start")), "somebody else")
    refused(told, swap(replace(GIVEN, move=None)), "somebody else")
    refused(gone(leased(source(), replace(OURS, move=None))), swap(GIVEN), "somebody else")
    refused(leased(story(me=3), OURS), swap(GIVEN), "somebody else")
    refused(leased(source(), OURS), swap(GIVEN), "still here")


def test_what_is_on_its_way_is_not_started_or_let_go_on() -> None:
    told = leased(source(), OURS)
    refused(told, Decision(starts=(Start("web", record().spec, 2, ""),)), "on its way")
    refused(told, Decision(resumes=(Resume("web", ""),)), "on its way")
    refused(told, Decision(departs=(Depart("web", "2" * 16, 2),)), "does not name")
    refused(told, Decision(departs=(Depart("web", ID, 3),)), "does not name")


def test_a_copy_goes_on_only_under_its_own_lease() -> None:
    resume = Decision(resumes=(Resume("web", ""),))
    check(copy(leased(target(), GIVEN)).facts, resume)
    refused(copy(leased(target(), OURS)), resume, "without seeing")
    refused(copy(leased(target(), replace(GIVEN, via="takeover"))), resume, "handed over")
    refused(copy(leased(target(), GIVEN), "2" * 16), resume, "handed over")
