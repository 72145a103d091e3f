"""The pulse's line to its guard: what the guard says, and what it is told.

Rules:
1. What the guard said last is forgotten before it is asked again: silence is no answer.
2. A command that got lost is not said again here; the core wishes it anew while it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outlast.errors import Unreachable
from outlast.guard.client import GuardClient
from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_facts import (
    Close,
    Command,
    Confirm,
    Drained,
    Extend,
    GuardFact,
    Open,
    Retime,
)
from outlast.guard.pulse_io import now
from outlast.model import GuardState
from outlast.settings import Timing


class GuardLine:
    """`status`: the guard's newest answer; None while it is not known."""

    def __init__(self, guard: GuardClient) -> None:
        self._guard = guard
        self.status: dict[str, object] | None = None
        self.watchdog = "automatic"  # the pool's wish

    def ask(self, core: PulseCore | None) -> None:
        """Let the core know how the guard stands."""
        fact: GuardFact | None = None
        self.status = None
        try:
            said = self._guard.status()
            fact = GuardFact(
                GuardState(said["state"]), str(said["term"]), said["empty"] is True,
                said.get("undrained") is True, bool(said.get("stores")),
            )  # fmt: skip
            self.status = said
        except (Unreachable, ValueError, KeyError):
            pass  # nothing is known of it now
        if core:
            core.heed(fact, now())

    def tell(self, core: PulseCore | None, commands: Sequence[Command]) -> None:
        if not commands or core is None:
            return
        moved = False
        for command in commands:
            try:
                said = self._tell(command, core.timing)
            except Unreachable:
                continue
            moved = isinstance(command, Confirm | Extend) and said.get("ok") is True
            if isinstance(command, Retime) and said.get("ok") is True:
                core.retimed(command.timing)
            if said.get("ok") is not True:
                error = str(said.get("error", ""))
                core.trouble = f"the guard refused: {error}"
                if isinstance(command, Open):
                    core.open_refused(error)
        if moved and len(commands) == 1 and self.status:  # the deadline, and nothing else
            times = {key: said[key] for key in ("deadline_ns", "remaining_ns") if key in said}
            self.status = {**self.status, **times}
            return
        self.ask(core)

    def _tell(self, command: Command, timing: Timing) -> Mapping[str, object]:
        if isinstance(command, Close):
            return self._guard.close(
                command.term, command.reason, reset_if_running=command.reset_if_running
            )
        if isinstance(command, Drained):
            return self._guard.drained(command.term)
        start = command.start
        if isinstance(command, Confirm):
            return self._guard.confirm(command.term, start.boot_ns, start.raw_ns)
        if isinstance(command, Extend):
            return self._guard.extend(command.term, start.boot_ns, start.raw_ns)
        if isinstance(command, Retime):
            timing = command.timing
        ask = self._guard.retime if isinstance(command, Retime) else self._guard.open
        return ask(
            command.term, fence_ns=timing.fence_ns, kill_ns=timing.kill_ns,
            margin_ns=timing.margin_ns, watchdog_s=timing.watchdog_s, watchdog=self.watchdog,
            start_boot_ns=start.boot_ns, start_raw_ns=start.raw_ns,
        )  # fmt: skip
