"""The order in which VMs start: databases before what needs them, with a pause in between.

Rules:
1. A VM waits for all wanted VMs of a lower start order until they are held by a living host, and
   its own delay more. Who has order 0 and no delay waits for nobody.
2. Nobody waits for a VM that has no room, and for none longer than PATIENCE_S: a pool with one
   broken VM must still come up.
3. What is remembered is lost with this life of the agent: then a delay begins anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.settings import S

PATIENCE_S = 300


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
        orders = sorted({records[vm].start_order for vm in ordered})
        missing: dict[int, list[str]] = {}
        for order in orders:
            missing[order] = sorted(
                vm for vm, record in records.items()
                if record.start_order < order and vm not in no_room and _is_down(facts, vm, needy)
            )  # fmt: skip
            if missing[order]:
                self._up.pop(order, None)
            else:
                self._up.setdefault(order, now_ns)
        found = set()
        for vm in ordered:
            since = self._since.setdefault(vm, now_ns)
            why = self._why(now_ns, records[vm].start_order, records[vm].start_delay_s, missing)
            if not why or now_ns - since > PATIENCE_S * S:
                continue
            found.add(vm)
            if self._told.get(vm) != why:
                self._told[vm] = why
                notes.append(note("start-waits", vm=vm, why=why))
        for vm in set(self._since) - set(ordered):
            self._since.pop(vm, None)
            self._told.pop(vm, None)
        return frozenset(found)

    def _why(self, now_ns: int, order: int, delay_s: int, missing: Mapping[int, list[str]]) -> str:
        if missing[order]:
            return f"{', '.join(missing[order][:3])} must run before it"
        if now_ns - self._up[order] < delay_s * S:
            return f"it starts {delay_s} s after what comes before it"
        return ""


def _is_down(facts: Facts, vm: str, needy: Mapping[str, str]) -> bool:
    held, view = facts.leases.get(vm), facts.view
    if vm in needy or held is None or view is None:
        return True
    return not view.lists(held.value.slot, held.value.term)
