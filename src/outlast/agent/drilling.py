"""Fire drills: this agent's part as the one asked, the one that fails, and the one that judges.

Rules:
1. A drill is one register. Whoever wishes one, begins it or ends it wins a swap first; a wish that
   its host does not begin within BEGIN_S is taken back by the master, and can begin no more.
2. The host that is to fail looks again for itself, in the view the wish was judged by. Power and
   storage drills need a host that can be reset.
3. A drill ends by itself: pulse_drill has its deadline, an agent is started by its supervisor, a VM
   by its host. Nobody has to watch it.
4. It is judged by the master that the pool has when it is over, from the notes of all hosts.
5. The master also keeps the pool's appointments: a canary VM chooses the host, and the drill ends
   nothing but the canary. What hinders one is told, and it is not made up for.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from outlast.agent.picture import Picture
from outlast.errors import Conflict, InvalidInput, NotFound, OutlastError, PoolTrouble
from outlast.placement.snapshot import read as picture_of
from outlast.pool.facts import Facts, Held
from outlast.pool.journal import Note, note
from outlast.readiness import appointments, drills
from outlast.storage.drills import BEGUN, ENDED, REFUSED, WISHED, DrillRecord
from outlast.storage.register import Outcome, Swap
from outlast.wire.shapes import LocalVms, PoolStatus, TimelineEntry

LOOK_S = 1.0
BEGIN_S = 15.0
RESETTING = ("power", "storage")  # kinds that may reset the host
FLUSH_S = 1.0  # for the notes, before this agent ends itself
APPOINTMENT = "the pool's settings"


class Guard(Protocol):
    """What of the guard a drill needs, and what is looked after beside it."""

    def status(self) -> Mapping[str, object]: ...

    def kill(self, vm: str) -> Mapping[str, object]: ...

    def settled(self, store: str, since_ns: int) -> Mapping[str, object]: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What a drill is carried out with. end_agent: ends this process as a crash would."""

    mute: Callable[[str, int], bool]  # the pulse, by kind and seconds
    guard: Callable[[], Guard]
    last_word: Callable[[str], None] = lambda _kind: None  # the host may go down now
    end_agent: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)


class Asked(Protocol):
    """What of this agent's own API a drill is judged by."""

    def status(self, peers: Mapping[int, LocalVms]) -> PoolStatus: ...

    def picture(self) -> str: ...

    def timeline(self, since_wall_s: float, limit: int) -> list[TimelineEntry]: ...


