"""Mounts of this machine, carried out by systemd: a unit for each.

The pool's own storage has its unit in AT_BOOT, so that a boot mounts it again; repositories are the
agent's business, which mounts them anew after each boot (UNTIL_BOOT).

Rules:
1. What another program mounted there, or described in a unit or in fstab, is left alone and named.
2. What is in use is not unmounted: it says who uses it.
3. Every wait ends: a server that does not answer leads to a sentence.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from outlast.errors import Conflict, NotFound, StorageTrouble
from outlast.mounts import table
from outlast.mounts.options import Choice
from outlast.mounts.table import Mount
from outlast.mounts.unit import LIMIT_S, MARK, of_unit, unit_name, unit_text
from outlast.words import listed

AT_BOOT, UNTIL_BOOT = Path("/etc/systemd/system"), Path("/run/systemd/system")
USERS_TOLD = 4
_PROGRAMS = {
    "nfs": ("mount.nfs", "nfs-common"), "ocfs2": ("mount.ocfs2", "ocfs2-tools"),
    "glusterfs": ("mount.glusterfs", "glusterfs-client"), "ceph": ("mount.ceph", "ceph-common"),
}  # fmt: skip


class Mounts:
    """Of this machine."""

    def __init__(self, units: Path = AT_BOOT, root: Path = Path("/")) -> None:
        self._units, self._root = units, root

    def all(self) -> list[Mount]:
        """Raises StorageTrouble."""
        try:
            return table.read((self._root / "proc/self/mountinfo").read_text())
        except OSError as error:
            raise StorageTrouble(f"what is mounted cannot be read: {error}") from error

    def ours(self) -> dict[str, str]:
        """Path -> name of what our units mount. Raises StorageTrouble."""
        found = {}
        for unit in sorted(self._units.glob("*.mount")):
            text = _text(unit)
            if name := of_unit(text, MARK):
                found[of_unit(text, "Where")] = name
        return found

    def mount(self, choice: Choice, path: str, name: str) -> bool:
        """Have it mounted; False when it was. Raises Conflict, NotFound, StorageTrouble."""
        self._check_program(choice)
        self._check_systemd()
        unit, text = self._units / unit_name(path), unit_text(choice, path, name)
        there = table.at(self.all(), path)
        known = _text(unit)
        if known and not of_unit(known, MARK):
            raise Conflict(f"{unit} is there already, and Outlast did not write it",
                           hint="remove it, or take another place")  # fmt: skip
        if there is not None and not known:
            raise Conflict(
                f"{there.source} is mounted at {path} already, by somebody else",
                hint=f"leave it so (kind dir), or: umount {path}, and take it out of /etc/fstab",
            )
        if there is not None and known == text:
            return False
        if there is not None and (wrong := table.trouble(choice, path, [there])):
            raise Conflict(wrong, hint=f"outlast storage unmount {path}")
        self._write(unit, text)
        self._systemctl("daemon-reload")
        if there is not None:  # its options are those of the next mount
            return False
        self._systemctl("start", unit.name)
        if self._units == AT_BOOT:
            self._systemctl("enable", unit.name)
        return True

    def again(self, path: str) -> bool:
        """Have systemd try again what carries this path and a boot could not mount; False when that
        is mounted, or not ours. How it ends is not waited for. Raises StorageTrouble."""
        for point in self.ours():
            if f"{path}/".startswith(f"{point}/") and table.at(self.all(), point) is None:
                self._systemctl("start", "--no-block", unit_name(point))
                return True
        return False

    def unmount(self, path: str) -> None:
        """Raises NotFound, Conflict when it is in use, StorageTrouble."""
        unit = self._units / unit_name(path)
        if path not in self.ours():
            raise NotFound(f"nothing is mounted at {path} by Outlast", hint="findmnt")
        if table.at(self.all(), path) is not None:
            users = sorted(set(self.users(path)))
            if users:
                raise Conflict(f"{path} is in use by {listed(users, USERS_TOLD)}",
                               hint="stop what uses it first")  # fmt: skip
            self._systemctl("stop", unit.name)
            if table.at(self.all(), path) is not None:
                raise StorageTrouble(f"{path} is still mounted", hint=f"systemctl status {unit}")
        if self._units == AT_BOOT:
            self._systemctl("disable", unit.name)
        unit.unlink(missing_ok=True)
        self._systemctl("daemon-reload")

    def users(self, path: str) -> Iterator[str]:
        """Programs that have something open below a path."""
        for process in (self._root / "proc").glob("[0-9]*"):
            links = [process / "cwd", process / "root", process / "exe"]
            try:
                links += (process / "fd").iterdir()
                name = (process / "comm").read_text().strip()
            except OSError:
                continue  # it has ended, or is a thread of the kernel
            for link in links:
                try:
                    target = os.readlink(link)  # noqa: PTH115 - may be no path
                except OSError:
                    continue
                if target == path or target.startswith(path + "/"):
                    yield f"{name} ({process.name})"
                    break

    def _check_program(self, choice: Choice) -> None:
        program, package = _PROGRAMS.get(choice.fs_type, ("", ""))
        folders = ("sbin", "usr/sbin", "bin", "usr/bin")
        if program and not any((self._root / f / program).exists() for f in folders):
            raise NotFound(f"this machine cannot mount {choice.kind}: there is no {program}",
                           hint=f"apt-get install {package}")  # fmt: skip

    def _check_systemd(self) -> None:
        if not (self._root / "run/systemd/system").is_dir():
            raise StorageTrouble("no systemd runs on this machine, so it mounts nothing",
                                 hint="mount it by hand, and take the kind dir")  # fmt: skip

    def _write(self, unit: Path, text: str) -> None:
        part = unit.with_name(f".{unit.name}.part")
        try:
            part.write_text(text)
            part.replace(unit)
        except OSError as error:
            raise StorageTrouble(
                f"{unit} cannot be written: {error.strerror}", hint="run it as root"
            ) from error

    def _systemctl(self, *words: str) -> None:
        said = f"systemctl {' '.join(words)}"
        try:
            done = subprocess.run(
                ["systemctl", *words], capture_output=True, text=True, timeout=LIMIT_S + 30,
                check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise StorageTrouble("there is no systemctl on this machine") from None
        except subprocess.TimeoutExpired:
            raise StorageTrouble(f"'{said}' does not end", hint="journalctl -e") from None
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["it failed"])[0]
            raise StorageTrouble(f"'{said}': {why}", hint=f"journalctl -u {words[-1]} -n 20")


def _text(unit: Path) -> str:
    """ "" when there is none. Raises StorageTrouble."""
    try:
        return unit.read_text()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StorageTrouble(f"{unit} cannot be read: {error.strerror}") from error
