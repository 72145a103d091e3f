"""Tokens: one machine, once, in time, under its name, and only in the pool that made them."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import select
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Outlast

from outlast.cli import joining, machine, this_host, tokens
from outlast.errors import Conflict, InvalidInput, NotFound, OutlastError, Refused
from outlast.storage.layout import open_pool
from outlast.storage.posix import PosixRegister
from outlast.storage.records import slot_from, token_from, token_to

Place = Callable[[str], this_host.Places]


@pytest.fixture
def guarded(outlast: Outlast, tmp_path: Path) -> Path:
    """A pool that asks for tokens, with one host."""
    directory = tmp_path / "guarded"
    directory.mkdir()
    made = outlast("pool", "init", str(directory), "--name", "prod", "--local", "--watchdog", "off")
    assert made.code == 0, made.err
    assert "asks for a token" in made.out
    first = ("host", "join", str(directory), "--name", "a", "--address", "127.0.0.1", "--no-wait")
    assert outlast(*first).code == 0, "the first host needs none"
    return directory


@pytest.fixture
def as_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Be another machine from now on."""

    def become(name: str) -> this_host.Places:
        uuid = f"00000000-0000-4000-8000-{name.encode().hex():0>12}"
        monkeypatch.setattr(machine, "host_uuid", lambda _var: uuid)
        return this_host.Places(tmp_path / name / "etc", tmp_path / name / "var")

    return become


def make(pool: Path, host: str = "", for_s: int = 60) -> tokens.Token:
    register = PosixRegister(pool, "test")
    return tokens.issue(open_pool(pool), register, host, "anna", for_s)[0]


def wish(pool: Path, name: str, token: Path | None) -> joining.Wish:
    port = 7000 + ord(name[0]) * 10
    made = joining.Wish(pool, name, (f"127.0.0.1:{port}",), f"127.0.0.1:{port + 1}")
    return replace(made, token_file=token)


def written(tmp_path: Path, token: object) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    return file


def slots(pool: Path) -> dict[str, bool]:
    register = PosixRegister(pool, "test")
    records = [slot_from(register.read(name)[1]) for name in register.names("slot")]
    return {record.host: record.active for record in records}


def quiet(_: str) -> None:
    pass


