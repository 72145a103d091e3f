"""`make demo` from its first word to its last, and stopped in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rack_bench import SOURCE, wait_for
from test_rack_remains import everybody, namespaces, nothing_left

from outlast.rack.cgroup import Group, find_root
from outlast.rack.shelf import default_prefix

DEMO = [sys.executable, "-m", "outlast.rack.demo", "--plain", "--fast"]


class Performance:
    """A demo in a process group of its own, with `tmp_path` for its temporary folder."""

    def __init__(self, tmp_path: Path) -> None:
        self._parent = tmp_path
        self._deaf = False
        env = {**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(tmp_path)}
        self.process = subprocess.Popen(
            DEMO, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self.lines.append(line)
                if self._deaf:
                    return

    def stop_listening(self) -> None:
        """Close the pipe, after one more line."""
        self._deaf = True

    def wait_for(self, words: str, timeout_s: float = 60) -> None:
        wait_for(words, lambda: words in self.said or self.process.poll() is not None, timeout_s)
        assert words in self.said, self.said

    @property
    def said(self) -> str:
        return "".join(self.lines)

    @property
    def folder(self) -> Path:
        (folder,) = self._parent.glob("outlast-demo-*")
        return folder


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Performance]:
    performance = Performance(tmp_path)
    yield performance
    if performance.process.poll() is None:
        performance.process.terminate()
        performance.process.wait(30)


@pytest.mark.rack
@pytest.mark.slow
def test_the_demo_ends_well(demo: Performance, tmp_path: Path) -> None:
    demo.wait_for("starting 3 hosts")
    folder = demo.folder
    assert demo.process.wait(100) == 0, demo.said
    wait_for("all is read", lambda: "nothing is left on this machine" in demo.said, 5)
    said = demo.said
    assert re.search(r"Sound: 6 VMs, \d+ boots, [\d,]+ acknowledged writes, none lost", said), said
    for title in ("kill -9", "power cut", "power back"):
        assert f"\n{title}, second by second:\n" in said
    took = re.findall(r"(?:runs again on|is a member again) *\w* +(\d+\.\d) s$", said, re.MULTILINE)
    assert len(took) >= 3, "a killed QEMU, a host's VMs, a host"
    assert all(0 < float(seconds) < 60 for seconds in took)
    assert "proof: silent" in said, "the power cut was proven, not guessed"
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []
    nothing_left(folder)


@pytest.mark.rack
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["making the pool", "1 OF 3, KILL -9"])
def test_ctrl_c_takes_everything_down(demo: Performance, tmp_path: Path, moment: str) -> None:
    demo.wait_for(moment)
    folder = demo.folder
    worlds = namespaces(Group(find_root() / default_prefix(folder)).pids())
    assert len(worlds) > 8, "there is something to take down"
    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does it
    wait_for("it is heard", lambda: "Interrupted" in demo.said, 10)
    os.killpg(demo.process.pid, signal.SIGINT)  # somebody is impatient
    assert demo.process.wait(30) == 130
    wait_for("it is said", lambda: "nothing is left on this machine" in demo.said, 5)
    assert "Traceback" not in demo.said
    assert list(tmp_path.iterdir()) == []
    nothing_left(folder)
    assert not worlds & namespaces(everybody())


@pytest.mark.rack
@pytest.mark.slow
def test_nobody_listens_any_more(demo: Performance, tmp_path: Path) -> None:
    demo.wait_for("making the pool")
    folder = demo.folder
    demo.stop_listening()
    assert demo.process.wait(60) == 1
    assert list(tmp_path.iterdir()) == []
    nothing_left(folder)


def test_what_is_missing_is_a_sentence(tmp_path: Path) -> None:
    """Without root, and without a program that it needs."""
    for spell, code, words in (
        ("os.geteuid = lambda: 1000", 10, "The demo cannot begin: a rack needs root"),
        ("os.geteuid = lambda: 0; needs.VIRT['a-hypervisor'] = 'some-package'", 1,
         "missing on this machine: a-hypervisor"),
    ):  # fmt: skip
        program = (
            f"import os; from outlast.rack import demo, needs; {spell}\n"
            "raise SystemExit(demo.main(['--plain']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], text=True, capture_output=True, check=False,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert words in done.stdout
        assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wish", [["--hosts", "1"], ["--vms", "99"]])
def test_a_demo_that_cannot_be(wish: list[str]) -> None:
    done = subprocess.run(
        [*DEMO, *wish], env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("outlast: the demo has")
