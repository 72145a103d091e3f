"""Which notes caused a note: the chain from "web runs on a" back to "c is silent".

Rules:
1. Causes are found by rule, from codes and fields alone, so that a host which writes its notes and
   a reader who merges the notes of all hosts find them in the same way.
2. A note is never caused by what came before its VM's last good start: that story is over.
3. What is remembered is bounded: the newest note of each code for each VM, host and pair.

It does not: guess. A note without a cause here is where a chain begins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DEATHS = ("host-silent", "host-off", "host-closed", "host-anew")
VM_ENDS = ("vm-crashed", "vm-killed", "start-failed", "lease-freed", "vm-stopped", "order-late")
RUNS = ("vm-runs", "vm-adopted", "vm-moved")
OF_A_RUN = ("vm-crashed", "vm-alive", "vm-mute")  # what happens to a VM that runs

# code -> codes of the same VM, of which the newest is the cause
SAME_VM: Mapping[str, tuple[str, ...]] = {
    "vm-runs": ("vm-starts",),
    "vm-alive": ("vm-runs",),
    "vm-mute": ("vm-runs",),
    "vm-starts": (
        "lease-taken",
        "vm-crashed",
        "start-failed",
        "start-locked",
        "vm-stopped",
        "vm-shutdown-restart",
    ),
    "move-begins": ("order-given",),
    "lease-given": ("move-begins",),
    "vm-moved": ("lease-given",),
    "move-failed": ("move-begins", "order-given"),
    "lease-taken": ("order-given",),
    "order-given": (*VM_ENDS, "no-room", "start-goes-on"),
    "no-room": VM_ENDS,
    "start-goes-on": ("start-waits",),
    "order-late": ("order-given",),
    "order-refused": ("order-given",),
    "lease-freed": ("start-failed", "held-down", "vm-stopped", "vm-crashed", "vm-shutdown"),
    "held-down": ("vm-crashed", "start-failed"),
    "start-failed": ("vm-starts",),
    "start-locked": ("vm-starts",),
    "vm-stopped": ("vm-stops",),
}
# code -> codes of the same host
SAME_HOST: Mapping[str, tuple[str, ...]] = {
    "storage-back": ("storage-sick",),
    "in-service": ("maintenance",),
    "time-given": ("storage-sick",),
    "time-refused": ("storage-sick",),
    "not-member": ("storage-sick", "time-refused"),
    "host-off": ("fence-begins",),
    "host-silent": ("drill-begins",),
    "link-down": ("drill-begins",),
    "drill-ended": ("drill-begins",),
    "fence-failed": ("fence-begins",),
    "vm-killed": ("not-member",),
    # and what others saw of it
    "guard-ended": ("storage-sick", "time-refused", "host-silent", "host-off", "host-closed"),
    "term-ended": ("host-silent", "host-off", "host-closed"),
    "member": ("guard-ended", "not-member"),
}
# what ends the story that a cause belongs to
HOST_OVER: Mapping[str, str] = {
    "storage-sick": "storage-back",
    "drill-begins": "drill-ended",
    "guard-ended": "member",
    "time-refused": "storage-back",
    "fence-begins": "member",
    "host-off": "member",
    "host-silent": "member",
    "host-closed": "member",
}
MAINTAINED = " is in maintenance"  # in the reason of an order to move
NAMED = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Told:
    """A note that was written down: its id, who said it, its code and fields."""

    id: str
    host: str
    code: str
    fields: Mapping[str, object]


class Causes:
    """The newest notes, by what they are about."""

    def __init__(self) -> None:
        self._count = 0
        self._newest: dict[tuple[str, str, str], tuple[int, str]] = {}
        self._view: tuple[int, str, str] | None = None  # count, id, version

    def of(self, told: Told) -> tuple[str, ...]:
        """Ids of the notes that caused this one, oldest first; it is not remembered yet."""
        found: set[tuple[int, str]] = set()
        vm, host = str(told.fields.get("vm", "")), str(told.fields.get("host", "") or told.host)
        over = max((self._at(code, "vm", vm) for code in RUNS), default=(0, ""))[0]
        if vm:
            codes = SAME_VM.get(told.code, ())
            found.add(max((self._at(code, "vm", vm) for code in codes), default=(0, "")))
        if told.code == "vm-crashed" and (drill := self._at("drill-begins", "vm", vm))[0] > over:
            found.add(drill)
        for code in SAME_HOST.get(told.code, ()):
            mark = self._at(code, "host", host)
            if mark > self._at(HOST_OVER.get(code, ""), "host", host):
                found.add(mark)
        if told.code in {"order-given", "no-room"}:
            found |= self._deaths(str(told.fields.get("why", "")).partition(" lost it")[0])
        if told.code == "order-given" and MAINTAINED in str(told.fields.get("why", "")):
            name = str(told.fields["why"]).partition(MAINTAINED)[0]
            found.add(self._at("maintenance", "host", name))
        if told.code == "view-changed":
            reason = str(told.fields.get("reason", ""))
            found |= self._deaths(reason) | self._links(reason)
        if told.code == "member" and self._view and self._view[2] == str(told.fields["view"]):
            found.add(self._view[:2])
        if told.code == "link-up":
            pair = f"{told.fields['host']} {told.fields['other']}"
            found.add(self._at("link-down", "pair", pair))
        over = over if vm and told.code not in OF_A_RUN else 0
        return tuple(id_ for count, id_ in sorted(found) if count > over)

    def add(self, told: Told) -> None:
        """Remember a note that was written down."""
        self._count += 1
        mark = (self._count, told.id)
        vm, host = str(told.fields.get("vm", "")), str(told.fields.get("host", "") or told.host)
        if vm:
            self._newest[told.code, "vm", vm] = mark
        self._newest[told.code, "host", host] = mark
        if told.code == "link-down":
            pair = f"{told.fields.get('host')} {told.fields.get('other')}"
            self._newest[told.code, "pair", pair] = mark
        if told.code == "view-changed":
            self._view = (*mark, str(told.fields.get("view")))

    def _at(self, code: str, kind: str, name: str) -> tuple[int, str]:
        return self._newest.get((code, kind, name), (0, ""))

    def _deaths(self, text: str) -> set[tuple[int, str]]:
        """The newest death of each host that a sentence names."""
        names = set(NAMED.findall(text))
        return {max(self._at(code, "host", name) for code in DEATHS) for name in names}

    def _links(self, text: str) -> set[tuple[int, str]]:
        if "cannot be reached" not in text:  # an exclusion: the links are its reason
            return set()
        return {self._at("link-down", "host", name) for name in set(NAMED.findall(text))}


def chain(entries: Sequence[Mapping[str, object]], last: str) -> list[Mapping[str, object]]:
    """The notes that led to the note `last`, and itself, in the order of `entries`."""
    by_id = {str(e.get("id", "")): e for e in entries}
    wanted, waiting = set[str](), [last]
    while waiting:
        one = waiting.pop()
        if one in wanted or one not in by_id:
            continue
        wanted.add(one)
        causes = by_id[one].get("causes")
        waiting += [str(c) for c in causes] if isinstance(causes, list | tuple) else []
    return [e for e in entries if str(e.get("id", "")) in wanted]