def test_at_a_terminal_it_is_asked_for_and_nothing_is_drawn_over_the_question(
    guarded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTLAST_ETC", str(tmp_path / "b"))  # another machine's
    child, terminal = pty.fork()
    if child == 0:
        words = ["-m", "outlast.cli.main", "host", "join", str(guarded), "--name", "b"]
        os.execv(sys.executable, [sys.executable, *words])
    said, question = b"", b"Token for this machine: "
    while not said.endswith(question):
        said += os.read(terminal, 1 << 16)
    assert not select.select([terminal], [], [], 0.5)[0], os.read(terminal, 1 << 16)
    os.write(terminal, b"some other secret\n")
    with contextlib.suppress(OSError):  # it has ended
        while more := os.read(terminal, 1 << 16):
            said += more
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2, said
    assert b"this is not a token" in said
    assert b"some other secret" not in said


def test_a_token_is_good_once(guarded: Path, tmp_path: Path, as_machine: Place) -> None:
    file = written(tmp_path, make(guarded))
    made, _, _ = joining.join(wish(guarded, "b", file), as_machine("b"), quiet)
    assert made.host == "b"
    with pytest.raises(Refused, match="was used by b already"):
        joining.join(wish(guarded, "c", file), as_machine("c"), quiet)
    assert slots(guarded) == {"a": True, "b": True}


def test_a_machine_whose_join_was_interrupted_goes_on_with_its_token(
    guarded: Path, tmp_path: Path, as_machine: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, where = written(tmp_path, make(guarded)), as_machine("b")
    with monkeypatch.context() as broken:
        broken.setattr(joining, "issue_host", lambda *_: (_ for _ in ()).throw(OSError("pulled")))
        with pytest.raises(OSError, match="pulled"):
            joining.join(wish(guarded, "b", file), where, quiet)
    assert not (where.etc / "host.json").exists()
    made, _, _ = joining.join(wish(guarded, "b", file), where, quiet)
    assert (made.host, made.generation) == ("b", 2)


def test_two_machines_with_one_token(guarded: Path, tmp_path: Path) -> None:
    """Both read it while it is good; the register lets one of them use it."""
    token = make(guarded)
    barrier, ended = threading.Barrier(2), []

    class Both(PosixRegister):
        def swap(self, name, expected, value):  # type: ignore[no-untyped-def]
            barrier.wait(10)
            return super().swap(name, expected, value)

    def use(name: str) -> None:
        try:
            tokens.use(Both(guarded, name), token, name, f"uuid-{name}")
            ended.append("in")
        except OutlastError as refused:
            ended.append(refused.sentence)

    threads = [threading.Thread(target=use, args=(name,)) for name in ("c", "d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 2
    assert ended.count("in") == 1
    assert any("was used by" in said for said in ended)


def test_who_loses_the_race_for_a_token_gives_the_slot_back(
    guarded: Path, tmp_path: Path, as_machine: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make(guarded)
    take = joining._take_slot

    def faster(*args: object) -> object:
        record = take(*args)  # type: ignore[arg-type]
        tokens.use(PosixRegister(guarded, "other"), token, "z", "uuid-z")
        return record

    monkeypatch.setattr(joining, "_take_slot", faster)
    where = as_machine("b")
    with pytest.raises(Refused, match="was used by z already"):
        joining.join(wish(guarded, "b", written(tmp_path, token)), where, quiet)
    assert slots(guarded) == {"a": True, "b": False}
    assert not where.etc.exists()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda t, _: replace(t, secret="0" * 32), "does not know this token"),
        (lambda t, _: replace(t, id="0" * 8), "does not know this token"),
        (lambda t, _: replace(t, authority="0" * 32), "certificate authority is another one"),
        (lambda _, pool: make(pool, for_s=0), "good no more"),
        (lambda _, pool: make(pool, host="x"), "for a host named 'x'"),
    ],
)
def test_tokens_that_are_none(
    guarded: Path,
    tmp_path: Path,
    as_machine: Place,
    spoil: Callable[[tokens.Token, Path], tokens.Token],
    why: str,
) -> None:
    token = spoil(make(guarded), guarded)
    with pytest.raises(Refused, match=why):
        joining.join(wish(guarded, "b", written(tmp_path, token)), as_machine("b"), quiet)
    assert slots(guarded) == {"a": True}


def test_without_a_token_there_is_a_way_out(
    guarded: Path, tmp_path: Path, as_machine: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = as_machine("b")
    with pytest.raises(Refused, match="asks for a token") as caught:
        joining.join(wish(guarded, "b", None), where, quiet)
    assert "outlast host token" in caught.value.hint
    with pytest.raises(InvalidInput, match="not a token") as bad:
        joining.join(wish(guarded, "b", written(tmp_path, "hunter2")), where, quiet)
    assert "hunter2" not in str(bad.value)
    with pytest.raises(InvalidInput, match="cannot be read"):
        joining.join(wish(guarded, "b", tmp_path / "none"), where, quiet)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{make(guarded)}\n"))
    assert joining.join(wish(guarded, "b", Path("-")), where, quiet)[0].host == "b"


def test_the_command(guarded: Path, outlast: Outlast) -> None:
    said = outlast("host", "token", "--name", "b", "--for", "2d")
    assert said.code == 0, said.err
    token = tokens.parse(said.out)
    assert "for 2d" in said.err and f"outlast host join {guarded}" in said.err
    listed = outlast("host", "token", "--list")
    assert token.id in listed.out and "good until" in listed.out and "for b" in listed.out
    assert token.secret not in listed.out + outlast("--json", "host", "token", "--list").out
    assert outlast("host", "token", "--revoke", token.id).code == 0
    with pytest.raises(Refused, match="good no more"):
        tokens.use(PosixRegister(guarded, "test"), token, "b", "uuid-b")
    gone = outlast("host", "token", "--revoke", "nonsense/../x")
    assert gone.code == NotFound("").exit_code
    assert "there is no token" in gone.err


def test_a_used_token_cannot_be_taken_back(guarded: Path) -> None:
    token, register = make(guarded), PosixRegister(guarded, "test")
    tokens.use(register, token, "b", "uuid-b")
    with pytest.raises(Conflict, match="used by b"):
        tokens.revoke(register, token.id)


def test_the_pool_keeps_no_secret(guarded: Path) -> None:
    token = make(guarded)
    for file in (guarded / "reg/token" / token.id).iterdir():
        assert token.secret not in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
    _, value = PosixRegister(guarded, "test").read(f"token/{token.id}")
    record = token_from(value)
    assert token_from(token_to(record)) == record
