"""The register in memory: for tests and for the pretend world of the simulator. Pure.

Deterministic. Any number of hosts share one `MemoryShelf`; each has a `MemoryRegister` on it, which
can be told by a `fate` what the storage makes of its next call: no chance, no time in here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from outlast.errors import InvalidInput, StorageTrouble
from outlast.storage.names import check_class, split_name
from outlast.storage.register import Outcome, Swap


class Fate(Enum):
    """What happens to one call."""

    DONE = "done"
    REPLY_LOST = "reply lost"  # executed, but answered by UNKNOWN
    LATE = "late"  # answered by UNKNOWN, executed by `MemoryShelf.execute_late`
    GONE = "gone"  # never executed: a read raises, a swap is answered by UNKNOWN


@dataclass
class MemoryShelf:
    """The storage itself: all versions of all registers, as JSON text."""

    versions: dict[str, list[str]] = field(default_factory=dict)
    late: list[tuple[str, int, str]] = field(default_factory=list)

    def execute(self, name: str, expected: int, text: str) -> bool:
        """One swap as the storage does it; True if it was done."""
        found = self.versions.setdefault(name, [])
        if len(found) != expected:
            return False
        found.append(text)
        return True

    def execute_late(self) -> int:
        """Do all swaps that are outstanding, in order of arrival; how many were done."""
        outstanding, self.late = self.late, []
        return sum(self.execute(*swap) for swap in outstanding)


class MemoryRegister:
    """One host's access to a shelf; its own one if none is given."""

    def __init__(
        self,
        shelf: MemoryShelf | None = None,
        fate: Callable[[str], Fate] = lambda _name: Fate.DONE,
    ) -> None:
        """`fate` is asked once for each read and swap, with the register's name."""
        self.shelf = MemoryShelf() if shelf is None else shelf
        self.fate = fate

    def read(self, name: str) -> tuple[int, dict[str, object] | None]:
        split_name(name)
        if self.fate(name) is not Fate.DONE:
            raise StorageTrouble(f"the storage does not answer a read of {name}")
        found = self.shelf.versions.get(name, [])
        return len(found), json.loads(found[-1]) if found else None

    def swap(self, name: str, expected: int, value: Mapping[str, object]) -> Swap:
        split_name(name)
        try:
            text = json.dumps(dict(value), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as trouble:
            raise InvalidInput(f"the value of {name} is not JSON: {trouble}") from None
        fate = self.fate(name)
        highest = len(self.shelf.versions.get(name, []))
        if fate is Fate.GONE:
            return Swap(Outcome.UNKNOWN, highest)
        if fate is Fate.LATE:
            self.shelf.late.append((name, expected, text))
            return Swap(Outcome.UNKNOWN, highest)
        done = self.shelf.execute(name, expected, text)
        if fate is Fate.REPLY_LOST:
            return Swap(Outcome.UNKNOWN, highest)
        return Swap(Outcome.OK, expected + 1) if done else Swap(Outcome.CONFLICT, highest)

    def names(self, kind: str) -> list[str]:
        check_class(kind)
        return sorted(
            name
            for name, found in self.shelf.versions.items()
            if found and split_name(name)[0] == kind
        )
