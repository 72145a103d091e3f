"""Evens the pool out by itself, where its settings say `balance: auto`: the master's agent does it.

Rules:
1. Only while the pool is whole and quiet: every host is a member with its agent, nobody is in
   maintenance, no VM shall move or waits for its start. When in doubt nothing moves.
2. A plan is followed only when it is worth its copying: the deviation falls by GAIN at least. One
   wave of it is wished, as a person would wish it; then everything is looked at anew.
3. Limits: `balance_moves_h` moves an hour, and a VM that moved rests for REST_S.
4. Deciding (`Pace`, `unquiet`, `worth`) is pure; the thread looks, plans and wishes. Its memory may
   be lost at any time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from outlast.agent.placing import picture
from outlast.errors import OutlastError
from outlast.placement.balance import balance
from outlast.placement.plan import Move, Plan, waves
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.settings import PoolSettings, S

LOOK_S = 60.0
HOUR_S = 3600.0
REST_S = 1800.0
GAIN = 0.03  # of the deviation of load, which is a share


class Pace:
    """Rule 3."""

    def __init__(self) -> None:
        self._made: deque[tuple[float, str]] = deque()

    def choose(self, now_s: float, moves: Sequence[Move], an_hour: int) -> list[Move]:
        """Those of a wave that may be made now. A VM that rests holds up what comes after it."""
        while self._made and now_s - self._made[0][0] > max(HOUR_S, REST_S):
            self._made.popleft()
        left = an_hour - sum(now_s - at <= HOUR_S for at, _ in self._made)
        resting = {vm for at, vm in self._made if now_s - at <= REST_S}
        chosen: list[Move] = []
        for move in moves:
            if move.vm in resting or len(chosen) >= left:
                break
            chosen.append(move)
        return chosen

    def made(self, now_s: float, vm: str) -> None:
        self._made.append((now_s, vm))


def unquiet(facts: Facts, settings: PoolSettings) -> str:
    """Rule 1: why nothing is evened out now; "" when it may be."""
    view = facts.view
    if view is None or view.master != facts.me.slot or not facts.registers_ready:
        return "this host is not the master"
    if not facts.sample.good or facts.guard.remaining_ns <= 0:
        return "this host does not reach the storage"
    for slot in view.slots - {facts.me.slot}:
        seen = facts.seen.get(slot)
        if seen is None or seen.block is None or seen.still_ns > settings.timing.gap_ns:
            return f"{facts.host(slot)} does not write"
        if seen.block.agent_away_ms:
            return f"the agent of {facts.host(slot)} is away"
    active = [r for r in facts.slots.values() if r.active]
    for record in active:
        if record.slot not in view.slots:
            return f"{record.host} is no member"
        if record.maintenance or record.power_off or record.leave:
            return f"{record.host} is in maintenance"
    for vm, held in facts.vms.items():
        wish, lease = held.value, facts.leases.get(vm)
        if wish.wanted and not wish.held_down and (lease is None or not lease.value.held):
            return f"{vm} is not started yet"
        if wish.move is not None and not wish.move.failed:
            return f"{vm} shall move"
    return ""


def worth(plan: Plan) -> bool:
    """Rule 2."""
    return bool(plan.moves) and plan.before - plan.after >= GAIN


class Balancer:
    """look: what this agent knows; wish: writes the wish to move a VM, raises OutlastError."""

    def __init__(
        self,
        look: Callable[[], tuple[Facts, PoolSettings] | None],
        wish: Callable[[str, str, str], object],
        tell: Callable[[Note], None],
    ) -> None:
        self._look, self._wish, self._tell = look, wish, tell
        self._pace = Pace()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="balancer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.step(time.clock_gettime_ns(time.CLOCK_BOOTTIME) / S)

    def step(self, now_s: float) -> list[Move]:
        """Look once; the moves that were wished."""
        seen = self._look()
        if seen is None:
            return []
        facts, begun = seen
        settings = facts.agreed(begun)
        if settings.balance != "auto" or unquiet(facts, settings):
            return []
        pool = picture(facts, settings)
        plan = balance(pool)
        if not worth(plan):
            return []
        wave = waves(pool, plan.moves, settings.moves_at_once)[0]
        made: list[Move] = []
        for move in self._pace.choose(now_s, wave, settings.balance_moves_h):
            try:
                self._wish(move.vm, move.target, f"it evens out the pool: {move.why}")
            except OutlastError:
                break  # it is no longer as it was seen
            self._pace.made(now_s, move.vm)
            made.append(move)
        if made:
            moved = ", ".join(f"{m.vm} to {m.target}" for m in made)
            fields = {"before": plan.before, "after": plan.after, "count": len(plan.moves)}
            self._tell(note("balancing", moves=moved, **fields))
        return made
