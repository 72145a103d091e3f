"""The pool's witness: reached, lost, or not known; and a real address that is asked."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "pool"))

import pytest
from build import story

from outlast.agent.witness import Witness
from outlast.errors import InvalidInput
from outlast.network.echo import Echo, addresses
from outlast.pool.journal import Note
from outlast.settings import PRESETS, PoolSettings

LAB = PRESETS["lab"]
TWO = "192.0.2.1,192.0.2.2"


class Board:
    """An agent of which time passes, and addresses that answer or do not."""

    def __init__(self, witness: str = TWO) -> None:
        self.settings = PoolSettings("lab1", "0" * 32, LAB, witness=witness)
        self.now_ns = 10**12
        self.answer = {"192.0.2.1"}
        self.asked: set[str] = set()
        self.broken = self.closed = False
        self.told: list[Note] = []
        facts = story().facts
        self.witness = Witness(
            lambda: (replace(facts, pool=self.settings), self.settings), self.port,
            lambda: self.now_ns, self.told.append,
        )  # fmt: skip

    def port(self) -> Board:
        if self.broken:
            raise PermissionError
        return self

    def ask(self, address: str) -> None:
        self.asked.add(address)

    def answered(self) -> set[str]:
        asked, self.asked = self.asked, set()
        return asked & self.answer

    def close(self) -> None:
        self.closed = True

    def go(self, beats: int) -> bool | None:
        for _ in range(beats):
            self.witness.look()
            self.now_ns += LAB.beat_ns
        return self.witness.known

    def said(self) -> list[str]:
        codes = [one.code for one in self.told]
        self.told.clear()
        return codes


def test_it_is_reached_while_one_address_answers_and_lost_after_as_long_as_a_link() -> None:
    board = Board()
    assert board.go(1) is None, "nobody has answered yet"
    assert board.go(1) is True
    board.answer = {"192.0.2.2"}
    assert board.go(20) is True
    board.answer = set()
    assert board.go(5) is True
    assert board.said() == []
    assert board.go(3) is False
    assert board.said() == ["witness-lost"]
    assert board.go(20) is False
    assert board.said() == []
    board.answer = {"192.0.2.1"}
    assert board.go(2) is True
    assert board.said() == ["witness-back"]


def test_one_that_never_answers_is_lost_once_it_was_asked_for_long_enough() -> None:
    board = Board()
    board.answer = set()
    assert board.go(6) is None
    assert board.go(2) is False
    assert board.said() == ["witness-lost"]


def test_an_agent_that_slept_does_not_know() -> None:
    board = Board()
    assert board.go(3) is True
    board.answer = set()
    board.witness.look()
    board.now_ns += 100 * LAB.beat_ns
    assert board.go(5) is None
    assert board.said() == []
    assert board.go(3) is False


def test_without_a_witness_or_the_right_to_ask_nothing_is_known() -> None:
    board = Board("")
    assert board.go(20) is None
    assert not board.asked
    board = Board()
    board.broken = True
    assert board.go(20) is None
    board.broken = False
    assert board.go(2) is True


def test_another_witness_begins_anew() -> None:
    board = Board()
    assert board.go(3) is True
    board.settings = replace(board.settings, witness="192.0.2.9")
    assert board.go(5) is None
    assert board.go(3) is False


def test_addresses() -> None:
    assert addresses(" 192.0.2.1, 2001:DB8::1,192.0.2.1") == ("192.0.2.1", "2001:db8::1")
    assert addresses("") == ()
    with pytest.raises(InvalidInput, match=r"gateway\.example"):
        addresses("gateway.example")
    with pytest.raises(InvalidInput, match="at most 4"):
        addresses(",".join(f"192.0.2.{n}" for n in range(5)))


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_real_address_answers_who_asked_it(address: str) -> None:
    echo, other = Echo(), Echo()
    try:
        other.ask(address)
        echo.ask("127.255.255.254")  # opens the socket; what comes of it does not matter
        echo.ask(address)
        until, heard = time.monotonic() + 5, set[str]()
        while address not in heard and time.monotonic() < until:
            time.sleep(0.01)
            heard |= echo.answered()
        assert address in heard
        other_mark = other._mark
        assert echo._mark != other_mark
        time.sleep(0.1)
        assert echo.answered() == set(), "an answer counts once, and for who asked"
    finally:
        echo.close()
        other.close()
