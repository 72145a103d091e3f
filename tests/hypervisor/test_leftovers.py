"""Processes of VMs outside the guarded subtree are found; those inside and strangers are not."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from driver_kit import until

from outlast.hypervisor import leftovers

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
DYING = """
import ctypes, threading, time
libc = ctypes.CDLL(None)
libc.prctl(15, b"qemu-system-x86", 0, 0, 0)
threading.Thread(target=time.sleep, args=(600,)).start()
print("up", flush=True)
libc.syscall(60, 0)  # exit of this thread only
"""
WEB = str(uuid.uuid4())
VMS = {"web": WEB, "db": str(uuid.uuid4())}


@pytest.fixture
def spawn() -> Iterator[object]:
    started: list[subprocess.Popen[bytes]] = []

    def start(argv: list[str]) -> int:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        started.append(process)
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def guard_folder(folder: Path, *pids: int) -> Path:
    """A folder that looks like the guarded subtree with these processes in a VM's cgroup."""
    inner = folder / "vms" / "web"
    inner.mkdir(parents=True)
    for place, members in ((folder, ()), (folder / "vms", ()), (inner, pids)):
        (place / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in members))
    return folder


def qemu(name: str, vm_uuid: str = "") -> list[str]:
    words = [*SLEEP, "-name", f"guest={name},debug-threads=on"]
    return words + (["-uuid", vm_uuid] if vm_uuid else [])


def test_a_vm_outside_is_found_and_inside_is_not(tmp_path: Path, spawn) -> None:
    outside, inside = spawn(qemu("web", WEB)), spawn(qemu("web", WEB))
    guarded = guard_folder(tmp_path, inside)
    until(lambda: leftovers.find(VMS, guarded))
    (found,) = leftovers.find(VMS, guarded)
    assert (found.pid, found.vm, found.uuid, found.dying) == (outside, "web", WEB, False)
    assert found.cgroup.startswith("/")


def test_strangers_and_the_wrapper_are_left_out(tmp_path: Path, spawn) -> None:
    wrapper = tmp_path / "emulator"
    wrapper.write_text("import time; time.sleep(600)")
    spawn(qemu("web", str(uuid.uuid4())))  # the name, but another uuid
    spawn(qemu("other"))
    spawn([sys.executable, "-IS", str(wrapper), "-name", "guest=web", "-uuid", WEB])
    marker = spawn(qemu("db"))  # last, so that all are up when it is found
    guarded = guard_folder(tmp_path / "cg")

    def found() -> list[int]:
        return [x.pid for x in leftovers.find(VMS, guarded, str(wrapper))]

    until(lambda: found() == [marker])
    assert len(leftovers.find(VMS, guarded)) == 2  # without its path the wrapper looks like one


def test_a_dying_qemu_is_found(tmp_path: Path, spawn) -> None:
    pid = spawn([sys.executable, "-I", "-S", "-c", DYING])
    guarded = guard_folder(tmp_path)
    until(lambda: any(x.pid == pid for x in leftovers.find(VMS, guarded)))
    (found,) = (x for x in leftovers.find(VMS, guarded) if x.pid == pid)
    assert (found.dying, found.vm) == (True, "")


def test_a_guarded_folder_that_is_not_there_guards_nobody(tmp_path: Path, spawn) -> None:
    pid = spawn(qemu("web", WEB))
    until(lambda: [x.pid for x in leftovers.find(VMS, tmp_path / "nowhere")] == [pid])


def cgroup2() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2" and os.access(line.split()[1], os.W_OK):
            return Path(line.split()[1])
    return None


@pytest.mark.rack
def test_with_real_cgroups(spawn) -> None:
    root = cgroup2()
    if root is None or os.geteuid() != 0:
        pytest.skip("needs root and cgroup v2")
    guarded = root / f"outlast-test-{os.getpid()}"
    inner = guarded / "web"
    inner.mkdir(parents=True)
    pid = spawn(qemu("web", WEB))
    try:
        until(lambda: [x.pid for x in leftovers.find(VMS, guarded)] == [pid])
        (inner / "cgroup.procs").write_text(str(pid))
        assert leftovers.find(VMS, guarded) == ()
        assert leftovers.inside(guarded) == {pid}
    finally:
        (root / "cgroup.procs").write_text(str(pid))
        inner.rmdir()
        guarded.rmdir()


def test_command_lines() -> None:
    cases = {
        "qemu -name guest=web,debug-threads=on -uuid ABC": ("abc", "web"),
        "qemu -name process=x,guest=web": ("", "web"),
        "qemu -name web": ("", ""),
        "qemu -uuid": ("", ""),
        "": ("", ""),
    }
    for line, expected in cases.items():
        assert leftovers.identity(line.split(" ")) == expected