class Drills:
    """look: what this host knows. known: the register as last read; swap: writes it."""

    def __init__(
        self, api: Asked, look: Callable[[], Picture],
        known: Callable[[], Held[DrillRecord] | None],
        swap: Callable[[int, DrillRecord], Swap], means: Means, tell: Callable[[Note], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._api, self._look, self._known, self._swap = api, look, known, swap
        self._means, self._tell, self._clock = means, tell, clock
        self._since: tuple[str, float] = ("", 0.0)  # when this state of it was first seen
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drills", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                self.step(datetime.now())
            except (OutlastError, OSError):
                continue  # the storage is away, or somebody was first: later

    # ---- for people

    def newest(self) -> DrillRecord:
        """Raises NotFound."""
        held = self._known()
        if held is None:
            raise NotFound("there was no drill in this pool yet", hint="outlast drill --help")
        return held.value

    def wish(self, host: str, kind: str, vm: str, by: str, due: str = "") -> DrillRecord:
        """Have one take place. vm: a canary, which chooses the host.

        Raises InvalidInput, NotFound, Conflict with every reason why not now, StorageTrouble.
        """
        held = self._known()
        if held is not None and held.value.open:
            raise Conflict(f"a drill of {held.value.host} is under way", hint="wait for its end")
        made = self._foreseen(host, kind, vm, by)
        made = replace(made, due=due or (held.value.due if held else ""))
        self._written(held, made, "somebody else wishes a drill")
        return made

    def _foreseen(self, host: str, kind: str, vm: str, by: str) -> DrillRecord:
        facts = self._facts()
        status, picture = self._api.status({}), picture_of(self._api.picture())
        entries = self._api.timeline(time.time() - drills.HISTORY_S, drills.NOTES_MAX)
        timing = self._look().settings.timing
        found, said = drills.planned(status, picture, timing, entries, host, kind, vm)
        if said:
            raise Conflict(f"this drill may not take place now: {'; '.join(said)}",
                           hint="nothing was done; --dry-run shows what would happen")  # fmt: skip
        slot = next(n for n, r in facts.slots.items() if r.active and r.host == found.host)
        return DrillRecord(
            secrets.token_hex(8), slot, found.host, kind, vm, by,
            view=facts.view.version if facts.view else 0, for_s=found.for_s,
            foreseen=found.foreseen, earliest_s=found.earliest_s or 0.0,
            latest_s=found.latest_s or 0.0, wished_s=time.time(),
        )  # fmt: skip

    # ---- what happens by itself

    def step(self, now: datetime) -> None:
        """Look once, and do this host's part. Raises OutlastError when the storage is away."""
        facts, held = self._look().facts, self._known()
        if facts is None or not facts.sample.good:
            return
        if held is not None and held.value.open:
            self._carry_on(facts, held)
        elif _master(facts):
            self._keep_appointment(facts, held, now)

    def _carry_on(self, facts: Facts, held: Held[DrillRecord]) -> None:
        drill = held.value
        mark = f"{drill.id} {drill.state}"
        if self._since[0] != mark:
            self._since = (mark, self._clock())
        waited_s = self._clock() - self._since[1]
        if drill.state == WISHED and drill.slot == facts.me.slot:
            self._begin(facts, held)
        elif drill.state == WISHED and _master(facts) and waited_s > BEGIN_S:
            self._refuse(held, drill, f"{drill.host} did not begin it within {BEGIN_S:g} s")
        elif drill.state == BEGUN and _master(facts):
            over = waited_s > drill.for_s + drills.LATE_S
            if over or (drill.kind not in drills.ENDING and waited_s > drills.LATE_S):
                self._judge(held, over=over)

    def _begin(self, facts: Facts, held: Held[DrillRecord]) -> None:
        drill = held.value
        if said := self._unable(facts, drill):
            self._refuse(held, drill, said)
            return
        begun = replace(drill, state=BEGUN, begun_s=time.time())
        self._written(held, begun, "the drill was taken back")
        names = ", ".join(f"{one.vm} on {one.host}" for one in drill.foreseen) or "no VM is touched"
        fields = {
            "host": drill.host, "kind": drill.kind, "what": _what(drill), "for_s": drill.for_s,
            "by": drill.by,
        }  # fmt: skip
        about = {"vm": drill.vm} if drill.kind == "vm" else {}
        self._tell(note("drill-begins", **fields, **about, foreseen=names))
        if drill.kind == "agent":
            self._ended.wait(FLUSH_S)
            self._means.end_agent()
        elif drill.kind == "vm":
            self._means.guard().kill(drill.vm)
        else:
            if drill.kind in RESETTING:
                self._means.last_word(drill.kind)
            self._means.mute(drill.kind, drill.for_s)

    def _unable(self, facts: Facts, drill: DrillRecord) -> str:
        """Rule 2."""
        if facts.view is None or facts.view.version != drill.view:
            return "the pool has changed since it was wished"
        if drill.kind in RESETTING:
            guard = self._means.guard().status()
            if guard.get("reset", "none") == "none":
                return f"nothing can reset {drill.host}: its watchdog is not armed"
        try:
            self._foreseen(drill.host, drill.kind, drill.vm, drill.by)
        except (Conflict, InvalidInput, NotFound) as hindered:
            return hindered.sentence
        return ""

    def _refuse(self, held: Held[DrillRecord] | None, drill: DrillRecord, why: str) -> None:
        refused = replace(drill, state=REFUSED, report=(why,))
        self._written(held, refused, "the drill has begun")
        self._tell(note("drill-refused", host=drill.host, kind=drill.kind, why=why))

    def _judge(self, held: Held[DrillRecord], *, over: bool) -> None:
        """over: its time is. Before that, what mutes nothing ends when all went as foreseen."""
        drill = held.value
        entries = self._api.timeline(drill.begun_s - drills.LATE_S, drills.NOTES_MAX)
        found = drills.compare(drill, entries)
        if not over and not found.matched:
            return
        ended = replace(drill, state=ENDED, matched=found.matched, report=found.report)
        self._written(held, ended, "another host judged it")
        how = "as foreseen" if found.matched else "otherwise than foreseen"
        fields = {"host": drill.host, "kind": drill.kind, "how": how}
        self._tell(note("drill-ended", **fields, why="; ".join(found.report)))

    def _keep_appointment(
        self, facts: Facts, held: Held[DrillRecord] | None, now: datetime
    ) -> None:
        settings = facts.pool
        if settings is None or not settings.drill_at:
            return
        due = appointments.due(settings.drill_at, now)
        if not due or (held is not None and held.value.due == due):
            return
        kind, vm = settings.drill_kind, settings.drill_vm
        try:
            self.wish("", kind, vm, APPOINTMENT, due)
        except (Conflict, InvalidInput, NotFound) as hindered:
            lease = facts.leases.get(vm)
            host = facts.host(lease.value.slot) if lease and lease.value.held else vm
            missed = DrillRecord("0" * 16, facts.me.slot, host, kind, vm, APPOINTMENT, due)
            self._refuse(held, missed, hindered.sentence)

    def _written(self, held: Held[DrillRecord] | None, drill: DrillRecord, lost: str) -> None:
        """Raises Conflict when somebody else was first, or nobody knows."""
        answer = self._swap(held.version if held else 0, drill)
        if answer.outcome is not Outcome.OK:
            raise Conflict(lost, hint="look with 'outlast drill --last'")

    def _facts(self) -> Facts:
        facts = self._look().facts
        if facts is None or not facts.registers_ready:
            raise PoolTrouble("this host knows nothing of the pool yet", hint="try again")
        return facts


def _master(facts: Facts) -> bool:
    view = facts.view
    return view is not None and view.master == facts.me.slot and facts.guard.remaining_ns > 0


def _what(drill: DrillRecord) -> str:
    """What is done to the host, for a note."""
    return {
        "power": "acts as if its power failed",
        "network": "acts as if it were cut off from the network",
        "storage": "acts as if it did not reach the pool's storage",
        "agent": "ends its agent",
        "vm": f"ends {drill.vm}",
    }[drill.kind]
