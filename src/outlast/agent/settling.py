"""Lets the guard know that a repository has behind it what VMs here wrote (its rule 14).

The guard asks no storage but the pool's. It keeps the names of the others that VMs here wrote to,
and until each has answered after the last VM was gone no term drains, so nobody takes "closed"
for "nothing of it is on its way".

Rules:
1. Told is only what the repository itself answered: what was gone before a moment has settled,
   for it answered a question that began then, and for X since.
2. A repository that the pool has no more holds no disk of any VM: what still reaches it harms
   nobody. Not knowing the repositories is not having none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from outlast.agent.drilling import Guard
from outlast.errors import Unreachable

LOOK_S = 0.5


class Settling:
    """word: the pulse's newest, with the guard's status in it. since_ns: of a repository that
    moment, and 0 while it does not answer (rules 1 and 2)."""

    def __init__(
        self, word: Callable[[], Mapping[str, Any] | None], guard: Callable[[], Guard],
        since_ns: Callable[[str], int],
    ) -> None:  # fmt: skip
        self._word, self._guard, self._since_ns = word, guard, since_ns

    def look(self) -> None:
        status = (self._word() or {}).get("guard") or {}
        if not status.get("empty"):
            return
        for store in status.get("stores", ()):
            since_ns = self._since_ns(store)
            if since_ns:
                try:
                    self._guard().settled(store, since_ns)
                except Unreachable:
                    return  # it is asked again in a moment
