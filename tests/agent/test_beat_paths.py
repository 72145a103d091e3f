"""One of several heartbeat networks is lost: told once, and once when it is back."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "pool"))

import pytest
from build import story

from outlast.agent.beat_paths import BeatPaths
from outlast.pool.facts import Facts
from outlast.pool.journal import Note
from outlast.settings import PRESETS, PoolSettings

LAB = PRESETS["lab"]
LIMIT_NS = LAB.link_lost_ns


class Board:
    """Hosts a, b and c with two heartbeat networks; what a's pulse says of the others."""

    def __init__(self, networks: int = 2) -> None:
        facts = story().facts
        slots = {
            n: replace(r, addresses=tuple(f"10.{net}.0.{n}:7790" for net in range(networks)))
            for n, r in facts.slots.items()
        }
        self.facts: Facts = replace(facts, slots=slots)
        self.now_ns = 10**12
        self.heard: dict[tuple[int, int], int] = {}
        self.trouble: dict[str, str] = {}
        self.told: list[Note] = []
        settings = PoolSettings("lab1", "0" * 32, LAB)
        self.paths = BeatPaths(
            lambda: (self.facts, settings), self.snapshot, self.told.append
        )  # fmt: skip

    def snapshot(self) -> dict[str, Any]:
        links: dict[str, Any] = {}
        for (slot, network), at_ns in self.heard.items():
            link = links.setdefault(str(slot), {"networks": {}})
            link["networks"][str(network)] = self.now_ns - at_ns
        return {"now_ns": self.now_ns, "links": links, "networks": self.trouble}

    def go(self, ns: int, *silent: tuple[int, int], networks: int = 2) -> list[str]:
        """Let time pass; everybody is heard everywhere, but not over the silent paths."""
        self.told.clear()
        for _ in range(10):
            self.now_ns += ns // 10
            for slot in (2, 3):
                for network in range(networks):
                    if (slot, network) not in silent:
                        self.heard[(slot, network)] = self.now_ns
            self.paths.look()
        return [f"{one.code} {one.fields['other']} {one.fields['network']}" for one in self.told]


def test_a_lost_path_is_told_once_and_its_return_once() -> None:
    board = Board()
    assert board.go(5 * LIMIT_NS) == []
    assert board.go(LIMIT_NS, (2, 1)) == [], "a link may be silent for so long"
    assert board.go(3 * LIMIT_NS, (2, 1)) == ["beats-lost b 2"]
    assert board.go(30 * LIMIT_NS, (2, 1)) == []
    assert board.go(LIMIT_NS) == ["beats-back b 2"]
    assert board.go(30 * LIMIT_NS) == []


def test_a_path_that_never_carried_anything_is_told() -> None:
    board = Board()
    board.trouble = {"0": "10.0.0.1:7790: Cannot assign requested address"}
    assert board.go(3 * LIMIT_NS, (2, 0), (3, 0)) == ["beats-lost b 1", "beats-lost c 1"]
    sentence = board.told[0].sentence
    assert sentence == (
        "a hears b no more on heartbeat network 1 (10.0.0.2:7790), only on another one "
        "(here: 10.0.0.1:7790: Cannot assign requested address)"
    )


def test_a_host_that_is_heard_nowhere_is_not_a_matter_of_paths() -> None:
    board = Board()
    board.go(LIMIT_NS)
    assert board.go(30 * LIMIT_NS, (2, 0), (2, 1)) == []


@pytest.mark.parametrize("networks", [0, 1])
def test_one_network_is_no_choice(networks: int) -> None:
    board = Board(networks)
    assert board.go(30 * LIMIT_NS, (2, 0), (3, 0), networks=networks) == []


def test_a_host_that_is_no_member_any_more_is_forgotten() -> None:
    board = Board()
    board.go(LIMIT_NS)
    assert board.go(3 * LIMIT_NS, (2, 1)) == ["beats-lost b 2"]
    view = board.facts.view
    assert view is not None
    without = replace(view, members={n: m for n, m in view.members.items() if n != 2})
    whole, board.facts = board.facts, replace(board.facts, view=without)
    assert board.go(LIMIT_NS, (2, 1)) == []
    board.facts = whole
    assert board.go(LIMIT_NS) == [], "it begins anew"
    assert board.go(3 * LIMIT_NS, (2, 1)) == ["beats-lost b 2"]
