"""`outlast host fence`: settings, secrets, the test and the plug, with a tiny fence agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Outlast

from outlast.model import SlotRecord
from outlast.storage.format import slot_to
from outlast.storage.posix import PosixRegister

# it keeps its power in a file, and what it was told in another
AGENT = """#!/bin/sh
cd {folder} && cat > told
case "$(cat told)" in
    *password=right*) ;;
    *) echo "login failed: $(tr '\\n' ' ' <told)"; exit 1 ;;
esac
case "$(grep action told)" in
    action=off) echo off > power ;;
    action=status) [ "$(cat power)" = on ] || exit 2 ;;
esac
"""
RECORD = SlotRecord(1, "b", "00000001-0000-4000-8000-000000000000", 1, True)


@pytest.fixture
def board(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pool with the host b, and a folder with its switch."""
    PosixRegister(pool, "test").swap("slot/1", 0, slot_to(RECORD))
    folder = tmp_path / "agents"
    folder.mkdir()
    program = folder / "fence_own"
    program.write_text(AGENT.format(folder=folder))
    program.chmod(0o755)
    (folder / "power").write_text("on\n")
    for name, word in (("right", "right"), ("wrong", "wr0ng")):
        (folder / name).write_text(f"{word}\n")
    monkeypatch.setenv("OUTLAST_FENCE_AGENTS", str(folder))
    return folder


def given(pool: Path, *args: str) -> tuple[str, ...]:
    return ("host", "fence", *args, "--pool", str(pool))


def wish(board: Path, secret: str) -> tuple[str, ...]:
    return ("set", "b", "fence_own", "--option", "ip=10.0.0.9",
            "--secret", f"password={board / secret}")  # fmt: skip


def test_set_asks_the_switch_and_shows_no_secret(outlast: Outlast, pool: Path, board: Path) -> None:
    said = outlast(*given(pool, *wish(board, "right")))
    assert (said.code, "it is on" in said.out) == (0, True)
    assert (board / "told").read_text() == "ip=10.0.0.9\npassword=right\naction=status\n"
    shown = outlast(*given(pool, "show"))
    assert "fence_own ip=10.0.0.9 password=***" in shown.out
    told = outlast(*given(pool, "show", "b", "--json")).json["hosts"]["b"]
    assert (told["agent"], told["secrets"]) == ("fence_own", ["password"])
    dump = outlast("storage", "dump", str(pool))
    assert dump.code == 0 and "right" not in dump.out
    assert outlast(*given(pool, "set", "b", "--none")).code == 0
    assert "no power switch" in outlast(*given(pool, "show", "b")).out
    assert outlast(*given(pool, "test", "b")).code == 3


def test_a_switch_that_does_not_answer_is_said_without_the_secret(
    outlast: Outlast, pool: Path, board: Path
) -> None:
    said = outlast(*given(pool, *wish(board, "wrong")))
    assert said.code == 7 and "login failed" in said.err
    assert "wr0ng" not in said.err + said.out
    assert outlast(*given(pool, "off", "b", "--force", "--yes")).code == 7
    assert (board / "power").read_text() == "on\n"


def test_the_plug_is_pulled_in_maintenance_only(outlast: Outlast, pool: Path, board: Path) -> None:
    assert outlast(*given(pool, "off", "b", "--yes", "--force")).code == 3
    outlast(*given(pool, *wish(board, "right")))
    refused = outlast(*given(pool, "off", "b", "--yes"))
    assert refused.code == 4 and "in service" in refused.err
    register = PosixRegister(pool, "test")
    register.swap("slot/1", 1, slot_to(replace(RECORD, maintenance="new memory")))
    assert outlast(*given(pool, "off", "b")).code == 2, "nobody was asked"
    done = outlast(*given(pool, "off", "b", "--yes", "--json"))
    assert (done.code, done.json["outcome"]) == (0, "off")
    assert outlast(*given(pool, "off", "b", "--yes", "--json")).json["outcome"] == "already-off"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("set", "c", "fence_own"), 3, "no host 'c'"),
        (("set", "b"), 2, "which fence agent"),
        (("set", "b", "fence_none"), 2, "no fence agent fence_none"),
        (("set", "b", "fence_own", "--option", "password=x"), 2, "is a secret"),
        (("set", "b", "fence_own", "--secret", "password"), 2, "nobody is there"),
        (("set", "b", "fence_own", "--secret", "password=/none/x"), 2, "No such file"),
    ],
)
def test_what_is_refused(
    outlast: Outlast, pool: Path, board: Path, args: tuple[str, ...], code: int, words: str
) -> None:
    said = outlast(*given(pool, *args))
    assert (said.code, words in said.err) == (code, True), said.err
