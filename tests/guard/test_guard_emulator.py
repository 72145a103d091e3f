"""The wrapper in front of QEMU: what it asks, what it becomes, what it can do without."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.guard import emulator


class Answerer:
    """Somebody at the guard's socket who gives one fixed answer to everybody."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.heard: list[dict[str, object]] = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                line = connection.makefile("rb").readline()
                if not line:
                    return
                self.heard.append(json.loads(line))
                connection.sendall(self._answer)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[list[Answerer]]:
    made: list[Answerer] = []
    yield made
    for answerer in made:
        answerer.close()


def wrapper(tmp_path: Path, **baked: bool) -> Path:
    qemu = tmp_path / "qemu"
    qemu.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
    qemu.chmod(0o755)
    path = tmp_path / "wrapper"
    emulator.install(path, socket=str(tmp_path / "sock"), qemu=str(qemu), **baked)
    return path


def run(path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [path, *arguments], capture_output=True, text=True, timeout=20, cwd="/",
        env={"PATH": os.environ["PATH"], **env},
    )  # fmt: skip


def test_without_a_name_it_becomes_qemu_at_once(tmp_path: Path) -> None:
    done = run(wrapper(tmp_path), "-S", "-machine", "none")
    assert done.stdout.split() == [str(tmp_path / "qemu"), "-S", "-machine", "none"]


@pytest.mark.parametrize(
    "name", ["guest=web,debug-threads=on", "debug-threads=on,guest=web", "web"]
)
def test_with_a_yes_it_becomes_qemu(tmp_path: Path, answers: list[Answerer], name: str) -> None:
    answers.append(Answerer(tmp_path / "sock", b'{"ok": true}\n'))
    done = run(wrapper(tmp_path), "-name", name, "-m", "128")
    assert done.stdout.split()[1:] == ["-name", name, "-m", "128"]
    assert answers[0].heard == [{"op": "enter", "vm": "web"}]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b'{"ok": false, "error": "web was not admitted"}\n', "web was not admitted"),
        (b'{"ok": false}\n', "without a reason"),
        (b'{"ok": "true"}\n', "without a reason"),
        (b"[]\n", "was not understood"),
        (b"yes\n", "was not understood"),
        (b"", "was not understood"),
        (b'{"ok": true', "was not understood"),
    ],
)
def test_everything_else_is_a_no(
    tmp_path: Path, answers: list[Answerer], answer: bytes, sentence: str
) -> None:
    answers.append(Answerer(tmp_path / "sock", answer))
    done = run(wrapper(tmp_path), "-name", "guest=web")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Outlast does not let VM web start on this host: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_guard_is_a_no(tmp_path: Path) -> None:
    done = run(wrapper(tmp_path), "-name", "guest=web")
    assert done.returncode == 1
    assert "the guard does not answer at" in done.stderr


@pytest.mark.parametrize("name", ['guest=a"b', "guest=a\\", "guest=\u00fc\n\t", "guest=$(x)"])
def test_strange_names_reach_the_guard_as_json(
    tmp_path: Path, answers: list[Answerer], name: str
) -> None:
    answers.append(Answerer(tmp_path / "sock", b'{"ok": false, "error": "no"}\n'))
    assert run(wrapper(tmp_path), "-name", name).returncode == 1
    assert answers[0].heard[0]["op"] == "enter"


def test_a_qemu_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    path = wrapper(tmp_path)
    (tmp_path / "qemu").unlink()
    done = run(path, "-version")
    assert done.returncode == 1
    assert done.stderr == f"Outlast cannot start {tmp_path / 'qemu'}: No such file or directory\n"


def test_the_environment_may_name_another_qemu(tmp_path: Path) -> None:
    assert run(wrapper(tmp_path), "other", OUTLAST_QEMU="/bin/echo").stdout == "other\n"


def test_it_needs_nothing_but_the_hosts_python(tmp_path: Path) -> None:
    path = wrapper(tmp_path)
    assert path.read_text().startswith("#!/usr/bin/python3 -IS\n")
    assert "import outlast" not in path.read_text()
    assert "from outlast" not in path.read_text()
    assert run(path, "x", PYTHONPATH="/nowhere", PYTHONHOME="/nowhere").returncode == 0


def test_signals_and_descriptors_reach_qemu_untouched(tmp_path: Path) -> None:
    path = wrapper(tmp_path)
    read, write = os.pipe()
    (tmp_path / "qemu").write_text(
        f"#!/bin/sh\ngrep SigIgn /proc/$$/status; cat /proc/self/fd/{read}\n"
    )
    os.write(write, b"inherited\n")
    os.close(write)
    done = subprocess.run([path, "x"], pass_fds=[read], capture_output=True, check=True)
    os.close(read)
    ignored, text = done.stdout.split(b"\n")[:2]
    assert int(ignored.split()[1], 16) & (1 << 12 | 1 << 24) == 0  # SIGPIPE, SIGXFSZ
    assert text == b"inherited"


def test_an_unchanged_wrapper_is_left_alone(tmp_path: Path) -> None:
    path = wrapper(tmp_path)
    before = path.stat()
    wrapper(tmp_path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    wrapper(tmp_path, tcg_pad=True)
    assert "TCG_PAD = True" in path.read_text()
    assert not path.with_name("wrapper.new").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["-m", "128"], ["-m", "size=131080k"]),
        (["-m", "size=131072k"], ["-m", "size=131080k"]),
        (["-m", "1G,slots=2,maxmem=4G"], ["-m", "size=1048584k,slots=2,maxmem=4G"]),
        (["-m", "nonsense"], ["-m", "nonsense"]),
        (["-object", '{"qom-type":"memory-backend-ram","id":"pc.ram","size":134217728}'],
         ["-object", '{"qom-type":"memory-backend-ram","id":"pc.ram","size":134225920}']),
        (["-object", '{"qom-type":"memory-backend-ram","id":"ram-node0","size":134217728}'],
         ["-object", '{"qom-type":"memory-backend-ram","id":"ram-node0","size":134225920}']),
        (["-object", '{"id":"other","size":134217728}'],
         ["-object", '{"id":"other","size":134217728}']),
        (["-m"], ["-m"]),
    ],
)  # fmt: skip
def test_padding_adds_8_kib_everywhere(before: list[str], after: list[str]) -> None:
    assert emulator.padded(before) == after


def test_padding_is_done_only_if_asked_for(tmp_path: Path, answers: list[Answerer]) -> None:
    answers.append(Answerer(tmp_path / "sock", b'{"ok": true}\n'))
    words = ("-name", "guest=web", "-m", "128")
    assert run(wrapper(tmp_path), *words).stdout.split()[-1] == "128"
    assert run(wrapper(tmp_path, tcg_pad=True), *words).stdout.split()[-1] == "size=131080k"
