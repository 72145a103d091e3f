"""Each change of a VM is told once, whether libvirt's event or a look around brought it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.hypervisor import libvirt_words as words
from outlast.hypervisor.driver import DriverEvent, EventKind
from outlast.hypervisor.libvirt_ledger import Known, Ledger
from outlast.hypervisor.libvirt_link import Happening
from outlast.model import VmSpec, VmState

UUID = "00000000-0000-4000-8000-000000000001"
SPEC = VmSpec("web", UUID, 8, 1)
RUNNING, PAUSED, STARTING = VmState.RUNNING, VmState.PAUSED, VmState.STARTING


class Scene:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.events: list[DriverEvent] = []
        self.ledger.subscribe(self.events.append)
        self.ledger.arrived([])
        self.ledger.expect(SPEC)
        known = self.ledger.get(UUID)
        assert known is not None
        self.web: Known = known

    def told(self, event: int | None, detail: int = 0) -> None:
        item = Happening(UUID, "web", event, detail, ("/a", "", 1, ""), 1, None)
        self.ledger.happened(self.web, item)

    def audit(self, *states: VmState) -> None:
        self.ledger.audited([(self.web, state) for state in states])

    @property
    def kinds(self) -> str:
        return " ".join(event.kind for event in self.events)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_ran_before_is_no_news() -> None:
    ledger, events = Ledger(), []
    ledger.subscribe(events.append)
    web = ledger.put(Known(UUID, "web", True, 1, 8, 1))
    ledger.arrived([(web, PAUSED)])
    assert (events, web.running, web.paused) == ([], True, True)


def test_an_end_that_libvirt_did_not_tell_is_told_after_two_looks(scene: Scene) -> None:
    scene.told(words.STARTED)
    scene.audit()
    assert scene.kinds == "started"
    scene.audit()
    scene.audit()
    assert scene.kinds == "started crashed"


def test_libvirts_own_words_win_when_they_come_in_time(scene: Scene) -> None:
    scene.told(words.STARTED)
    scene.audit()
    scene.told(words.STOPPED, 0)
    scene.audit()
    assert scene.kinds == "started stopped"


def test_a_late_event_is_not_told_again(scene: Scene) -> None:
    scene.told(words.STARTED)
    scene.audit()
    scene.audit()
    scene.told(words.STOPPED, 0)
    assert scene.kinds == "started crashed"


def test_our_own_kill_is_a_stop_however_it_is_noticed(scene: Scene) -> None:
    scene.told(words.STARTED)
    scene.ledger.kills(UUID)
    scene.audit()
    scene.audit()
    scene.told(words.STARTED)
    scene.ledger.kills(UUID)
    scene.told(words.STOPPED, 5)
    scene.told(words.STARTED)
    scene.told(words.STOPPED, 5)
    assert scene.kinds == "started stopped started stopped started crashed"


def test_a_kill_of_an_earlier_life_says_nothing_of_the_next(scene: Scene) -> None:
    scene.ledger.kills(UUID)
    scene.ledger.expect(SPEC)
    scene.told(words.STARTED)
    scene.told(words.STOPPED, 5)
    assert scene.kinds == "started crashed"


def test_a_vm_on_its_way_up_has_not_started(scene: Scene) -> None:
    scene.audit(STARTING)
    scene.audit(STARTING)
    assert scene.kinds == ""
    scene.audit(RUNNING)
    scene.audit(RUNNING)
    assert scene.kinds == "started"


def test_after_an_outage_one_look_is_enough(scene: Scene) -> None:
    scene.told(words.STARTED)
    scene.ledger.arrived([(scene.web, PAUSED)])
    scene.ledger.arrived([])
    scene.ledger.arrived([(scene.web, RUNNING)])
    assert scene.kinds == "started paused crashed started"


def test_a_failing_subscriber_does_not_rob_the_others(scene: Scene) -> None:
    ledger, events = Ledger(), []

    def fail(_: DriverEvent) -> None:
        raise ValueError("mine")

    ledger.subscribe(fail)
    ledger.subscribe(events.append)
    ledger.expect(SPEC)
    web = ledger.get(UUID)
    assert web is not None
    ledger.arrived([])
    ledger.arrived([(web, RUNNING)])
    assert [event.kind for event in events] == ["started"]


TOLD = [
    (words.STARTED, 0),
    (words.SUSPENDED, 2),
    (words.RESUMED, 0),
    (words.SHUTDOWN, 2),
    (words.STOPPED, 0),
    (words.STOPPED, 5),
]
LIFE = st.sampled_from([*TOLD, "kill", "look", RUNNING, PAUSED])


@given(st.lists(LIFE, max_size=40))
def test_any_story_is_told_in_a_sensible_order(story: list[object]) -> None:
    scene = Scene()
    for part in story:
        if part == "kill":
            scene.ledger.kills(UUID)
        elif part == "look":
            scene.audit()
        elif isinstance(part, VmState):
            scene.audit(part)
        else:
            scene.told(*part)  # type: ignore[misc]
    running = paused = False
    for event in scene.events:
        if event.kind is EventKind.STARTED:
            assert not running
            running, paused = True, False
        elif event.kind in (EventKind.STOPPED, EventKind.CRASHED):
            assert running
            running = False
        else:
            assert running
            assert paused is (event.kind is EventKind.RESUMED)
            paused = not paused
    assert running == scene.web.running
