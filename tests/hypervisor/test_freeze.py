"""File systems inside a VM at rest: never for longer than a while, whatever became of who asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import libvirt
import pytest

from outlast.errors import NotFound
from outlast.hypervisor import libvirt_disks
from outlast.hypervisor.driver import LibvirtGone
from outlast.hypervisor.libvirt_disks import LibvirtDisks


class Domain:
    """libvirt's part: a system inside with a guest agent, or without one."""

    def __init__(self, *, answers: bool = True, slow: bool = False, here: bool = True) -> None:
        self.answers, self.slow, self.here = answers, slow, here
        self.frozen = False
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
        act(self)
        if self.slow and what == "freeze":
            raise LibvirtGone("no answer in time")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt_disks, "FREEZE_MAX_S", 0.3)


def test_frozen_and_thawed_by_whoever_asked() -> None:
    domain = Domain()
    disks = LibvirtDisks(domain.ask)
    assert disks.freeze("web")
    assert domain.frozen
    disks.thaw("web")
    assert not domain.frozen
    domain.thawed.clear()
    assert not domain.thawed.wait(0.6), "it was thawed again later"


def test_nobody_thaws_it_and_it_thaws_by_itself() -> None:
    domain = Domain()
    assert LibvirtDisks(domain.ask).freeze("web")
    assert domain.thawed.wait(10)
    assert not domain.frozen


def test_an_answer_that_comes_too_late_is_thawed_too() -> None:
    domain = Domain(slow=True)
    with pytest.raises(LibvirtGone):
        LibvirtDisks(domain.ask).freeze("web")
    assert domain.thawed.wait(10)


def test_without_a_guest_agent_nothing_is_frozen_nor_thawed() -> None:
    domain = Domain(answers=False)
    assert not LibvirtDisks(domain.ask).freeze("web")
    assert not domain.thawed.wait(0.6)
    domain = Domain(here=False)
    with pytest.raises(NotFound):
        LibvirtDisks(domain.ask).freeze("web")
    LibvirtDisks(domain.ask).thaw("web")
