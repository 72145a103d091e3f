"""File systems inside VMs brought to rest by their agents, through libvirt; see disks.Disks.

Rules:
1. They thaw by themselves FREEZE_MAX_S after they were frozen, whatever became of who froze them.
2. Before a VM is frozen its name is written down. Who finds such a mark from a life before thaws
   the VM at once: that life ended in between, and libvirt may have frozen it after that.
3. What did not thaw is tried again every AGAIN_S, TRIES times; a VM that is gone needs no thaw.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from outlast.errors import HypervisorTrouble, NotFound

log = logging.getLogger(__name__)

FREEZE_MAX_S = 20.0
ANSWER_S = 10.0
AGAIN_S, TRIES = 3.0, 20

Ask = Callable[[str, str, Callable[[Any], None], float], None]  # what, VM, act, limit


class Resting:
    """ask: carries out something on a VM's domain, in limited time. marks: a folder for rule 2."""

    def __init__(self, ask: Ask, marks: Path | None) -> None:
        self._ask, self._marks = ask, marks
        self._thaws: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()
        for left in sorted(marks.glob("*")) if marks is not None else ():
            log.warning("'%s' was perhaps left frozen: it is thawed", left.name)
            self._thaw_later(left.name, 0.0)

    def freeze(self, name: str) -> bool:
        said: list[bool] = []  # nothing: libvirt did not answer in time, and it may freeze yet

        def freeze(dom: Any) -> None:
            try:
                said.append(dom.fsFreeze() >= 0)
            except libvirt.libvirtError as error:
                said.append(False)
                log.info("file systems in '%s' were not frozen: %s", name, error)

        self._mark(name)
        self._thaw_later(name, FREEZE_MAX_S)
        try:
            self._ask("freeze", name, freeze, ANSWER_S)
        except NotFound:
            said.append(False)
            raise
        finally:
            if said == [False]:
                self._forget(name)
        return said == [True]

    def thaw(self, name: str) -> None:
        self._thaw(name, TRIES)

    def _thaw(self, name: str, tries: int) -> None:
        try:
            self._ask("thaw", name, lambda dom: dom.fsThaw(), ANSWER_S)
        except NotFound:
            log.info("'%s' is gone and needs no thaw", name)
        except HypervisorTrouble as trouble:
            log.warning("'%s' may still be frozen: %s", name, trouble.sentence)
            if tries > 1:
                self._thaw_later(name, AGAIN_S, tries - 1)
                return
        self._forget(name)

    def _thaw_later(self, name: str, after_s: float, tries: int = TRIES) -> None:
        timer = threading.Timer(after_s, self._thaw, (name, tries))
        timer.daemon = True
        with self._lock:
            before, self._thaws[name] = self._thaws.get(name), timer
        if before is not None:
            before.cancel()
        timer.start()

    def _mark(self, name: str) -> None:
        if self._marks is not None:
            self._marks.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._marks / name).touch()

    def _forget(self, name: str) -> None:
        with self._lock:
            timer = self._thaws.pop(name, None)
        if timer is not None:
            timer.cancel()
        if self._marks is not None:
            with contextlib.suppress(OSError):
                (self._marks / name).unlink()
