"""The port to disks of running VMs, on files that no QEMU has open: the VMs are pretended."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from outlast.errors import NotFound
from outlast.hypervisor.adoption import Definition, read
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
            subprocess.run(["qemu-img", "snapshot", "-d", snapshot, path], check=True)
        self.done.append(f"drop {snapshot}")

    def backup(self, name: str, targets: Mapping[str, str], rate_bytes_s: int) -> MemoryCopy:
        assert not any(Path(target).exists() for target in targets.values())
        self.done.append(f"backup {rate_bytes_s}{' frozen' if self.frozen else ''}")
        return MemoryCopy(targets, self.holds)


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
