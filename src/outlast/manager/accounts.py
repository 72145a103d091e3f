"""Users, tokens, rights and the audit: what administrators and programs do with people.

Promises:
1. A token may never do more than its owner may now; an owner who is gone takes its tokens along,
   and so does one of a directory or provider who was not heard of there for `outside_days`.
2. Every change of people writes its line of the audit in the same transaction.

Who comes in, and how, is in sessions.py.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from sqlalchemy import Connection

from outlast.errors import Conflict, NotFound, Refused
from outlast.manager import rights
from outlast.manager.names import about, check_name, words
from outlast.manager.passwords import secret, secret_hash
from outlast.manager.ports import Grant, Person, Scope
from outlast.manager.repository import people, records
from outlast.manager.repository.people import LOCAL, TokenRow, UserRow
from outlast.manager.sessions import CACHE_S, Known, Sessions
from outlast.wire.shapes import BadField

USED_EVERY_S = 60.0  # how often a token's last use is written
TOKEN_PREFIX = "olt_"  # noqa: S105 - the public beginning of every token
TOKEN_DAYS_MAX = 3660


class Accounts(Sessions):
    """`ports.People`, and what administrators do with people."""

    # ---- tokens

    async def bearer(self, token: str, address: str) -> Person:
        """Whom a token of the Authorization header stands for. Raises Refused, TooOften."""
        hash_ = secret_hash(token)
        now_s, wall_s = self._clock(), self._wall()
        known = self._known.get(hash_)
        if known is None or now_s - known.at_s > CACHE_S:
            known = await self._bearer(token, hash_, address)
        if known.expires_wall_s <= wall_s:
            raise Refused("this token has expired", hint="make a new one")
        token_id = known.person.token
        if now_s - self._used.get(token_id, -USED_EVERY_S) >= USED_EVERY_S:
            self._used[token_id] = now_s
            await self._repository.write(lambda c: people.token_used(c, token_id, wall_s))
        return known.person

    async def _bearer(self, token: str, hash_: str, address: str) -> Known:
        def find(c: Connection) -> tuple[TokenRow | None, UserRow | None]:
            row = people.token_by_hash(c, hash_) if token.startswith(TOKEN_PREFIX) else None
            return row, people.user(c, row.owner) if row else None

        row, owner = await self._repository.read(find)
        if row is None or owner is None or owner.disabled:
            self._known.pop(hash_, None)
            # only those that are none are slowed down: a good one is never in doubt
            self._guesses.check(f"address:{address}")
            raise Refused("there is no such token", hint="was it removed, or its owner?")
        if 0 < self.rest_wall_s(owner) <= self._wall():
            raise Refused(
                f"{owner.name} has not logged in for {self._outside_days} days",
                hint=f"tokens of {owner.name} work again once that was done",
            )
        held = tuple(g for g in row.grants if rights.covers(owner.grants, g))
        person = Person(f"{row.owner}/{row.name}", held, row.id)
        return self._remember(hash_, person, "", row.expires_wall_s)

    def rest_wall_s(self, owner: UserRow) -> float:
        """When the tokens of somebody from outside begin to rest; 0 = never."""
        return 0.0 if owner.origin == LOCAL else owner.seen_wall_s + self._outside_days * 86400.0

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
        line = self._line(
            person.name, address, "token-add", f"{owner}/{name}", row.id, after=words(roles)
        )

        def make(c: Connection) -> None:
            held = people.user(c, owner)
            if held is None:
                raise NotFound(f"there is no user '{owner[:80]}'")
            for grant in row.grants:
                if not rights.covers(held.grants, grant):
                    raise Refused(
                        f"{owner} has no role {words((grant,))}",
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

        def remove(c: Connection) -> None:
            row = people.token(c, token_id)
            people.remove_token(c, token_id)
            named, held = (f"{row.owner}/{row.name}", words(row.grants)) if row else ("", "")
            line = self._line(person.name, address, "token-remove", named, token_id, before=held)
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
        line = self._line(person.name, address, "user-add", name, after=words(held))

        def make(c: Connection) -> UserRow:
            people.add_user(c, name, hash_, held, wall_s)
            records.add_audit(c, line)
            return UserRow(name, "", False, wall_s, held)

        made = await self._repository.write(make)
        self._set_up = True
        return made

    async def change_user(
        self, person: Person, name: str, *, password: str | None = None,
        disabled: bool | None = None, roles: tuple[Grant, ...] | None = None,
        code_needed: bool | None = None, address: str = "",
    ) -> UserRow:  # fmt: skip
        """Raises NotFound, BadField, Conflict when no administrator would be left.

        Of somebody from outside, password and roles are changed there (Conflict).
        """
        held = None if roles is None else tuple(rights.check(grant) for grant in roles)
        hash_ = None if password is None else await self._passwords.hash(password, name)

        def change(c: Connection) -> UserRow:
            before = people.user(c, name)
            if before is not None and before.origin != LOCAL and (hash_ or held is not None):
                raise Conflict(
                    f"{name} comes from outside ({before.origin}), with password and roles",
                    hint="change them there, or the groups in manager.json",
                )
            people.change_user(
                c, name, password=hash_, disabled=disabled, roles=held, code_needed=code_needed
            )
            after = people.user(c, name)
            said = "a new password" if password is not None else ""
            line = self._line(
                person.name, address, "user-change", name, said, about(before), about(after)
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
            before = about(people.user(c, name))
            people.remove_user(c, name)
            line = self._line(person.name, address, "user-remove", name, before=before)
            records.add_audit(c, line)

        await self._repository.write(remove)
        self._known.clear()

    async def made_vm(self, who: str, pool_id: str, vm: str) -> None:
        """Somebody made a VM: who could not use it otherwise gets the role own on it."""
        owner, _, token_name = who.partition("/")
        grant = Grant("own", pool_id, vm)
        line = self._line(who, "", "role-add", owner, "made the VM", after=words((grant,)))

        def give(c: Connection) -> None:
            row = people.user(c, owner)
            if row is None:
                return
            if not rights.covers(row.grants, grant):
                people.add_grant(c, f"user:{owner}", grant)
                records.add_audit(c, line)
            for token in people.all_tokens(c, owner) if token_name else ():
                if token.name == token_name and not rights.covers(token.grants, grant):
                    people.add_grant(c, f"token:{token.id}", grant)

        await self._repository.write(give)
        self._known.clear()

    async def gone_vm(self, pool_id: str, vm: str) -> None:
        """A VM is deleted: a later one of that name belongs to nobody."""

        def forget(c: Connection) -> None:
            for holder, grant in people.forget_vm(c, pool_id, vm):
                before, name = words((grant,)), holder.removeprefix("user:")
                said = "the VM is deleted"
                line = self._line("outlast", "", "role-remove", name, said, before=before)
                records.add_audit(c, line)

        await self._repository.write(forget)
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
