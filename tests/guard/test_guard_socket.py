"""The guard's socket: garbage, crowds and peers that do not read harm nobody."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))
from guard_kit import T1, open_term
from guard_process import MS, ProcessGuard, until, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
S = 1000 * MS


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[ProcessGuard]:
    bench = ProcessGuard(tmp_path)
    yield bench
    bench.clean()


def connect(bench: ProcessGuard) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(5)
    one.connect(str(bench.socket))
    return one


def test_garbage_is_answered_and_harms_nobody(bench: ProcessGuard) -> None:
    assert bench.socket.stat().st_mode & 0o777 == 0o600
    for line in (
        b"\xff\xfe",
        b"{",
        b"[]",
        b"7",
        b'{"op": 7}',
        b'{"op": "fly"}',
        b"",
        b"[" * 9000,
        b'{"op": "open"}',
        b'{"op": "kill", "vm": "../.."}',
        b'{"op":"confirm","term":{}}',
    ):
        with connect(bench) as one:
            one.sendall(line + b"\n")
            reply = json.loads(one.makefile().readline())
            assert reply["ok"] is False and reply["error"], line  # fmt: skip
    with connect(bench) as one:
        one.sendall(b"x" * 70_000)
        assert "a line may have" in json.loads(one.makefile().readline())["error"]
    assert bench.answers()


def test_a_request_split_in_pieces_and_several_in_one(bench: ProcessGuard) -> None:
    with connect(bench) as one:
        one.sendall(b'{"op": "sta')
        bench.ask("status")
        one.sendall(b'tus"}\n{"op": "status"}\n{"op": "release", "vm": "a"}\n')
        one.shutdown(socket.SHUT_WR)
        lines = one.makefile().read().splitlines()
    assert [json.loads(line)["ok"] for line in lines] == [True, True, True]


def test_a_client_that_never_reads_blocks_nobody(bench: ProcessGuard) -> None:
    open_term(bench, T1, fence_ns=1200 * MS)
    bench.boot("web")
    deaf = [connect(bench) for _ in range(5)]
    for one in deaf:
        one.setblocking(False)
    slowest_s, end = 0.0, time.monotonic() + 3
    while time.monotonic() < end and bench.alive("web"):
        for one in deaf:
            try:
                one.send(b'{"op": "status"}\n' * 100)
            except (BlockingIOError, ConnectionError):
                continue
        began = time.monotonic()
        bench.ask("release", vm="x")
        slowest_s = max(slowest_s, time.monotonic() - began)
    assert bench.alive("web") == 0, "the deadline passed unnoticed"
    assert slowest_s < 0.5
    for one in deaf:
        one.close()


def test_many_clients_are_bounded(bench: ProcessGuard) -> None:
    crowd = []
    for _ in range(600):
        try:
            crowd.append(connect(bench))
        except BlockingIOError:
            time.sleep(0.001)  # the queue is full for a moment
    assert len(crowd) > 256
    assert sum(closed_by_the_guard(one) for one in crowd) == len(crowd) - 255
    for one in crowd:
        one.close()
    until(bench.answers, "there is room again")


def closed_by_the_guard(one: socket.socket) -> bool:
    one.settimeout(0.001)
    try:
        return one.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_crowd_of_vms_starts_at_once(bench: ProcessGuard) -> None:
    opened = open_term(bench, T1, fence_ns=30 * S)
    assert opened["ok"]
    names = [f"vm{n}" for n in range(20)]
    for name in names:
        assert bench.ask("admit", vm=name)["ok"]
    crowd = [
        (name, subprocess.Popen([bench.wrapper, "-name", f"guest={name}"], stderr=subprocess.PIPE))
        for name in names
    ]
    bench.vms += crowd
    until(lambda: all(len(bench.pids(name)) == 1 for name in names), "all have entered", 20)
    assert all(process.poll() is None for _, process in crowd)


def test_a_client_that_leaves_during_a_kill(bench: ProcessGuard) -> None:
    open_term(bench, T1, fence_ns=20 * S)
    bench.boot("bomb", "bomb")
    with connect(bench) as one:
        one.sendall(b'{"op": "kill", "vm": "bomb"}\n')
    until(lambda: bench.alive("bomb") == 0, "killed all the same")
    assert bench.answers()
