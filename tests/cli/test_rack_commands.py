"""`outlast rack ...` on a real rack: one for all tests of this file."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Outlast, Said

from outlast.cli.rack_status import fault_text
from outlast.rack.client import RackClient

PROGRAM = [sys.executable, "-m", "outlast.cli.main"]
SOURCE = Path(__file__).parent.parent.parent / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "160"}

rack_test = pytest.mark.rack
Rack = Callable[..., Said]


def run(folder: Path, *args: str) -> Said:
    done = subprocess.run(
        [*PROGRAM, *args], env={**ENVIRONMENT, "OUTLAST_RACK": str(folder)}, text=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A rack of two hosts that the command line has started."""
    place = tmp_path_factory.mktemp("cli-rack")
    try:
        said = run(place, "rack", "up", "--hosts", "2")
        assert said.code == 0, said.err
        assert re.search(r"^a +on +10\.90\.0\.1", said.out, re.MULTILINE)
        assert said.out.endswith("next: outlast rack pool\n")
        yield place
    finally:
        RackClient(place).down(purge=True)


@pytest.fixture
def rack(outlast: Outlast, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Rack:
    """`outlast rack ...` in this process, on that rack."""
    monkeypatch.setenv("OUTLAST_RACK", str(folder))
    return lambda *args: outlast(*args[:0], "rack", *args)


def power_of(rack: Rack, host: str) -> str:
    return str(rack("--json", "status").json["hosts"][host]["power"])


@rack_test
def test_power(rack: Rack) -> None:
    said = rack("power", "off", "b")
    assert (said.code, said.out) == (0, "b has no power\n")
    assert power_of(rack, "b") == "off"
    refused = rack("exec", "b", "--", "true")
    assert refused.code == 4 and "outlast rack power on b" in refused.err
    assert rack("power", "on", "b").out == "b is on\n"
    boot = rack("--json", "status").json["hosts"]["b"]["boot_id"]
    assert rack("--json", "power", "reset", "b").json == {"host": "b", "power": "reset"}
    assert rack("--json", "status").json["hosts"]["b"]["boot_id"] != boot
    assert rack("power", "explode", "b").code == 2
    wrong = rack("power", "off", "z")
    assert wrong.code == 3 and "hosts: a, b" in wrong.err


@rack_test
def test_freeze(rack: Rack) -> None:
    assert rack("freeze", "a").out == "a is frozen\n"
    assert re.search(r"^a +frozen", rack("status").out, re.MULTILINE)
    refused = rack("exec", "a", "--", "true")
    assert refused.code == 4 and "outlast rack thaw a" in refused.err
    assert rack("thaw", "a").out == "a goes on\n"
    assert power_of(rack, "a") == "on"


@rack_test
def test_network(rack: Rack) -> None:
    ping = ("exec", "a", "--", "ping", "-c1", "-W1", "-n", "10.90.0.2")
    assert rack(*ping).code == 0
    assert rack("cut", "a", "b", "--one-way").out == "mgmt: a -> b is cut\n"
    assert "broken: mgmt: a -> b\n" in rack("status").out
    assert rack(*ping).code != 0
    assert rack("heal", "a", "b").out == "what is between a and b is whole\n"
    assert rack("isolate", "b", "--net", "storage").out == "storage: b reaches nobody\n"
    assert "broken: storage: b -> all\n" in rack("status").out
    assert rack(*ping).code == 0, "the other network is not touched"
    assert rack("heal", "b").out == "the network of b is whole\n"
    assert rack("cut", "a", "b").out == "mgmt: a <-> b is cut\n"
    assert rack("heal").out == "all networks are whole\n"
    assert rack("--json", "status").json["faults"] == []
    assert rack("heal", "a", "b", "a").code == 2


@rack_test
def test_storage(rack: Rack, folder: Path) -> None:
    (folder / "pool/note").write_text("here")
    read = ("exec", "a", "--", "timeout", "1", "cat", "/srv/pool/note")
    assert rack(*read).out == "here"
    said = rack("storage", "fail", "a", "--path", "^/note", "--errno", "ENOSPC")
    assert said.out == 'the storage of a is hurt: fail (errno "ENOSPC", path "^/note")\n'
    assert "No space left" in rack(*read).err
    assert 'broken: storage of a: fail (errno "ENOSPC", path "^/note")\n' in rack("status").out
    assert rack("storage", "stall", "a", "--op", "read", "--op", "open").code == 0
    assert rack(*read).code == 124
    assert rack("exec", "b", "--", "cat", "/srv/pool/note").out == "here"
    assert rack("--json", "storage", "slow", "a", "--ms", "20").json["storage"]["rule"]["ms"] == 20
    assert rack("storage", "heal", "a").out == "the storage of a answers again\n"
    assert rack(*read).out == "here"
    assert rack("storage", "eat", "a").code == 2
    assert rack("storage", "fail", "a", "--errno", "EBLUB").code == 2


@rack_test
def test_exec_ends_as_the_command_does(rack: Rack, folder: Path) -> None:
    said = rack("exec", "b", "--", "sh", "-c", "hostname; echo too >&2; exit 7")
    assert (said.code, said.out, said.err) == (7, "b\n", "too\n")
    assert rack("exec", "a", "--", "outlast", "--version").out == "outlast 0.1.0\n"
    json_of_the_host = rack("exec", "a", "--", "outlast", "--json", "status")
    assert json_of_the_host.error["code"] == "unreachable", "its options are its own"
    process = subprocess.Popen(
        [*PROGRAM, "rack", "exec", "a", "--", "sh", "-c", "echo begun; exec sleep 60"],
        env={**ENVIRONMENT, "OUTLAST_RACK": str(folder)}, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    assert process.wait(10) == 130


@rack_test
def test_shell(rack: Rack, folder: Path) -> None:
    refused = subprocess.run(
        [*PROGRAM, "rack", "shell", "a"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env={**ENVIRONMENT, "OUTLAST_RACK": str(folder)}, check=False,
    )  # fmt: skip
    assert refused.returncode == 2 and "needs a terminal" in refused.stderr
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(ENVIRONMENT, OUTLAST_RACK=str(folder), TERM="dumb")
        os.execv(PROGRAM[0], [*PROGRAM, "rack", "shell", "a"])
    try:
        read_until(terminal, r"\[host a\] .*# $")
        os.write(terminal, b"outlast --version; exit 5\n")
        read_until(terminal, r"\noutlast 0\.1\.0\r")
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 5
    finally:
        os.close(terminal)  # hangs up on it, if it is still there


def read_until(terminal: int, pattern: str, timeout_s: float = 10) -> None:
    seen, end_s = "", time.monotonic() + timeout_s
    while not re.search(pattern, seen):
        ready, _, _ = select.select([terminal], [], [], max(0.0, end_s - time.monotonic()))
        assert ready, seen
        seen += os.read(terminal, 4096).decode()


@rack_test
def test_pool(rack: Rack, folder: Path) -> None:
    assert rack("pool", "--preset", "eager").code == 2
    made = rack("--json", "pool")
    assert made.json == {"pool": "demo", "preset": "lab", "hosts": {"a": "member", "b": "member"}}
    status = rack("exec", "b", "--", "outlast", "--json", "status").json
    assert {h["name"]: h["state"] for h in status["hosts"]} == {"a": "member", "b": "member"}
    assert (folder / "pool/images/pulsar.elf").stat().st_size > 1000
    again = rack("pool")
    assert again.code == 4 and "outlast rack down --purge" in again.err
    services = rack("status").out
    assert re.search(r"^a .*libvirtd guard pulse agent$", services, re.MULTILINE)


@rack_test
def test_up_again_is_refused(rack: Rack) -> None:
    refused = rack("up")
    assert refused.code == 4 and "outlast rack down" in refused.err


@rack_test
def test_without_a_rack(outlast: Outlast, tmp_path: Path) -> None:
    place = ("--folder", str(tmp_path / "none"))
    said = outlast("rack", "status", *place)
    assert said.code == 9 and "hint: outlast rack up" in said.err
    assert outlast("--json", "rack", "status", *place).error["code"] == "unreachable"
    assert outlast("rack", "down", *place).out == f"no rack was up in {tmp_path / 'none'}\n"
    assert outlast("rack", "up", "--hosts", "99", *place).code == 2
    assert outlast("rack", "exec", "a", *place, "--", "true").code == 9


def test_faults_in_words() -> None:
    assert fault_text(None) == fault_text({"rule": {"mode": "ok"}}) == ""
    assert fault_text({"rule": {"mode": "hang"}}) == "stall"
    slow = {"rule": {"mode": "slow", "ms": 300, "ops": ["write"]}}
    assert fault_text(slow) == 'slow (ms 300, ops ["write"])'


def test_the_rack_is_imported_only_when_it_is_needed() -> None:
    code = (
        "import sys; from outlast.cli import main\n"
        "sys.exit(', '.join(m for m in sys.modules if m.startswith('outlast.rack')) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_shows_a_session(outlast: Outlast) -> None:
    said = outlast("rack", "--help")
    for word in ("outlast rack up", "outlast rack pool", "power off b", "down --purge"):
        assert word in said.out
    assert json.dumps(said.err) == '""'
