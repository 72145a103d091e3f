"""Ctrl-C over work that is followed: it is broken off, at whatever moment that comes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from outlast.cli.waiting import follow
from outlast.errors import NotFound, StorageTrouble


@dataclass
class Work:
    state: str = ""
    sentence: str = "copying"
    done_bytes: int = 0
    total_bytes: int = 0
    given_up: int = 0

    def begin(self) -> None:
        self.state = "running"

    def status(self) -> Work:
        return self

    def give_up(self) -> None:
        self.given_up += 1
        if not self.state:
            raise NotFound("nothing is under way")


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_it_is_broken_off_while_it_goes_on() -> None:
    work = Work()
    with pytest.raises(KeyboardInterrupt):
        follow(work.begin, work.status, work.give_up, interrupted)
    assert work.given_up == 1


@pytest.mark.parametrize("taken", [True, False])
def test_it_is_broken_off_before_its_beginning_was_answered(taken: bool) -> None:
    work = Work()

    def begin() -> None:
        if taken:
            work.begin()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(begin, work.status, work.give_up, lambda _: None)
    assert work.given_up == 1


def test_what_was_refused_is_nobodys_to_break_off() -> None:
    work = Work(state="running")

    def begin() -> None:
        raise StorageTrouble("another one is under way")

    with pytest.raises(StorageTrouble):
        follow(begin, work.status, work.give_up, lambda _: None)
    assert not work.given_up
