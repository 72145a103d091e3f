"""The order in which VMs start: databases before what needs them, with a pause in between.

Rules:
1. A VM waits for all wanted VMs of a lower start order until they are held by a living host and
   answer as their records wish (`ready`), and its own delay more. Who has order 0 and no delay
   waits for nobody.
2. Nobody waits for a VM that has no room, and for none longer than PATIENCE_S: a pool with one
   broken VM must still come up. That it goes on without them is told.
3. Whether a VM answers is what its host reported in this epoch of its lease; no word is no answer.
4. What is remembered is lost with this life of the agent: then a delay begins anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from outlast.model import VmRecord
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.pool.measured import report_on
from outlast.settings import S

PATIENCE_S = 300
NAMED = 3


class Sequence:
    def __init__(self) -> None:
        self._since: dict[str, int] = {}  # vm -> since when it waits
        self._up: dict[int, int] = {}  # start order -> since when all below it are up
        self._told: dict[str, str] = {}

    def waiting(
        self, now_ns: int, facts: Facts, needy: Mapping[str, str], no_room: Collection[str],
        notes: list[Note],
    ) -> frozenset[str]:  # fmt: skip
        """Those of `needy` that may not start yet; tells why, once."""
        records = {vm: held.value for vm, held in facts.vms.items() if held.value.wanted}
        ordered = [vm for vm in needy if records[vm].start_order or records[vm].start_delay_s]
        if not ordered:
            self._since.clear()
            self._told.clear()
            self._up.clear()
            return frozenset()
        missing = {}
        for order in sorted({records[vm].start_order for vm in ordered}):
            missing[order] = _missing(facts, records, order, needy, no_room)
            if missing[order]:
                self._up.pop(order, None)
            else:
                self._up.setdefault(order, now_ns)
        found = set()
        for vm in ordered:
            since = self._since.setdefault(vm, now_ns)
            why = self._why(now_ns, records[vm].start_order, records[vm].start_delay_s, missing)
            goes_on = bool(why) and now_ns - since > PATIENCE_S * S
            if why and not goes_on:
                found.add(vm)
            self._tell(vm, why, notes, goes_on=goes_on)
        for vm in set(self._since) - set(ordered):
            self._since.pop(vm, None)
            self._told.pop(vm, None)
        return frozenset(found)

    def _why(self, now_ns: int, order: int, delay_s: int, missing: Mapping[int, list[str]]) -> str:
        if missing[order]:
            return "; ".join(missing[order])
        if now_ns - self._up[order] < delay_s * S:
            return f"it starts {delay_s} s after what comes before it"
        return ""

    def _tell(self, vm: str, why: str, notes: list[Note], *, goes_on: bool) -> None:
        told = f"after {PATIENCE_S} s" if goes_on else why
        if not why or self._told.get(vm) == told:
            return
        self._told[vm] = told
        if goes_on:
            notes.append(note("start-goes-on", vm=vm, why=why, after_s=PATIENCE_S))
        else:
            notes.append(note("start-waits", vm=vm, why=why))


def _missing(
    facts: Facts, records: Mapping[str, VmRecord], order: int, needy: Mapping[str, str],
    no_room: Collection[str],
) -> list[str]:  # fmt: skip
    """What this order waits for, in words: VMs that are down, and VMs that do not answer."""
    before = [
        vm for vm, record in sorted(records.items())
        if record.start_order < order and vm not in no_room
    ]  # fmt: skip
    down = [vm for vm in before if vm in needy or not _lives(facts, vm)]
    mute = [vm for vm in before if vm not in down and not is_ready(facts, vm, records[vm].ready)]
    said = [f"{', '.join(down[:NAMED])} must run before it"] if down else []
    said += [f"{vm} runs and is not ready: {wish_of(records[vm].ready)}" for vm in mute[:NAMED]]
    return said


def _lives(facts: Facts, vm: str) -> bool:
    """It is held by a host that is in."""
    held, view = facts.leases.get(vm), facts.view
    return held is not None and view is not None and view.lists(held.value.slot, held.value.term)


def is_ready(facts: Facts, vm: str, wish: str) -> bool:
    """Rule 3, for a VM that is held."""
    said = report_on(facts, vm) if wish else None
    return not wish or (said is not None and said.ready)


def wish_of(ready: str) -> str:
    """What `ready` waits for, in words."""
    kind, _, rest = ready.partition(":")
    if kind == "agent":
        return "the agent in its system does not answer"
    if kind == "tcp":
        return f"its port {rest} does not answer"
    return f"it has not run for {rest} s"
