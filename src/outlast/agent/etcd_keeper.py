"""Looks after a host's own directory of a pool on etcd, and after etcd's history.

Rules:
1. Every LOOK_S the copies of the pool's shared files are made current, and notes exchanged.
2. etcd keeps every value that ever was, until it is compacted. What is older than KEEP_S goes: the
   pool needs no old value, and without this etcd would be full after some days of heartbeats.
3. In a thread of its own; it may wait for etcd as long as it likes. Nothing depends on it at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from outlast.errors import OutlastError
from outlast.storage.etcd import Etcd, compact
from outlast.storage.etcd_folder import EtcdFolder

log = logging.getLogger("outlast.agent.etcd")

LOOK_S = 5.0
KEEP_S = 600.0


class EtcdKeeper:
    """root: the host's directory of the pool."""

    def __init__(
        self, root: Path, slot: int, etcd: Etcd, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._slot = EtcdFolder(root, etcd), slot
        self._etcd, self._clock = etcd, clock
        self._past: deque[tuple[float, int]] = deque()  # when etcd was at which revision
        self._told = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="etcd", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Everything once. Raises OutlastError, OSError."""
        with self._folder.locked():
            self._folder.pull()
        self._folder.swap_notes(self._slot)
        now_s = self._clock()
        if not self._past or now_s - self._past[-1][0] >= KEEP_S / 10:
            self._past.append((now_s, self._etcd.revision))
        if now_s - self._past[0][0] >= KEEP_S:
            compact(self._etcd, self._past.popleft()[1])

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            said = ""
            try:
                self.look()
            except OutlastError as trouble:
                said = trouble.sentence
            except OSError as trouble:
                said = str(trouble)
            if said != self._told:
                self._told = said
                log.warning("%s", said or "all is well again")
