"""QEMU processes of the pool's VMs that run where the guard cannot kill them.

Every VM's process must be inside the guarded cgroup subtree. One that is not (started by hand,
left by a crashed libvirtd, moved by somebody) can outlive this host's right to run it, so it is
reported; what is done about it is the guard's and the agent's decision.

Rules:
1. A process is a VM's when its `-uuid` is the VM's; without a `-uuid`, when its
   `-name guest=` is.
2. The emulator wrapper on its way into the subtree has the same words in its command line; it
   runs nothing yet and is not reported when its path is given as `wrapper`.
3. A QEMU that was killed while its storage hangs has an empty command line and a dead first
   thread, yet other threads may still write. It cannot be named, and is reported as `dying`.
4. Whoever moves or ends during the search is looked at twice before it is reported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_QEMU_COMM = "qemu-"


@dataclass(frozen=True, slots=True)
class Leftover:
    pid: int
    vm: str  # "" when it can no longer be told (dying)
    uuid: str
    dying: bool
    cgroup: str  # its line of /proc/<pid>/cgroup for cgroup v2


def find(
    vms: Mapping[str, str], guarded: Path, wrapper: str = "", proc: Path = Path("/proc")
) -> tuple[Leftover, ...]:
    """Processes of `vms` (name -> uuid) outside the cgroup folder `guarded`.

    Reads only /proc and the cgroup file system; never blocks on the pool's storage. A folder that
    does not exist guards nobody.
    """
    first = _search(vms, guarded, wrapper, proc)
    if not first:
        return ()
    again = {leftover.pid: leftover for leftover in _search(vms, guarded, wrapper, proc)}
    return tuple(
        again[pid]
        for pid, leftover in ((found.pid, found) for found in first)
        if pid in again and again[pid].uuid == leftover.uuid
    )


def inside(guarded: Path) -> frozenset[int]:
    """Pids of all processes in a cgroup folder and the folders below it."""
    pids: set[int] = set()
    for folder, _, files in os.walk(guarded):
        if "cgroup.procs" not in files:
            continue
        try:
            pids.update(map(int, (Path(folder) / "cgroup.procs").read_text().split()))
        except OSError:
            continue  # removed meanwhile, so it was empty
    return frozenset(pids)


def _search(
    vms: Mapping[str, str], guarded: Path, wrapper: str, proc: Path
) -> tuple[Leftover, ...]:
    names = {uuid.lower(): name for name, uuid in vms.items()}
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            leftover = _examine(entry, names, wrapper)
        except OSError:
            continue  # it ended meanwhile
        if leftover is not None:
            found.append(leftover)
    # the guarded set is read last: a process that has just gone in is not reported
    safe = inside(guarded) if found else frozenset[int]()
    return tuple(sorted((x for x in found if x.pid not in safe), key=lambda x: x.pid))


def _examine(entry: Path, names: Mapping[str, str], wrapper: str) -> Leftover | None:
    words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    if words == [""]:
        return _dying(entry)
    if wrapper and wrapper in words[:4]:  # it is a script: its interpreter comes first
        return None
    uuid, name = identity(words)
    vm = names.get(uuid, "") if uuid else (name if name in names.values() else "")
    if not vm:
        return None
    return Leftover(int(entry.name), vm, uuid, False, _cgroup(entry))


def identity(words: list[str]) -> tuple[str, str]:
    """uuid and VM name of a command line; "" for what it does not say."""
    uuid = name = ""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == "-uuid":
            uuid = after.lower()
        elif word == "-name":
            guest = next((p for p in after.split(",") if p.startswith("guest=")), "")
            name = guest.removeprefix("guest=")
    return uuid, name


def _dying(entry: Path) -> Leftover | None:
    """A killed QEMU whose other threads are still there: state Z and more than one task."""
    comm = (entry / "comm").read_text().strip()
    if not comm.startswith(_QEMU_COMM):
        return None
    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
    if state != "Z" or len(list((entry / "task").iterdir())) < 2:
        return None
    return Leftover(int(entry.name), "", "", True, _cgroup(entry))


def _cgroup(entry: Path) -> str:
    for line in (entry / "cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line[3:]
    return ""
