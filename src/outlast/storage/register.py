"""The one primitive of the pool: a register with versions, swapped or not, by one host at a time.

A register has a name (`view`, `lease/web`), a version (0: never written, then 1, 2, ...) and a
value, a JSON object. What every implementation promises:

1. `read` gives the newest version and its value: not older than the newest one at the moment the
   call began, as far as the storage keeps its promises, and never older than what this object
   gave before. A damaged newest version raises; no reader ever falls back to an older one.
2. `swap(name, expected, value)` writes version expected + 1 if, at the instant the storage did it,
   `expected` was the newest version. It has three answers, none of which may be taken for another:

     OK        it was done, it is durable, and this value followed directly on `expected`. Of all
               swaps with one `expected`, by all hosts and for all time, at most one is told OK.
     CONFLICT  it was not done and never will be: `expected` is not the newest version.
     UNKNOWN   the storage did not say. It may have been done, or be done later, even after the
               caller has died. The caller reads until it sees its value or a version above
               expected + 1 of somebody else, and never treats UNKNOWN as CONFLICT.

   StorageTrouble raised by `swap` means: nothing was sent, the value is certainly not written.
3. Whoever got OK acts on it only while the same term is open: a swap may be answered very late.
4. A value told OK is never lost: from then on `read` gives it or a later one.

The caller's own value tells it who wrote a version (a lease names slot and term); the nonce that
an implementation needs to know its own writes again is its own business.

Deliberately not here: locks, watches, deletion (an end is a value like any other), and time.
`tests/contract/register_kit.py` checks all of this for any implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Outcome(Enum):
    """What a swap came to; see the rules above."""

    OK = "ok"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Swap:
    """The answer to one swap.

    `version` is expected + 1 when the outcome is OK, else the highest version seen so far (0: none
    seen); it is only a hint then, the newest version is what `read` says.
    """

    outcome: Outcome
    version: int

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.OK


class Register(Protocol):
    """The port. Calls may block as long as the storage does: never call it from an event loop."""

    def read(self, name: str) -> tuple[int, dict[str, object] | None]:
        """The newest version and its value; (0, None) if it was never written.

        The dict is the caller's own. Raises StorageTrouble when the storage can not be read, the
        newest version is damaged, or the storage went back in time; InvalidInput for a bad name.
        """
        ...

    def swap(self, name: str, expected: int, value: Mapping[str, object]) -> Swap:
        """Write `value` as version expected + 1 if `expected` is the newest version.

        `value` must be a JSON object. Raises StorageTrouble when nothing was sent (full,
        read-only, not there), InvalidInput for a bad name or a value that is not JSON.
        """
        ...

    def names(self, kind: str) -> list[str]:
        """All names of one class that were ever written, sorted: "vm" -> ["vm/db", "vm/web"].

        Raises StorageTrouble when the storage can not be read.
        """
        ...
