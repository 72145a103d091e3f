"""File systems inside a VM at rest: never for longer than a while, whatever became of who asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from outlast.errors import NotFound
from outlast.hypervisor import libvirt_rest
from outlast.hypervisor.driver import LibvirtGone
from outlast.hypervisor.libvirt_rest import Resting


class Domain:
    """libvirt's part: a system inside with a guest agent, or without one."""

    def __init__(self, *, answers: bool = True, slow: bool = False, here: bool = True) -> None:
        self.answers, self.slow, self.here = answers, slow, here
        self.frozen = False
        self.away = 0  # so many questions are not answered
        self.thawed = threading.Event()

    def fsFreeze(self) -> int:
        if not self.answers:
            raise libvirt.libvirtError("Guest agent is not responding")
        self.frozen = True
        return 2

    def fsThaw(self) -> int:
        self.frozen = False
        self.thawed.set()
        return 2

    def ask(self, what: str, name: str, act: Callable[[Any], None], limit_s: float) -> None:
        if not self.here:
            raise NotFound(f"'{name}' does not run here")
        if what == "thaw" and self.away:
            self.away -= 1
            raise LibvirtGone("no connection yet")
        act(self)
        if self.slow and what == "freeze":
            raise LibvirtGone("no answer in time")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt_rest, "FREEZE_MAX_S", 0.3)
    monkeypatch.setattr(libvirt_rest, "AGAIN_S", 0.1)


def test_frozen_and_thawed_by_whoever_asked() -> None:
    domain = Domain()
    disks = Resting(domain.ask, None)
    assert disks.freeze("web")
    assert domain.frozen
    disks.thaw("web")
    assert not domain.frozen
    domain.thawed.clear()
    assert not domain.thawed.wait(0.6), "it was thawed again later"


def test_nobody_thaws_it_and_it_thaws_by_itself() -> None:
    domain = Domain()
    assert Resting(domain.ask, None).freeze("web")
    assert domain.thawed.wait(10)
    assert not domain.frozen


def test_an_answer_that_comes_too_late_is_thawed_too() -> None:
    domain = Domain(slow=True)
    with pytest.raises(LibvirtGone):
        Resting(domain.ask, None).freeze("web")
    assert domain.thawed.wait(10)


def test_without_a_guest_agent_nothing_is_frozen_nor_thawed() -> None:
    domain = Domain(answers=False)
    assert not Resting(domain.ask, None).freeze("web")
    assert not domain.thawed.wait(0.6)
    domain = Domain(here=False)
    with pytest.raises(NotFound):
        Resting(domain.ask, None).freeze("web")
    Resting(domain.ask, None).thaw("web")


def test_a_thaw_that_fails_is_tried_again() -> None:
    domain = Domain()
    resting = Resting(domain.ask, None)
    assert resting.freeze("web")
    domain.away = 2
    resting.thaw("web")
    assert domain.frozen
    assert domain.thawed.wait(10)


def test_whoever_begins_again_thaws_what_its_life_before_froze(tmp_path: Path) -> None:
    domain = Domain()
    marks = tmp_path / "frozen"
    first = Resting(domain.ask, marks)
    assert first.freeze("web")
    assert [mark.name for mark in marks.iterdir()] == ["web"]
    domain.away = 1  # as libvirt is when an agent begins
    Resting(domain.ask, marks)
    assert domain.thawed.wait(10)
    end_s = time.monotonic() + 10
    while list(marks.iterdir()) and time.monotonic() < end_s:
        time.sleep(0.01)
    assert not list(marks.iterdir())
    later = Domain()
    Resting(later.ask, marks)
    assert not later.thawed.wait(0.6), "nothing was left to thaw"
