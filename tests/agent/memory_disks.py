"""The port to disks of running VMs, on files that no QEMU has open: the VMs are pretended."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from outlast.errors import NotFound
from outlast.hypervisor.adoption import Definition, read
from outlast.hypervisor.disks import Mirror
from outlast.hypervisor.mover import Progress


class MemoryCopy:
    def __init__(self, targets: Mapping[str, str], holds: bool) -> None:
        self.trouble = ""
        self._stop, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(targets, holds), daemon=True)
        self._thread.start()

    def _run(self, targets: Mapping[str, str], holds: bool) -> None:
        if holds:
            self._stop.wait()
            self.trouble = "it was given up"
        else:
            for path, target in targets.items():
                kind = "qcow2" if path.endswith(".qcow2") else "raw"
                command = ["qemu-img", "convert", "-f", kind, "-O", "qcow2", path, target]
                subprocess.run(command, check=True)
        self._ended.set()

    def wait(self, limit_s: float) -> bool:
        return self._ended.wait(limit_s)

    def progress(self) -> Progress:
        return Progress(3, 1, 4)

    def abort(self) -> None:
        self._stop.set()


class MemoryDisks:
    def __init__(self) -> None:
        self.answers = False  # the guest agent
        self.frozen = False
        self.holds = False  # copies never end by themselves
        self.done: list[str] = []

    def freeze(self, name: str) -> bool:
        self.frozen = self.answers
        return self.answers

    def thaw(self, name: str) -> None:
        self.frozen = False

    def snapshot(self, name: str, paths: Sequence[str], snapshot: str) -> None:
        for path in paths:
            subprocess.run(["qemu-img", "snapshot", "-c", snapshot, path], check=True)
        self.done.append(f"snapshot {snapshot}{' frozen' if self.frozen else ''}")

    def drop_snapshot(self, name: str, paths: Sequence[str], snapshot: str) -> None:
        for path in paths:
            command = ["qemu-img", "snapshot", "-d", snapshot, path]
            subprocess.run(command, check=False, capture_output=True)  # it may not be there
        self.done.append(f"drop {snapshot}")

    def limit(self, name: str, rate_bytes_s: int) -> None:
        self.done.append(f"limit {rate_bytes_s}")

    def backup(self, name: str, targets: Mapping[str, str], rate_bytes_s: int) -> MemoryCopy:
        assert not any(Path(target).exists() for target in targets.values())
        self.done.append(f"backup {rate_bytes_s}{' frozen' if self.frozen else ''}")
        return MemoryCopy(targets, self.holds)


class MirroringDisks(MemoryDisks):
    """The same with mirrors: a VM writes to its raw disk whenever it is let, and counts on it."""

    def __init__(self, name: str, files: Sequence[str]) -> None:
        super().__init__()
        self.name, self.plugged = name, list(files)
        self.mirrors: dict[str, str] = {}
        self.held = self.dead = False
        self.breaks = ""  # why a mirror ends by itself
        self.written = Path(files[0]).read_bytes()  # what the VM's first disk must hold

    def guest_writes(self) -> None:
        if self.held or self.dead:
            return
        self.written = bytes(b ^ 0xFF for b in self.written[:8]) + self.written[8:] + b"w"
        first = self.plugged[0]
        for path in {first, self.mirrors.get(first, first)}:
            Path(path).write_bytes(self.written)

    def _here(self, name: str) -> None:
        if name != self.name or self.dead:
            raise NotFound(f"'{name}' does not run here")

    def files(self, name: str) -> list[str]:
        self._here(name)
        return list(self.plugged)

    def mirror(self, name: str, path: str, target: str, kind: str, rate_bytes_s: int) -> None:
        self._here(name)
        assert path in self.plugged and path not in self.mirrors
        Path(target).write_bytes(Path(path).read_bytes())
        self.mirrors[path] = target

    def mirrored(self, name: str, path: str) -> Mirror | None:
        self._here(name)
        if self.breaks:
            self.mirrors.pop(path, None)
        size = len(self.written)
        return Mirror(size, size, not self.holds) if path in self.mirrors else None

    def give_up(self, name: str, path: str) -> None:
        self._here(name)
        self.mirrors.pop(path, None)

    def hold(self, name: str) -> None:
        self._here(name)
        self.held = True

    def go_on(self, name: str) -> None:
        self._here(name)
        self.held = False

    def pivot(self, name: str, path: str, target: str) -> None:
        self._here(name)
        assert self.held and self.mirrors[path] == target
        del self.mirrors[path]
        self.plugged[self.plugged.index(path)] = target


class MemoryForeigners:
    """Domains of a libvirt that is not there."""

    def __init__(self) -> None:
        self.xml: dict[str, str] = {}
        self.notes: dict[str, str] = {}

    def names(self) -> list[str]:
        return sorted(self.xml)

    def definition(self, name: str) -> Definition:
        if name not in self.xml:
            raise NotFound(f"there is no domain '{name}' on this host")
        return Definition(self.xml[name], self.notes.get(name, ""))

    def undefine(self, name: str) -> None:
        self.definition(name)
        del self.xml[name]

    def define(self, xml: str) -> None:
        self.xml[read(xml).name] = xml
