"""Listening to VMs that were just started: for how long, to whom, and what is never guessed."""

from __future__ import annotations

from collections.abc import Mapping

from outlast.agent.life_signs import LifeSigns
from outlast.errors import HypervisorTrouble
from outlast.model import LocalVm, VmState
from outlast.pool.facts import Sign
from outlast.pool.life import WATCH_NS
from outlast.settings import S


class Systems:
    """The part of the port Guests that listens; who speaks is the test's to say."""

    def __init__(self) -> None:
        self.speaks: dict[str, str] = {}
        self.asked: list[set[str]] = []
        self.trouble = False

    def answers(self, name: str) -> bool:
        return False

    def addresses(self, name: str) -> tuple[str, ...]:
        return ()

    def signs(self, vms: Mapping[str, int]) -> Mapping[str, str]:
        self.asked.append(set(vms))
        if self.trouble:
            raise HypervisorTrouble("libvirt does not answer")
        return {name: kind for name, kind in self.speaks.items() if name in vms}


def running(*names: str, began_ns: int = 10 * S) -> dict[str, LocalVm]:
    return {name: LocalVm(name, VmState.RUNNING, started_ns=began_ns) for name in names}


def test_a_sign_is_kept_while_its_process_is_young() -> None:
    systems = Systems()
    life = LifeSigns(systems)
    assert life.signs is None
    life.step(11 * S, running("web", "db"))
    assert life.signs == {}
    systems.speaks = {"web": "network"}
    life.step(12 * S, running("web", "db"))
    sign = Sign(10 * S, "network", 2 * S)
    assert life.signs == {"web": sign}
    life.step(13 * S, running("web", "db"))
    assert (life.signs, systems.asked[-1]) == ({"web": sign}, {"db"})
    life.step(10 * S + WATCH_NS, running("web", "db"))
    assert (life.signs, systems.asked[-1]) == ({}, set()), "the port lets go of what it holds"
    count = len(systems.asked)
    life.step(11 * S + WATCH_NS, running("web", "db"))
    assert len(systems.asked) == count, "nobody is young, so nobody is asked"


def test_a_new_process_is_listened_to_anew() -> None:
    systems = Systems()
    systems.speaks = {"web": "console"}
    life = LifeSigns(systems)
    life.step(11 * S, running("web"))
    systems.speaks = {}
    life.step(21 * S, running("web", began_ns=20 * S))
    assert (life.signs, systems.asked[-1]) == ({}, {"web"})
    systems.speaks = {"web": "agent"}
    life.step(25 * S, running("web", began_ns=20 * S))
    assert life.signs == {"web": Sign(20 * S, "agent", 5 * S)}


def test_only_what_runs_and_was_started_here_is_asked() -> None:
    systems = Systems()
    local = {
        "copy": LocalVm("copy", VmState.PAUSED, started_ns=10 * S, incoming="m1"),
        "paused": LocalVm("paused", VmState.PAUSED, started_ns=10 * S),
        "old": LocalVm("old", VmState.RUNNING),
        "web": LocalVm("web", VmState.RUNNING, started_ns=WATCH_NS),
    }
    LifeSigns(systems).step(WATCH_NS + S, local)
    assert systems.asked == [{"web"}]


def test_what_could_not_be_asked_is_not_known() -> None:
    systems = Systems()
    life = LifeSigns(systems)
    life.step(11 * S, running("web"))
    systems.trouble = True
    life.step(12 * S, running("web"))
    assert life.signs is None
    systems.trouble, systems.speaks = False, {"web": "console"}
    life.step(13 * S, running("web"))
    assert life.signs == {"web": Sign(10 * S, "console", 3 * S)}
