"""Which disks of the pool's VMs this host cannot reach.

Rules:
1. Disks in the pool's own directory are not asked for: who does not reach that is no member.
2. A storage that hangs hangs a thread of its own; its disks are not reached after LIMIT_S. Disks
   of one folder are asked for together, by one thread at a time.
3. Only whether a disk is there and may be used is looked at; nothing is opened.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from outlast.report import Lack

LIMIT_S = 10.0
STORAGE = "storage"


class DiskReach:
    def __init__(self, pool_dir: Path) -> None:
        self._pool_dir = pool_dir
        self._said: dict[str, Mapping[str, str]] = {}  # folder -> disk -> what is wrong
        self._asked: dict[str, tuple[float, threading.Thread]] = {}  # folder -> since when

    def look(self, now_s: float, disks: Iterable[str]) -> tuple[Lack, ...]:
        """Disks that are not reached, by the newest answers."""
        folders: dict[str, list[str]] = {}
        for disk in sorted(set(disks)):
            if not Path(disk).is_relative_to(self._pool_dir):
                folders.setdefault(str(Path(disk).parent), []).append(disk)
        for gone in self._said.keys() - folders.keys():
            del self._said[gone]
        lacks = []
        for folder, mine in folders.items():
            since_s, thread = self._asked.get(folder, (now_s, None))
            if thread is None or not thread.is_alive():
                since_s = now_s
                self._ask(now_s, folder, mine)
            hangs = now_s - since_s >= LIMIT_S
            said = self._said.get(folder, {})
            for disk in mine:
                why = f"{folder} does not answer" if hangs else said.get(disk, "")
                lacks += [Lack(STORAGE, disk, why)] if why else []
        return tuple(lacks)

    def _ask(self, now_s: float, folder: str, disks: list[str]) -> None:
        def ask() -> None:
            self._said[folder] = {disk: why for disk in disks if (why := _wrong(disk))}

        thread = threading.Thread(target=ask, name=f"disks in {folder}", daemon=True)
        self._asked[folder] = (now_s, thread)
        thread.start()


def _wrong(disk: str) -> str:
    try:
        Path(disk).stat()
    except OSError as error:
        return error.strerror or str(error)
    return "" if os.access(disk, os.R_OK | os.W_OK) else "it may not be used here"
