"""Listens to VMs that were started a moment ago until they give a first sign of life.

Rules:
1. A VM is listened to while its process is younger than WATCH_NS and has given none; then never
   again. What came from another host has shown that it lives.
2. In a thread of its own, which may hang with what it asks. When nobody is young it asks nothing.
3. What could not be asked is not known (None), which nobody takes for silence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from outlast.errors import HypervisorTrouble
from outlast.hypervisor.guests import Guests
from outlast.model import LocalVm, VmState
from outlast.pool.facts import Facts, Sign
from outlast.pool.life import WATCH_NS

log = logging.getLogger("outlast.agent.life")
LOOK_S = 0.5


class LifeSigns:
    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self._ended = threading.Event()
        self._known: dict[str, Sign] = {}
        self._listening = False  # the port holds something for VMs that were silent
        self.signs: Mapping[str, Sign] | None = None

    def start(self, look: Callable[[], Facts | None]) -> None:
        """look: what the agent knows."""

        def run() -> None:
            while not self._ended.wait(LOOK_S):
                facts = look()
                if facts is not None and facts.local_ready:
                    self.step(time.clock_gettime_ns(time.CLOCK_BOOTTIME), facts.local)

        threading.Thread(target=run, name="life-signs", daemon=True).start()

    def close(self) -> None:
        self._ended.set()

    def step(self, now_ns: int, local: Mapping[str, LocalVm]) -> None:
        """Listen once."""
        young = {n: vm for n, vm in local.items() if now_ns - vm.started_ns < WATCH_NS}
        known = {
            name: sign for name, sign in self._known.items()
            if name in young and young[name].started_ns == sign.started_ns
        }  # fmt: skip
        silent = {
            name: vm.started_ns for name, vm in young.items()
            if name not in known and vm.state is VmState.RUNNING and not vm.incoming
        }  # fmt: skip
        try:
            heard = self._guests.signs(silent) if silent or self._listening else {}
        except HypervisorTrouble as trouble:
            log.info("who lives is not known: %s", trouble.sentence)
            self.signs = None
            return
        self._listening = bool(silent.keys() - heard.keys())
        for name, kind in heard.items():
            known[name] = Sign(silent[name], kind, max(0, now_ns - silent[name]))
        self._known, self.signs = known, dict(known)
