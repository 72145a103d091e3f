"""Second factors: the authenticator app of a user, and recovery codes for the day it is gone.

Promises:
1. An app counts once it has shown a code that fits; until then nothing is asked for.
2. A code is taken once, by one manager of several: repeats are refused while they would still fit.
3. Recovery codes are kept as hashes, and each is good once. They are shown once, when the app is
   confirmed; a new app gives new ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from outlast.errors import Conflict, NotFound, Refused
from outlast.manager import totp
from outlast.manager.passwords import Guesses, secret_hash, short_code
from outlast.manager.repository import entries, records
from outlast.manager.repository.records import AuditRow
from outlast.manager.repository.store import Repository

ISSUER = "Outlast"  # how apps name it
RECOVERY_CODES = 10
WRONG = "the code is wrong or was used already"
WRONG_HINT = "the app shows a new one every 30 s; is its clock right?"


@dataclass(frozen=True, slots=True)
class Factor:
    """What a user has."""

    on: bool
    recovery_left: int


class Factors:
    def __init__(
        self, repository: Repository, guesses: Guesses, wall: Callable[[], float] = time.time
    ) -> None:
        self._repository, self._guesses, self._wall = repository, guesses, wall

    async def of(self, name: str) -> Factor:
        def find(c: Connection) -> Factor:
            row = entries.factor(c, name)
            on = row is not None and row.confirmed
            return Factor(on, entries.count_recovery_codes(c, name) if on else 0)

        return await self._repository.read(find)

    async def names(self) -> set[str]:
        """Of all who have one."""
        return await self._repository.read(entries.with_factor)

    async def begin(self, name: str) -> str:
        """What the app reads, as an otpauth URI. Raises Conflict when there is one already."""
        secret = totp.new_secret()
        if not await self._repository.write(lambda c: entries.begin_factor(c, name, secret)):
            raise Conflict(f"{name} has a second factor", hint="remove it first")
        return totp.uri(secret, name, ISSUER)

    async def waiting(self, name: str) -> str:
        """The same once more, while its first code is waited for; "" = there is none."""
        row = await self._repository.read(lambda c: entries.factor(c, name))
        return "" if row is None or row.confirmed else totp.uri(row.secret, name, ISSUER)

    async def confirm(self, name: str, code: str, address: str = "", by: str = "") -> list[str]:
        """From now on it is asked for: the recovery codes. All sessions of that user end.

        Raises Refused, NotFound, TooOften.
        """
        keys = f"code:{name}", f"address:{address}"
        self._guesses.check(*keys)
        row = await self._repository.read(lambda c: entries.factor(c, name))
        if row is None or row.confirmed:
            raise NotFound("no second factor waits for its first code", hint="begin anew")
        step = totp.step_of(row.secret, plain(code), self._wall())
        if step is None:
            raise Refused(WRONG, hint=WRONG_HINT)
        codes, waits = [short_code() for _ in range(RECOVERY_CODES)], row.secret
        line = AuditRow(
            self._wall(), by or name, address, "factor-add", name, True, "", "none", "an app"
        )

        def put(c: Connection) -> bool:
            hashes = [secret_hash(plain(one)) for one in codes]
            if not entries.confirm_factor(c, name, waits, step, hashes):
                return False
            entries.remove_sessions(c, name)
            records.add_audit(c, line)
            return True

        if not await self._repository.write(put):
            raise Conflict("another second factor was begun meanwhile", hint="begin anew")
        self._guesses.right(*keys)
        return codes

    async def check(self, name: str, code: str, address: str) -> str:
        """Uses a code up; what the audit says of it. Raises Refused, TooOften."""
        keys = f"code:{name}", f"address:{address}"
        self._guesses.check(*keys)
        wall_s, typed = self._wall(), plain(code)

        def use(c: Connection) -> str:
            row = entries.factor(c, name)
            if row is None or not row.confirmed:
                return ""
            step = totp.step_of(row.secret, typed, wall_s, row.last_step)
            if step is not None and entries.use_step(c, name, row.secret, step):
                return "with a code"
            if entries.use_recovery_code(c, name, secret_hash(typed)):
                left = entries.count_recovery_codes(c, name)
                return f"with a recovery code; {left} are left"
            records.add_audit(
                c, AuditRow(wall_s, name, address, "login", name, False, "a wrong code")
            )
            return ""

        how = await self._repository.write(use)
        if not how:
            raise Refused(WRONG, hint=WRONG_HINT)
        self._guesses.right(*keys)
        return how

    async def remove(self, by: str, name: str, address: str = "") -> None:
        """Raises NotFound. Whether it may be is the caller's to know."""
        line = AuditRow(
            self._wall(), by, address, "factor-remove", name, True, "", "an app", "none"
        )

        def remove(c: Connection) -> None:
            if not entries.remove_factor(c, name):
                raise NotFound(f"{name} has no second factor")
            records.add_audit(c, line)

        await self._repository.write(remove)


def plain(code: str) -> str:
    """A code as it is compared: without the blanks and dashes that people type."""
    return "".join(c for c in code.lower() if c.isalnum())[:80]
