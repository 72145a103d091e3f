"""Who is who and who may do what: the first administrator, logins, sessions, tokens.

Promises:
1. There is no default password. The first administrator needs a one-time code that lies in a file
   0600 beside the manager; of two people who use it, one becomes administrator.
2. Wrong guesses of passwords, codes and tokens are slowed down by name and by address.
3. A token may never do more than its owner may now; an owner who is gone takes its tokens along.
4. What was taken away counts within CACHE_S on every manager, at once on this one.
5. Every change of people writes its line of the audit in the same transaction.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from outlast.errors import Conflict, NotFound, Refused
from outlast.manager import rights
from outlast.manager.passwords import Guesses, Passwords, secret, secret_hash
from outlast.manager.ports import Grant, Person, Scope, Session
from outlast.manager.repository import people, records
from outlast.manager.repository.people import SessionRow, TokenRow, UserRow
from outlast.manager.repository.records import AuditRow
from outlast.manager.repository.store import Repository
from outlast.wire.shapes import BadField

SESSION_S = 8 * 3600.0
CACHE_S = 5.0
CACHE_MAX = 5000
USED_EVERY_S = 60.0  # how often a token's last use is written
TOKEN_PREFIX = "olt_"  # noqa: S105 - the public beginning of every token
TOKEN_DAYS_MAX = 3660
NAME_MAX = 64


class Accounts:
    """`ports.People`, and what administrators do with people."""

    def __init__(
        self, repository: Repository, *, passwords: Passwords | None = None,
        wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._repository = repository
        self._passwords = passwords or Passwords()
        self._wall, self._clock = wall, clock
        self._guesses = Guesses(clock)
        self._known: dict[str, tuple[float, Person, str, float]] = {}
        self._used: dict[str, float] = {}
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
        code = "-".join(secrets.token_hex(2) for _ in range(5))

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

        def make(c: Connection) -> None:
            if not people.use_setup_code(c, hash_) or people.count_users(c):
                raise Conflict("somebody else has just set this manager up", hint="log in")
            people.add_user(c, name, password_hash, [Grant("admin")], wall_s)
            records.add_audit(c, line)

        await self._repository.write(make)
        self._set_up = True
        self._guesses.right("setup", f"address:{address}")
        return await self._open(name, (Grant("admin"),), address)

    # ---- sessions

    async def login(self, name: str, password: str, address: str) -> Session:
        keys = f"name:{name[:NAME_MAX]}", f"address:{address}"
        self._guesses.check(*keys)
        row = await self._repository.read(lambda c: people.user(c, name[: NAME_MAX + 1]))
        right = await self._passwords.fits(password, row.password if row else None)
        if not right or row is None or row.disabled:
            line = self._line(name[:NAME_MAX], address, "login", name[:NAME_MAX], "refused")
            await self._repository.write(lambda c: records.add_audit(c, replace(line, ok=False)))
            raise Refused("the name or the password is wrong", hint="names have small letters")
        self._guesses.right(*keys)
        return await self._open(row.name, row.grants, address)

    async def session(self, cookie_token: str) -> Person | None:
        found = await self._find(cookie_token)
        return found[0] if found else None

    async def csrf(self, cookie_token: str) -> str:
        found = await self._find(cookie_token)
        return found[1] if found else ""

    async def logout(self, cookie_token: str) -> None:
        hash_ = secret_hash(cookie_token)
        self._known.pop(hash_, None)
        await self._repository.write(lambda c: people.remove_session(c, hash_))

    async def sessions(self, name: str) -> list[SessionRow]:
        return await self._repository.read(lambda c: people.all_sessions(c, name))

    # ---- tokens

    async def bearer(self, token: str, address: str) -> Person:
        """Whom a token of the Authorization header stands for. Raises Refused, TooOften."""
        hash_ = secret_hash(token)
        now_s, wall_s = self._clock(), self._wall()
        known = self._known.get(hash_)
        if known is None or now_s - known[0] > CACHE_S:
            known = await self._bearer(token, hash_, address)
        if known[3] <= wall_s:
            raise Refused("this token has expired", hint="make a new one")
        token_id = known[1].token
        if now_s - self._used.get(token_id, -USED_EVERY_S) >= USED_EVERY_S:
            self._used[token_id] = now_s
            await self._repository.write(lambda c: people.token_used(c, token_id, wall_s))
        return known[1]

    async def _bearer(
        self, token: str, hash_: str, address: str
    ) -> tuple[float, Person, str, float]:
        def find(c: Connection) -> tuple[TokenRow | None, UserRow | None]:
            row = people.token_by_hash(c, hash_) if token.startswith(TOKEN_PREFIX) else None
            return row, people.user(c, row.owner) if row else None

        row, owner = await self._repository.read(find)
        if row is None or owner is None or owner.disabled:
            self._known.pop(hash_, None)
            # only those that are none are slowed down: a good one is never in doubt
            self._guesses.check(f"address:{address}")
            raise Refused("there is no such token", hint="was it removed, or its owner?")
        held = tuple(g for g in row.grants if rights.covers(owner.grants, g))
        person = Person(f"{row.owner}/{row.name}", held, row.id)
        return self._remember(hash_, person, "", row.expires_wall_s)

    async def add_token(
        self, person: Person, owner: str, name: str, roles: tuple[Grant, ...], days: float,
        address: str = "",
    ) -> tuple[str, TokenRow]:  # fmt: skip
        """The token, shown this once, and what is kept. Raises Refused, NotFound, BadField."""
        check_name(name, "name")
        if not 0 < days <= TOKEN_DAYS_MAX:
            raise BadField(f"days: not within 0..{TOKEN_DAYS_MAX}", field="days")
        if not roles:
            raise BadField("a token needs at least one role", field="roles")
        token, wall_s = TOKEN_PREFIX + secret(), self._wall()
        row = TokenRow(
            secrets.token_hex(6), name, owner, wall_s, wall_s + days * 86400, 0.0,
            tuple(rights.check(grant) for grant in roles),
        )  # fmt: skip
        line = self._line(person.name, address, "token-add", f"{owner}/{name}", _words(roles))

        def make(c: Connection) -> None:
            held = people.user(c, owner)
            if held is None:
                raise NotFound(f"there is no user '{owner[:80]}'")
            for grant in row.grants:
                if not rights.covers(held.grants, grant):
                    raise Refused(
                        f"{owner} has no role {_words((grant,))}",
                        hint="a token never may more than its owner",
                    )
            people.add_token(c, row, secret_hash(token))
            records.add_audit(c, line)

        await self._repository.write(make)
        return token, row

    async def tokens(self, owner: str = "") -> list[TokenRow]:
        return await self._repository.read(lambda c: people.all_tokens(c, owner))

    async def remove_token(self, person: Person, token_id: str, address: str = "") -> None:
        """Raises NotFound."""
        line = self._line(person.name, address, "token-remove", token_id)

        def remove(c: Connection) -> None:
            people.remove_token(c, token_id)
            records.add_audit(c, line)

        await self._repository.write(remove)
        self._known.clear()

    # ---- users

    async def users(self) -> list[UserRow]:
        return await self._repository.read(people.all_users)

    async def user(self, name: str) -> UserRow:
        """Raises NotFound."""
        row = await self._repository.read(lambda c: people.user(c, name))
        if row is None:
            raise NotFound(f"there is no user '{name[:80]}'")
        return row

    async def add_user(
        self, person: Person, name: str, password: str, roles: tuple[Grant, ...], address: str = ""
    ) -> UserRow:
        """Raises Conflict, BadField."""
        check_name(name)
        held = tuple(rights.check(grant) for grant in roles)
        hash_, wall_s = await self._passwords.hash(password, name), self._wall()
        line = self._line(person.name, address, "user-add", name, after=_words(held))

        def make(c: Connection) -> UserRow:
            people.add_user(c, name, hash_, held, wall_s)
            records.add_audit(c, line)
            return UserRow(name, "", False, wall_s, held)

        made = await self._repository.write(make)
        self._set_up = True
        return made

    async def change_user(
        self, person: Person, name: str, *, password: str | None = None,
        disabled: bool | None = None, roles: tuple[Grant, ...] | None = None, address: str = "",
    ) -> UserRow:  # fmt: skip
        """Raises NotFound, BadField, Conflict when no administrator would be left."""
        held = None if roles is None else tuple(rights.check(grant) for grant in roles)
        hash_ = None if password is None else await self._passwords.hash(password, name)

        def change(c: Connection) -> UserRow:
            before = people.user(c, name)
            people.change_user(c, name, password=hash_, disabled=disabled, roles=held)
            after = people.user(c, name)
            said = "a new password" if password is not None else ""
            line = self._line(
                person.name, address, "user-change", name, said, _about(before), _about(after)
            )
            records.add_audit(c, line)
            if after is None:
                raise NotFound(f"there is no user '{name[:80]}'")
            return after

        changed = await self._repository.write(change)
        self._known.clear()
        return changed

    async def remove_user(self, person: Person, name: str, address: str = "") -> None:
        """Raises NotFound, Conflict when no administrator would be left."""

        def remove(c: Connection) -> None:
            before = _about(people.user(c, name))
            people.remove_user(c, name)
            line = self._line(person.name, address, "user-remove", name, before=before)
            records.add_audit(c, line)

        await self._repository.write(remove)
        self._known.clear()

    async def made_vm(self, who: str, pool_id: str, vm: str) -> None:
        """Somebody made a VM: who could not use it otherwise gets the role own on it."""
        owner, _, token_name = who.partition("/")
        grant = Grant("own", pool_id, vm)

        def give(c: Connection) -> None:
            row = people.user(c, owner)
            if row is None:
                return
            if not rights.covers(row.grants, grant):
                people.add_grant(c, f"user:{owner}", grant)
            for token in people.all_tokens(c, owner) if token_name else ():
                if token.name == token_name and not rights.covers(token.grants, grant):
                    people.add_grant(c, f"token:{token.id}", grant)

        await self._repository.write(give)
        self._known.clear()

    async def gone_vm(self, pool_id: str, vm: str) -> None:
        """A VM is deleted: a later one of that name belongs to nobody."""
        await self._repository.write(lambda c: people.forget_vm(c, pool_id, vm))
        self._known.clear()

    # ---- rights and audit

    def may(self, person: Person, action: str, pool_id: str = "", vm: str = "") -> bool:
        return rights.allowed(person.roles, action, pool_id, vm)

    def scope(self, person: Person) -> Scope:
        return rights.scope_of(person.roles)

    async def audit(
        self, person: Person, action: str, object_: str, *, address: str = "", ok: bool = True,
        sentence: str = "", before: str = "", after: str = "",
    ) -> None:  # fmt: skip
        line = self._line(person.name, address, action, object_, sentence, before, after)
        await self._repository.write(lambda c: records.add_audit(c, replace(line, ok=ok)))

    def close(self) -> None:
        self._passwords.close()

    # ---- inside

    async def _open(self, name: str, roles: tuple[Grant, ...], address: str) -> Session:
        cookie, csrf, wall_s = secret(), secret(), self._wall()
        row = SessionRow(name, csrf, address, wall_s, wall_s + SESSION_S)
        line = self._line(name, address, "login", name)

        def add(c: Connection) -> None:
            people.add_session(c, secret_hash(cookie), row)
            records.add_audit(c, line)

        await self._repository.write(add)
        return Session(cookie, Person(name, roles), row.expires_wall_s, csrf)

    async def _find(self, cookie_token: str) -> tuple[Person, str] | None:
        hash_ = secret_hash(cookie_token)
        known = self._known.get(hash_)
        if known is None or self._clock() - known[0] > CACHE_S:

            def find(c: Connection) -> tuple[SessionRow | None, UserRow | None]:
                row = people.session(c, hash_)
                return row, people.user(c, row.name) if row else None

            row, user = await self._repository.read(find)
            if row is None or user is None or user.disabled:
                self._known.pop(hash_, None)
                return None
            person = Person(user.name, user.grants)
            known = self._remember(hash_, person, row.csrf, row.expires_wall_s)
        if known[3] <= self._wall() or known[1].token:
            return None
        return known[1], known[2]

    def _remember(
        self, hash_: str, person: Person, csrf: str, expires_wall_s: float
    ) -> tuple[float, Person, str, float]:
        if len(self._known) >= CACHE_MAX:
            self._known.clear()
        known = self._clock(), person, csrf, expires_wall_s
        self._known[hash_] = known
        return known

    def _line(
        self, who: str, address: str, action: str, object_: str, sentence: str = "",
        before: str = "", after: str = "",
    ) -> AuditRow:  # fmt: skip
        return AuditRow(self._wall(), who, address, action, object_, True, sentence, before, after)


def check_name(name: str, field: str = "name") -> str:
    """Small letters, digits, . - _ and @. Raises BadField."""
    good = all(c in "abcdefghijklmnopqrstuvwxyz0123456789.-_@" for c in name)
    if not 1 <= len(name) <= NAME_MAX or not good or not name[0].isalnum():
        raise BadField(
            f"{name[:80]!r} is not a usable name", field=field,
            hint="a-z, 0-9 and . - _ @, beginning with a letter or digit",
        )  # fmt: skip
    return name


def _words(roles: tuple[Grant, ...]) -> str:
    return ", ".join(
        g.role + (f" on {g.pool_id}{'/' + g.vm if g.vm else ''}" if g.pool_id else "")
        for g in roles
    )


def _about(user: UserRow | None) -> str:
    if user is None:
        return ""
    return (_words(user.grants) or "no role") + (", switched off" if user.disabled else "")
