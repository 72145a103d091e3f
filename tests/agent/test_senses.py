"""What an agent makes of its pulse's words, above all of those of a pulse that has just begun."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.agent.hands import Hands
from outlast.agent.machine import Machine
from outlast.agent.registers import Registers
from outlast.agent.senses import Senses
from outlast.guard.client import GuardClient, GuardGone
from outlast.guard.pulse_net import Networks
from outlast.guard.pulse_snapshot import build
from outlast.hypervisor.driver import KILLED, DriverEvent, EventKind
from outlast.model import NO_TERM, BlockState, GuardState
from outlast.pool.facts import Exit, Facts, GuardFacts, Me
from outlast.pool.reporting import Found
from outlast.settings import PRESETS, S
from outlast.storage.memory import MemoryRegister

TERM = "a" * 32
NOW_NS = 100 * S


def no_guard() -> GuardClient:
    raise GuardGone("the guard is not there")


@pytest.fixture
def machine() -> Machine:
    driver: Any = None  # nothing here asks it
    return Machine(driver, no_guard, lambda: None, 1.0)


@pytest.fixture
def senses(machine: Machine) -> Senses:
    registers = Registers(MemoryRegister(), lambda: None)
    driver: Any = None
    hands = Hands(registers, driver, no_guard, machine, lambda: None)
    return Senses(
        Me(1, "a", "uuid-a"), PRESETS["lab"], registers, machine, hands, lambda: NOW_NS, Found,
        dict, lambda: None,
    )  # fmt: skip


def newborn() -> dict[str, Any]:
    """What a pulse says before it has read anything."""
    return build(
        None, NOW_NS, guard=None, ears=None, storage_error="not read yet", refresh_error="",
        pending_ns=0, nudges=[], networks=Networks(()), slot=1, extension={}, proposed=0, drill={},
    )  # fmt: skip


def member() -> dict[str, Any]:
    sample = {
        "seq": 7, "started_ns": NOW_NS, "finished_ns": NOW_NS, "good": True, "run_ns": S,
    }  # fmt: skip
    return {**newborn(), "term": TERM, "state": "member", "sample": sample}


def known(senses: Senses) -> Facts:
    facts = senses.facts()
    assert isinstance(facts, Facts)
    return facts


def test_nothing_is_known_before_the_pulse_knows_its_term(senses: Senses) -> None:
    assert senses.facts() == "the pulse of this host has not been heard yet"
    senses.hear(newborn())
    assert senses.facts() == "the pulse of this host has just begun and has no term yet"


def test_a_pulse_that_begins_anew_does_not_take_the_term_away(senses: Senses) -> None:
    """All VMs here would be ended as strangers: none has a lease for "no term"."""
    senses.hear(member())
    assert known(senses).term == TERM
    senses.hear(newborn())
    assert (known(senses).term, known(senses).block_state) == (TERM, BlockState.MEMBER)
    assert senses.snapshot is not None
    assert senses.snapshot["term"] == NO_TERM, "what people are told is the newest word"


def test_a_new_term_is_believed_at_once(senses: Senses) -> None:
    senses.hear(member())
    senses.hear({**member(), "term": "b" * 32, "state": "joining"})
    assert (known(senses).term, known(senses).block_state) == ("b" * 32, BlockState.JOINING)


def test_a_guard_that_does_not_answer_has_not_closed(machine: Machine) -> None:
    class Gone:
        """A driver that is away as well."""

        def list(self) -> Any:
            from outlast.hypervisor.driver import LibvirtGone

            raise LibvirtGone("not there")

    machine._driver = Gone()  # type: ignore[assignment]
    open_guard = GuardFacts(GuardState.OPEN, TERM, S, frozenset({"web"}))
    machine.seen = type(machine.seen)(guard=open_guard, guard_ready=True)
    seen = machine.look()
    assert not seen.guard_ready
    assert (seen.guard.state, seen.guard.term) == (GuardState.OPEN, TERM)
    assert seen.guard.remaining_ns < 0, "nothing may begin"
    assert seen.guard.populated == {"web"}


def test_the_guards_state_and_its_reason_are_of_one_answer(machine: Machine) -> None:
    class Guard:
        def status(self) -> dict[str, Any]:
            return {"state": "closed", "term": TERM, "remaining_ns": -1, "deadline_ns": 5,
                    "vms": {}, "reason": "past its deadline"}  # fmt: skip

    machine._guard = Guard()  # type: ignore[assignment]
    machine.look_at_guard()
    assert machine.seen.guard.state is GuardState.CLOSED
    assert machine.seen.guard_reason == "past its deadline"


@pytest.mark.parametrize(
    ("kind", "detail", "said"),
    [
        (EventKind.STOPPED, "the system inside shut down", "shutdown"),
        (EventKind.STOPPED, KILLED, "killed"),
        (EventKind.CRASHED, "its QEMU process ended unexpectedly", "crashed"),
    ],
)
def test_how_a_vm_ended(machine: Machine, kind: EventKind, detail: str, said: str) -> None:
    """A VM that this host killed has not shut itself down."""
    machine._event(DriverEvent("web", kind, detail, NOW_NS))
    assert machine.take_exits() == (Exit("web", said, detail),)
