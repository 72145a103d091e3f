"""One round of placing: a picture that counts at once what was placed on it.

Rules:
1. VMs that need a host in one round are placed together, in the order and by the ways of
   placement/spare.py: so the master does what its own forecast said.
2. A VM that some hosts failed to start, or did not take, tries the others first.
3. Every answer names each candidate: its score, or the rule that keeps the VM off it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from outlast.placement.choose import Answer, answer
from outlast.placement.layout import NOWHERE, Layout
from outlast.placement.picture import Picture
from outlast.placement.spare import assign

ANEW = "was tried just now"


class Stage:
    def __init__(self, picture: Picture) -> None:
        self._layout = Layout(picture)
        self._names = [host.name for host in picture.hosts]

    def place(self, vms: Sequence[str], tried: Mapping[str, Collection[str]]) -> list[Answer]:
        """Where each of these VMs, which run nowhere, shall start; in the order of starts.

        tried: VM -> hosts by name, for rule 2.
        """
        layout = self._layout
        known = [layout.vm_at[vm] for vm in vms if not tried.get(vm)]
        found = []
        assigned = assign(layout, known)
        for vm, host in assigned.spots.items():
            said = answer(layout, vm)
            if host != NOWHERE:
                said = replace(said, host=self._names[host])
                layout.put(vm, host)
            found.append(said)
        for name in vms:
            if tried.get(name):
                found.append(self._elsewhere(layout.vm_at[name], frozenset(tried[name])))
        return found

    def target(self, vm: str, to: str = "") -> Answer:
        """Where a running VM shall move; to: the only host, "" = any but its own."""
        layout, at = self._layout, self._layout.where[self._layout.vm_at[vm]]
        index = layout.vm_at[vm]
        said = answer(layout, index, frozenset({at}) if at != NOWHERE else frozenset())
        own = self._names[at] if at != NOWHERE else ""
        rejected = tuple((host, why) for host, why in said.rejected if host != own)
        said = replace(said, rejected=rejected)
        if not to:
            return said
        if to not in layout.host_at:
            return replace(
                said, host="", scores=(), rejected=((to, f"{to} is no member of the pool"),)
            )
        scores = tuple(score for score in said.scores if score.host == to)
        why = tuple((host, why) for host, why in rejected if host == to)
        return replace(said, host=to if scores else "", scores=scores, rejected=why)

    def reserve(self, vm: str, host: str) -> None:
        """Keep room for a VM that runs elsewhere still and is about to come."""
        layout = self._layout
        index, at = layout.vm_at[vm], layout.host_at[host]
        layout.free_mib[at] -= layout.mib[index]
        layout.free_vcpus[at] -= layout.vcpus[index]

    def why(self, vm: str) -> Answer:
        """Where a VM that runs nowhere would go, without placing it."""
        return answer(self._layout, self._layout.vm_at[vm])

    def _elsewhere(self, vm: int, tried: frozenset[str]) -> Answer:
        layout = self._layout
        gone = frozenset(layout.host_at[name] for name in tried if name in layout.host_at)
        said = answer(layout, vm, gone)
        if said.host:
            rejected = tuple((h, f"{h} {ANEW}" if h in tried else why) for h, why in said.rejected)
            said = replace(said, rejected=rejected)
        else:
            said = answer(layout, vm)
        if said.host:
            layout.put(vm, layout.host_at[said.host])
        return said


def evidence(said: Answer) -> dict[str, object]:
    """The candidates as fields of a note."""
    return {
        "candidates": [
            {"host": s.host, "score": round(s.total, 3), "memory": round(s.memory, 3),
             "used": round(s.used, 3), "cpu": round(s.cpu, 3), "vcpus": round(s.vcpus, 3),
             "wishes": s.wishes, "load_measured": s.measured}
            for s in said.scores
        ],
        "rejected": dict(said.rejected),
    }  # fmt: skip
