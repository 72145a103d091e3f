"""The command line against a real agent server."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Outlast
from memory_service import MemoryService

from outlast.cli.main import hoist
from outlast.model import Desired, VmState

PROGRAM = [sys.executable, "-m", "outlast.cli.main"]


def test_a_vms_whole_life(outlast: Outlast, agent: MemoryService) -> None:
    made = outlast("vm", "create", "web", "--memory", "512MiB", "--disk", "1M", "--vcpus", "2")
    assert (made.code, made.out) == (0, "web is created; start it with: outlast vm start web\n")
    assert (Path(agent.pool_dir) / "images/web.raw").stat().st_size == 1 << 20
    assert outlast("vm", "start", "web").out == "web: it runs on a\n"
    listed = outlast("vm", "list").out.splitlines()
    assert listed[0].split()[:3] == ["VM", "STATE", "HOST"]
    assert listed[1].split()[:3] == ["web", "running", "a"]
    assert "definition 2, lease 1" in outlast("vm", "show", "web").out
    refused = outlast("vm", "delete", "web")
    assert (refused.code, refused.out) == (4, "")
    assert refused.err == (
        "outlast: 'web' is not deleted: a holds its lease\n   hint: outlast vm stop web\n"
    )
    assert outlast("vm", "stop", "web").out == "web: it is stopped\n"
    assert outlast("vm", "delete", "web", "--with-disks").out == "web and its disks are deleted\n"
    assert "no VMs yet" in outlast("vm", "list").out
    assert not (Path(agent.pool_dir) / "images/web.raw").exists()


def test_create_and_start_in_one_go(outlast: Outlast, agent: MemoryService) -> None:
    said = outlast("vm", "create", "web", "--memory", "1G", "--disk", "images/x.raw=8M", "--start")
    assert said.out == "web is created\nweb: it runs on a\n"
    held = agent.read_vm("web")
    assert held is not None
    assert held.value.spec.disks[0].path == f"{agent.pool_dir}/images/x.raw"


def test_json_is_the_only_thing_on_stdout(outlast: Outlast, agent: MemoryService) -> None:
    created = outlast("vm", "create", "web", "--memory", "1G", "--json").json
    assert created == {
        "name": "web", "version": 1, "changed": True, "sentence": "web is created",
    }  # fmt: skip
    started = outlast("--json", "vm", "start", "web")
    assert [v["state"] for v in started.json] == ["running"]
    assert started.err == ""
    assert outlast("vm", "list", "--json").json[0]["name"] == "web"
    assert outlast("vm", "show", "web", "--json").json["recent"] == []
    status = outlast("status", "--json").json
    assert (status["name"], status["hosts"][0]["state"]) == ("lab", "member")
    assert [h["name"] for h in outlast("host", "list", "--json").json] == ["a", "b", "c"]
    assert outlast("pool", "timeline", "--json").json == []


def test_errors_are_json_too(outlast: Outlast, agent: MemoryService) -> None:
    said = outlast("vm", "show", "none", "--json")
    assert (said.code, said.out, said.error["code"]) == (3, "", "not-found")
    said = outlast("vm", "create", "web", "--memory", "2GB", "--json")
    assert (said.code, said.error["field"], said.error["hint"]) == (2, "memory", "write 2GiB")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["vm", "create", "Web", "--memory", "1G"], 2, "'Web' is not a usable VM name"),
        (["vm", "create", "web", "--memory", "1"], 2, "has no unit"),
        (["vm", "create", "web", "--memory", "lots"], 2, "is not a size"),
        (["vm", "create", "web", "--memory", "1G", "--disk", "5"], 2, "has no unit"),
        (["vm", "create", "web", "--memory", "1G", "--disk", "5GB"], 2, "unknown unit 'GB'"),
        (["vm", "create", "web", "--memory", "1G", "--disk", "a=5GB"], 2, "unknown unit 'GB'"),
        (["vm", "create", "web", "--memory", "1G", "--disk", "no.raw"], 2, "there is no file"),
        (["vm", "create", "web", "--memory", "1G", "--vcpus", "0"], 2, "vcpus"),
        (["vm", "create", "web", "--memory", "1G", "--vcpus", "x"], 2, "--vcpus"),
        (["vm", "create", "web", "--memory", "1G", "--prefer", "mars"], 2, "no host 'mars'"),
        (["vm", "create", "web"], 2, "--memory"),
        (["vm", "start", "none"], 3, "no VM 'none'"),
        (["vm", "stop", "a/b"], 2, "not a usable VM name"),
        (["vm", "kill", ".."], 2, "not a usable VM name"),
        (["vm", "kill", ""], 2, "not a usable VM name"),
        (["vm", "console", "none"], 3, "no VM 'none'"),
        (["vm", "bogus"], 2, "bogus"),
        (["vm", "list", "--bogus"], 2, "--bogus"),
        (["pool", "timeline", "--since", "yesterday"], 2, "not a span of time"),
        (["pool", "timeline", "--limit", "0"], 2, "shows nothing"),
        (["--agent", "gopher://x", "status"], 2, "names no agent"),
        (["--agent", "https://127.0.0.1:9", "status"], 3, "no certificate"),
    ],
)
def test_bad_input_is_a_sentence_and_a_code(
    outlast: Outlast, agent: MemoryService, args: list[str], code: int, words: str
) -> None:
    said = outlast(*args)
    assert (said.code, said.out) == (code, "")
    assert words in said.err
    assert said.err.startswith("outlast: ")
    assert len(said.err.splitlines()) <= 2


def test_no_agent(outlast: Outlast) -> None:
    said = outlast("status")
    assert said.code == 9
    assert "no agent answers" in said.err and "outlast host join" in said.err


def test_an_agent_that_sees_nothing_still_answers(outlast: Outlast, agent: MemoryService) -> None:
    agent.trouble = "the pulse of this host has not been heard yet"
    said = outlast("status")
    assert said.code == 0 and agent.trouble in said.out
    assert outlast("vm", "list").code == 7


def test_several_vms_one_missing(outlast: Outlast, agent: MemoryService) -> None:
    for name in ("web", "db"):
        outlast("vm", "create", name, "--memory", "1G")
    said = outlast("vm", "start", "web", "none", "db", "web")
    assert said.code == 3
    assert said.out == "web: it runs on a\ndb: it runs on a\n"
    assert "no VM 'none'" in said.err


def test_no_wait_says_what_was_wished(outlast: Outlast, agent: MemoryService) -> None:
    outlast("vm", "create", "web", "--memory", "1G")
    agent.obedient = False
    assert outlast("vm", "start", "web", "--no-wait").out == "web shall run\n"
    assert outlast("vm", "start", "web", "--no-wait").out == "web shall run already\n"


def test_waiting_tells_what_happens_and_gives_up_in_words(
    outlast: Outlast, agent: MemoryService
) -> None:
    outlast("vm", "create", "big", "--memory", "90G")
    agent.obedient = False
    said = outlast("vm", "start", "big", "--timeout", "0.6")
    assert (said.code, said.out) == (8, "")
    first, error, hint = said.err.splitlines()
    assert first.startswith("big: no host can take it: a has 4096 MiB free of the 92160 MiB needed")
    assert error.startswith("outlast: not done after 0.6 s: big: no host can take it")
    assert "the wish stands" in hint


def test_waiting_follows_the_vm(outlast: Outlast, agent: MemoryService) -> None:
    outlast("vm", "create", "web", "--memory", "1G")
    agent.obedient = False

    def world() -> None:
        until = time.monotonic() + 10
        while not (held := agent.read_vm("web")) or not held.value.wanted:
            assert time.monotonic() < until
        agent.hold("web", 1)
        time.sleep(0.6)
        agent.run("web", VmState.STARTING)
        agent.run("web")

    thread = threading.Thread(target=world)
    thread.start()
    said = outlast("vm", "start", "web", "--timeout", "10")
    thread.join()
    assert (said.code, said.out) == (0, "web: it runs on a\n")
    assert "web: a holds its lease and is starting it" in said.err.splitlines()


def test_a_vm_that_is_held_down_ends_the_wait(outlast: Outlast, agent: MemoryService) -> None:
    outlast("vm", "create", "web", "--memory", "1G")
    agent.obedient = False
    real = agent.write_vm

    def write(expected: int, record):  # type: ignore[no-untyped-def]
        answer = real(expected, record)
        if record.desired is Desired.RUNNING:
            real(expected + 1, replace(record, held_down="its disk is missing"))
        return answer

    agent.write_vm = write  # type: ignore[method-assign]
    said = outlast("vm", "start", "web", "--timeout", "30")
    assert said.code == 7
    assert "stays down until somebody starts it: its disk is missing" in said.err


def test_the_timeline(outlast: Outlast, agent: MemoryService) -> None:
    now = time.time()
    for ago_s, sentence in ((7200, "long ago"), (60, "web runs on a")):
        agent.notes.append(
            {"wall_s": now - ago_s, "host": "a", "code": "x", "sentence": sentence, "fields": {}}
        )
    lines = outlast("pool", "timeline").out.splitlines()
    assert len(lines) == 1 and lines[0].endswith("  a            web runs on a")
    assert len(outlast("pool", "timeline", "--since", "3h").out.splitlines()) == 2


def test_hoisting_of_global_options() -> None:
    assert hoist(["vm", "list", "--json"]) == (["--json"], ["vm", "list"])
    assert hoist(["status", "--agent", "unix:/x"]) == (["--agent", "unix:/x"], ["status"])
    assert hoist(["vm", "show", "--", "--json"]) == ([], ["vm", "show", "--", "--json"])
    assert hoist(["status", "--agent"]) == ([], ["status", "--agent"])
    assert hoist(["vm", "list", "-o", "yaml", "-w"]) == (["-o", "yaml"], ["vm", "list", "-w"])
    assert hoist(["vm", "list", "--output=json"]) == (["--output=json"], ["vm", "list"])


# ---- as a process of its own


def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"OUTLAST_RUN": str(tmp_path / "run"), "COLUMNS": "160"}


def test_help_and_version_need_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from outlast.cli import main\n"
        "heavy = {'aiohttp', 'cryptography', 'pydantic', 'libvirt'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "outlast 0.1.0\n")


def test_status_needs_no_aiohttp_and_no_cryptography(agent: MemoryService, tmp_path: Path) -> None:
    code = (
        "import sys; from outlast.cli.main import run\n"
        "try: run(['--json', 'status'])\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "assert not {'aiohttp', 'cryptography'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip


def sleeping(pid: int) -> None:
    """Until the process rests between two looks; only root can see that."""
    until = time.monotonic() + (20 if os.geteuid() == 0 else 3)
    while time.monotonic() < until and "nanosleep" not in Path(f"/proc/{pid}/wchan").read_text():
        time.sleep(0.05)


@pytest.mark.parametrize("args", [["status", "--watch"], ["pool", "timeline", "--follow"],
                                  ["--json", "status", "--watch"]])  # fmt: skip
def test_ctrl_c_is_quiet(agent: MemoryService, tmp_path: Path, args: list[str]) -> None:
    agent.notes.append(
        {"wall_s": time.time(), "host": "a", "code": "x", "sentence": "here", "fields": {}}
    )
    with subprocess.Popen(
        [*PROGRAM, *args], env=environment(tmp_path), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        if "--watch" in args and "--json" not in args:
            sleeping(process.pid)  # it draws only to a terminal until it ends
        else:
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""


def test_a_reader_that_leaves_early(agent: MemoryService, tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m outlast.cli.main status | head -c 1", shell=True, text=True,
        env=environment(tmp_path), capture_output=True, check=False,
    )  # fmt: skip
    assert done.stdout == "p" and "Traceback" not in done.stderr


def test_completion_knows_the_commands(tmp_path: Path) -> None:
    env = environment(tmp_path) | {
        "_OUTLAST_COMPLETE": "complete_bash", "COMP_WORDS": "outlast vm st", "COMP_CWORD": "2",
    }  # fmt: skip
    code = "from outlast.cli.main import run; run([])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["start", "stop"]


def console_in_a_terminal(tmp_path: Path) -> tuple[subprocess.Popen[bytes], int]:
    near, far = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "vm", "console", "web"], env=environment(tmp_path), stdin=far, stdout=far,
        stderr=far, start_new_session=True,
    )  # fmt: skip
    os.close(far)
    return process, near


def read_until(fd: int, want: bytes) -> bytes:
    got = b""
    while want not in got:
        got += os.read(fd, 1000)
    return got


@pytest.mark.timeout(30)
def test_the_console_is_a_raw_terminal_and_leaves_by_key(
    agent: MemoryService, outlast: Outlast, tmp_path: Path
) -> None:
    import termios

    outlast("vm", "create", "web", "--memory", "1G", "--start")
    process, near = console_in_a_terminal(tmp_path)
    before = termios.tcgetattr(near)[3]
    read_until(near, b"welcome to web\r\n")
    os.write(near, b"abc\x03")  # Ctrl-C is the VM's, not ours
    read_until(near, b"ABC\x03")
    assert not termios.tcgetattr(near)[3] & termios.ICANON
    os.write(near, b"\x1d")
    assert process.wait(10) == 0
    assert termios.tcgetattr(near)[3] == before
    os.close(near)


@pytest.mark.timeout(30)
def test_the_terminal_is_given_back_when_the_vm_ends(
    agent: MemoryService, outlast: Outlast, tmp_path: Path
) -> None:
    import termios

    outlast("vm", "create", "web", "--memory", "1G", "--start")
    process, near = console_in_a_terminal(tmp_path)
    before = termios.tcgetattr(near)[3]
    read_until(near, b"welcome to web\r\n")
    agent.consoles[-1].close()
    read_until(near, b"the console has ended")
    assert process.wait(10) == 0
    assert termios.tcgetattr(near)[3] == before
    os.close(near)


def test_the_console_takes_a_pipe(agent: MemoryService, outlast: Outlast, tmp_path: Path) -> None:
    outlast("vm", "create", "web", "--memory", "1G", "--start")
    with subprocess.Popen(
        [*PROGRAM, "vm", "console", "web"], env=environment(tmp_path),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"hello")
        process.stdin.flush()
        read_until(process.stdout.fileno(), b"HELLO")
        process.stdin.close()
        assert process.wait(10) == 0


def test_json_lines_of_a_watch_are_whole(agent: MemoryService, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "--json", "status", "--watch"], env=environment(tmp_path),
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["name"] == "lab"
        assert json.loads(process.stdout.readline())["name"] == "lab"
        process.terminate()
