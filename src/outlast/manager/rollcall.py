"""Asks the directory whether its people are still there, so that nobody stays in who has left.

Rules:
1. Every EVERY_S, on the manager that leads: whom the directory does not know any more, or in no
   group with a role here, loses sessions and roles at once, and with them what tokens may; other
   roles count from then on. What happened is in the audit.
2. A directory that does not answer takes nothing away: that is no proof that anybody left.
3. Only a directory that has a reader can be asked. For all others, providers included, sessions
   end after hours and tokens rest after `outside_days` (accounts.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from outlast.manager.accounts import Accounts
from outlast.manager.leader import rounds
from outlast.manager.outside import LDAP, Elsewhere

log = logging.getLogger("outlast.manager.rollcall")

EVERY_S = 900.0


class RollCall:
    def __init__(self, people: Accounts, directory: Elsewhere | None) -> None:
        self._people, self._directory = people, directory

    async def run(self, leads: Callable[[], bool]) -> None:
        """Until it is cancelled."""
        if self._directory is not None and self._directory.looks:
            await rounds(leads, EVERY_S, self.round, log, "whether people are still there")

    async def round(self) -> list[str]:
        """Who is out now. Raises Unreachable, InvalidInput, StorageTrouble."""
        out: list[str] = []
        if self._directory is None or not self._directory.looks:
            return out
        for row in await self._people.users():
            if row.origin == LDAP and not row.disabled:
                found = await self._directory.look(row.name)
                if not await self._people.heard_of(row.name, found):
                    out.append(row.name)
        return out
