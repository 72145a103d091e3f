"""Coming in and going: the first administrator, logins, second factors, sessions.

Promises:
1. There is no default password. The first administrator needs a one-time code that lies in a file
   0600 beside the manager; of two people who use it, one becomes administrator.
2. Wrong guesses of passwords and codes are slowed down by name and by address.
3. A session that lacks its second factor (stage CODE) or has to get one (ENROL) is nobody's: it
   leads to the next step, and ends soon. The whole session is a new one.
4. A name is of one origin: nobody of a directory or provider comes in as a user who is kept here.
   Local users never ask the directory, so they come in while it is away.
5. What was taken away counts within CACHE_S on every manager, at once on this one.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from outlast.errors import Conflict, NotFound, Refused
from outlast.manager.factors import Factors
from outlast.manager.names import NAME_MAX, about, check_name, usable
from outlast.manager.outside import LDAP, OIDC, Elsewhere, Outsider
from outlast.manager.passwords import Guesses, Passwords, secret, secret_hash, short_code
from outlast.manager.ports import Grant, Person, Session
from outlast.manager.repository import entries, people, records
from outlast.manager.repository.entries import SessionRow
from outlast.manager.repository.people import LOCAL, UserRow
from outlast.manager.repository.records import AuditRow
from outlast.manager.repository.store import Repository

SESSION_S = 8 * 3600.0
STAGE_S = 600.0  # how long the next step is waited for
CACHE_S = 5.0
CACHE_MAX = 5000
CODE, ENROL = "code", "enrol"  # stages of a session that is not whole


@dataclass(frozen=True, slots=True)
class Known:
    """What the database said of a session or token a moment ago."""

    at_s: float
    person: Person
    csrf: str
    expires_wall_s: float


class Sessions:
    """The half of `ports.People` that lets people in."""

    def __init__(
        self, repository: Repository, *, passwords: Passwords | None = None,
        directory: Elsewhere | None = None, policy: str = "optional", outside_days: int = 30,
        wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """policy: who needs a second factor: optional | admins | everybody.

        outside_days: for how long somebody from outside counts who is not heard of there.
        """
        self._repository = repository
        self._passwords = passwords or Passwords()
        self._directory, self._policy, self._outside_days = directory, policy, outside_days
        self._wall, self._clock = wall, clock
        self._guesses = Guesses(clock)
        self.factors = Factors(repository, self._guesses, wall)
        self._known: dict[str, Known] = {}
        self._used: dict[str, float] = {}  # token -> when its use was written down
        self._set_up = False

    # ---- the first administrator

    async def first_start(self) -> bool:
        if not self._set_up:
            self._set_up = await self._repository.read(people.count_users) > 0
        return not self._set_up

    async def new_code(self, *, only_first: bool = False) -> str:
        """A new one-time code; older ones are void. Raises Conflict when there are users.

        only_first: "" when there is a code already, maybe another manager's.
        """
        code = short_code()

        def put(c: Connection) -> bool:
            if people.count_users(c):
                raise Conflict(
                    "this manager has been set up already", hint="outlast manager user add NAME"
                )
            if only_first and people.setup_code(c):
                return False
            people.put_setup_code(c, secret_hash(code))
            return True

        return code if await self._repository.write(put) else ""

    async def set_up(self, code: str, name: str, password: str, address: str = "") -> Session:
        self._guesses.check("setup", f"address:{address}")
        check_name(name)
        hash_ = secret_hash(code.strip().lower())
        known = await self._repository.read(people.setup_code)
        if not known or not hmac.compare_digest(known, hash_):
            raise Refused(
                "the code is wrong or was used already",
                hint="it is in the file setup-code beside the manager; 'outlast manager init'",
            )
        password_hash = await self._passwords.hash(password, name)
        wall_s = self._wall()
        line = AuditRow(wall_s, name, address, "set-up", name, True, "the first administrator")

        def make(c: Connection) -> UserRow:
            if not people.use_setup_code(c, hash_) or people.count_users(c):
                raise Conflict("somebody else has just set this manager up", hint="log in")
            people.add_user(c, name, password_hash, [Grant("admin")], wall_s)
            records.add_audit(c, line)
            return UserRow(name, "", False, wall_s, (Grant("admin"),))

        made = await self._repository.write(make)
        self._set_up = True
        self._guesses.right("setup", f"address:{address}")
        return await self._open(made, address, self._next(made, False))

    # ---- logging in

    async def login(self, name: str, password: str, address: str) -> Session:
        found = await self.verify(name, password, address)
        row = await self.admit(found, address) if isinstance(found, Outsider) else found
        factor = await self.factors.of(row.name)
        return await self._open(row, address, self._next(row, factor.on))

    async def verify(self, name: str, password: str, address: str) -> UserRow | Outsider:
        """Whose name and password these are. Raises Refused, TooOften, Unreachable."""
        name = name[: NAME_MAX + 1]
        keys = f"name:{name[:NAME_MAX]}", f"address:{address}"
        self._guesses.check(*keys)
        row = await self._repository.read(lambda c: people.user(c, name))
        found: UserRow | Outsider | None = None
        if self._directory is not None and (row is None or row.origin == LDAP) and usable(name):
            found = await self._directory.person(name, password)
        else:
            hash_ = row.password if row is not None and row.origin == LOCAL else None
            if await self._passwords.fits(password, hash_):
                found = row
        if found is None or (row is not None and row.disabled):
            line = self._line(name[:NAME_MAX], address, "login", name[:NAME_MAX], "refused")
            await self._repository.write(lambda c: records.add_audit(c, replace(line, ok=False)))
            raise Refused("the name or the password is wrong", hint="names have small letters")
        self._guesses.right(*keys)
        return found

    async def admit(self, outsider: Outsider, address: str) -> UserRow:
        """The user of somebody from outside, made at his first login, with the roles he has now.

        Raises Refused, BadField for a name that cannot be one here.
        """
        check_name(outsider.name)
        wall_s = self._wall()

        def put(c: Connection) -> tuple[UserRow | None, str]:
            people.lock_people(c)
            row = people.user_of(c, outsider.origin, outsider.subject)
            if row is None and people.user(c, outsider.name) is not None:
                refused = f"the user '{outsider.name}' of this manager is somebody else"
            elif row is not None and row.disabled:
                refused = f"{row.name} is switched off"
            elif not outsider.roles:
                refused = f"{outsider.name} is in no group that has a role here"
            else:
                return self._take_over(c, row, outsider, address), ""
            if row is not None and not outsider.roles:
                self._put_out(c, row)
            line = AuditRow(wall_s, outsider.name, address, "login", outsider.name, False, refused)
            records.add_audit(c, line)
            return None, refused

        row, refused = await self._repository.write(put)
        self._known.clear()
        if row is None:
            raise Refused(refused, hint="an administrator can help")
        self._set_up = True
        return row

    async def enter(self, outsider: Outsider, address: str) -> Session:
        """A session for whom a provider vouches; second factors are the provider's."""
        return await self._open(await self.admit(outsider, address), address, "")

    async def code(self, cookie_token: str, code: str, address: str) -> Session:
        """The second step of a login. Raises Refused, NotFound, TooOften."""
        name = await self.half(cookie_token, CODE)
        if not name:
            raise NotFound("no login waits for a code", hint="begin with name and password")
        how = await self.factors.check(name, code, address)
        return await self._whole(cookie_token, name, address, how)

    async def enrolled(self, cookie_token: str, name: str, address: str) -> Session:
        """The whole session of somebody who has just confirmed a second factor."""
        self._known.clear()
        return await self._whole(cookie_token, name, address, "with a new second factor")

    # ---- sessions

    async def session(self, cookie_token: str) -> Person | None:
        found = await self._find(cookie_token)
        return None if found is None else found.person

    async def half(self, cookie_token: str, stage: str) -> str:
        """Who waits at that stage of a login; "" = nobody."""
        found = await self._rows(cookie_token)
        return found[1].name if found is not None and found[0].stage == stage else ""

    async def csrf(self, cookie_token: str) -> str:
        """Of halves of a session, too: they have forms."""
        found = await self._find(cookie_token)
        if found is not None:
            return found.csrf
        rows = await self._rows(cookie_token)
        return "" if rows is None else rows[0].csrf

    async def logout(self, cookie_token: str) -> None:
        hash_ = secret_hash(cookie_token)
        self._known.pop(hash_, None)
        await self._repository.write(lambda c: entries.remove_session(c, hash_))

    async def sessions(self, name: str) -> list[SessionRow]:
        return await self._repository.read(lambda c: entries.all_sessions(c, name))

    async def end_session(self, name: str, id_: str, who: str, address: str) -> None:
        """One of that user's, by the id of its row. Raises NotFound."""

        def end(c: Connection) -> bool:
            found = entries.end_session(c, name, id_)
            if found:
                records.add_audit(c, self._line(who, address, "session-end", name, id_))
            return found

        if not await self._repository.write(end):
            raise NotFound("this session has ended already", hint="load the page again")
        self._known.clear()

    def needs_factor(self, row: UserRow) -> bool:
        """Does this manager ask that user for a second factor?"""
        if row.origin == OIDC:
            return False
        asked = self._policy == "everybody" or (
            self._policy == "admins" and any(grant.role == "admin" for grant in row.grants)
        )
        return asked or row.code_needed

    # ---- inside

    async def heard_of(self, name: str, found: Outsider | None) -> bool:
        """What the directory says now of a user that came from there; False: he is out."""

        def put(c: Connection) -> bool:
            people.lock_people(c)
            row = people.user(c, name)
            if row is None or row.origin == LOCAL:
                return True
            if found is not None and found.subject == row.subject and found.roles:
                self._take_over(c, row, found, "")
                people.saw_user(c, name, self._wall())
                return True
            if row.grants or entries.all_sessions(c, name):
                said = f"{row.origin}: no longer there, or in no group that has a role here"
                line = self._line("outlast", "", "user-change", name, said, about(row), "out")
                records.add_audit(c, line)
            self._put_out(c, row)
            return False

        stays = await self._repository.write(put)
        self._known.clear()
        return stays

    def _put_out(self, c: Connection, row: UserRow) -> None:
        """Somebody from outside has no role here any more; his tokens may nothing without."""
        people.set_grants(c, f"user:{row.name}", ())
        entries.remove_sessions(c, row.name)

    def _take_over(
        self, c: Connection, row: UserRow | None, outsider: Outsider, address: str
    ) -> UserRow:
        """Roles as they are outside now; what somebody owns stays."""
        wall_s = self._wall()
        name = outsider.name if row is None else row.name
        if row is None:
            people.add_user(
                c, name, "", outsider.roles, wall_s,
                origin=outsider.origin, subject=outsider.subject,
            )  # fmt: skip
        else:
            owned = [g for g in row.grants if g.role == "own" and g.vm]
            people.set_grants(c, f"user:{name}", [*outsider.roles, *owned])
        after = people.user(c, name)
        assert after is not None
        if row is None or set(row.grants) != set(after.grants):
            action, said = "user-change" if row else "user-add", f"by {outsider.origin}"
            line = self._line(name, address, action, name, said, about(row), about(after))
            records.add_audit(c, line)
        return after

    def _next(self, row: UserRow, has_factor: bool) -> str:
        if row.origin != OIDC and has_factor:
            return CODE
        return ENROL if self.needs_factor(row) else ""

    async def _whole(self, cookie_token: str, name: str, address: str, how: str) -> Session:
        row = await self._repository.read(lambda c: people.user(c, name))
        if row is None or row.disabled:
            raise NotFound(f"there is no user '{name[:80]}'")
        await self.logout(cookie_token)
        return await self._open(row, address, "", how)

    async def _open(self, row: UserRow, address: str, stage: str, how: str = "") -> Session:
        cookie, csrf, wall_s = secret(), secret(), self._wall()
        ends = wall_s + (STAGE_S if stage else SESSION_S)
        new = SessionRow(row.name, csrf, address, wall_s, ends, stage)
        line = self._line(row.name, address, "login", row.name, how)

        def add(c: Connection) -> None:
            entries.add_session(c, secret_hash(cookie), new)
            if not stage:
                people.saw_user(c, row.name, wall_s)
                records.add_audit(c, line)

        await self._repository.write(add)
        return Session(cookie, Person(row.name, row.grants), ends, csrf, stage)

    async def _rows(self, cookie_token: str) -> tuple[SessionRow, UserRow] | None:
        """A session that has not ended and its user, whatever its stage."""
        hash_ = secret_hash(cookie_token)

        def find(c: Connection) -> tuple[SessionRow | None, UserRow | None]:
            row = entries.session(c, hash_)
            return row, people.user(c, row.name) if row else None

        row, user = await self._repository.read(find)
        if row is None or user is None or user.disabled or row.expires_wall_s <= self._wall():
            return None
        return row, user

    async def _find(self, cookie_token: str) -> Known | None:
        """A whole session."""
        hash_ = secret_hash(cookie_token)
        known = self._known.get(hash_)
        if known is None or self._clock() - known.at_s > CACHE_S:
            rows = await self._rows(cookie_token)
            if rows is None or rows[0].stage:
                self._known.pop(hash_, None)
                return None
            row, user = rows
            person = Person(user.name, user.grants)
            known = self._remember(hash_, person, row.csrf, row.expires_wall_s)
        return None if known.expires_wall_s <= self._wall() or known.person.token else known

    def _remember(self, hash_: str, person: Person, csrf: str, expires_wall_s: float) -> Known:
        if len(self._known) >= CACHE_MAX:
            self._known.clear()
        known = self._known[hash_] = Known(self._clock(), person, csrf, expires_wall_s)
        return known

    def _line(
        self, who: str, address: str, action: str, object_: str, sentence: str = "",
        before: str = "", after: str = "",
    ) -> AuditRow:  # fmt: skip
        return AuditRow(self._wall(), who, address, action, object_, True, sentence, before, after)
