"""People: the first administrator, guessing, tokens that may no more than their owner, rights."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from desk import BOSS, QUICK

from outlast.errors import Conflict, InvalidInput, NotFound, OutlastError, Refused
from outlast.manager import rights
from outlast.manager.accounts import CACHE_S, Accounts
from outlast.manager.errors import TooOften
from outlast.manager.passwords import Passwords, check_password
from outlast.manager.ports import ACTIONS, ROLES, Grant, Person, Scope
from outlast.manager.repository import entries, records
from outlast.manager.repository.store import Repository
from outlast.manager.sessions import SESSION_S

ADMIN = Grant("admin")
WORD = "correct horse battery"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


Test = Callable[[Accounts, Repository, Clock], Coroutine[Any, Any, None]]


def accounts_test(test: Test) -> Callable[[str], None]:
    def run(database: str) -> None:
        repository, clock = Repository(database), Clock()
        repository.migrate()
        accounts = Accounts(repository, passwords=Passwords(QUICK), wall=clock, clock=clock)
        try:
            asyncio.run(test(accounts, repository, clock))
        finally:
            accounts.close()
            repository.close()

    run.__name__ = test.__name__
    return run


@accounts_test
async def test_the_first_administrator_needs_the_code_and_it_works_once(
    accounts: Accounts, repository: Repository, _: Clock
) -> None:
    assert await accounts.first_start()
    with pytest.raises(Refused, match="code is wrong"):
        await accounts.set_up("guess", "anna", WORD)
    void = await accounts.new_code()
    code = await accounts.new_code()
    assert await accounts.new_code(only_first=True) == ""
    with pytest.raises(Refused, match="code is wrong"):
        await accounts.set_up(void, "anna", WORD)
    with pytest.raises(InvalidInput):
        await accounts.set_up(code, "anna", "short")
    with pytest.raises(InvalidInput):
        await accounts.set_up(code, "An na", WORD)
    session = await accounts.set_up(f" {code.upper()} ", "anna", WORD)
    assert session.person == Person("anna", (ADMIN,))
    assert await accounts.session(session.cookie_token) == session.person
    assert not await accounts.first_start()
    with pytest.raises(Refused):
        await accounts.set_up(code, "bert", WORD)
    with pytest.raises(Conflict, match="set up already"):
        await accounts.new_code()
    assert code not in repr(await repository.read(records.list_audit))


@accounts_test
async def test_a_session_ends(accounts: Accounts, repository: Repository, clock: Clock) -> None:
    await accounts.add_user(BOSS, "anna", WORD, (ADMIN,))
    session = await accounts.login("anna", WORD, "10.0.0.1")
    other = await accounts.login("anna", WORD, "10.0.0.2")
    assert await accounts.csrf(session.cookie_token) == session.csrf != ""
    await accounts.logout(session.cookie_token)
    assert await accounts.session(session.cookie_token) is None
    assert await accounts.csrf(session.cookie_token) == ""
    assert await accounts.session(other.cookie_token) is not None
    clock.now_s += SESSION_S
    assert await accounts.session(other.cookie_token) is None
    stored = await repository.read(lambda c: entries.all_sessions(c, "anna"))
    assert other.cookie_token not in repr(stored)


@accounts_test
async def test_a_new_password_and_being_switched_off_end_all_sessions(
    accounts: Accounts, _: Repository, clock: Clock
) -> None:
    await accounts.add_user(BOSS, "boss", WORD, (ADMIN,))
    await accounts.add_user(BOSS, "anna", WORD, (Grant("viewer"),))
    session = await accounts.login("anna", WORD, "x")
    await accounts.change_user(BOSS, "anna", password="another long one")
    assert await accounts.session(session.cookie_token) is None
    session = await accounts.login("anna", "another long one", "x")
    token, _row = await accounts.add_token(BOSS, "anna", "ci", (Grant("viewer"),), 1)
    assert (await accounts.bearer(token, "x")).name == "anna/ci"
    await accounts.change_user(BOSS, "anna", disabled=True)
    assert await accounts.session(session.cookie_token) is None
    with pytest.raises(Refused):
        await accounts.bearer(token, "x")
    with pytest.raises(Refused, match="wrong"):
        await accounts.login("anna", "another long one", "x")


@accounts_test
async def test_guessing_is_slowed_down_by_name_and_by_address(
    accounts: Accounts, repository: Repository, clock: Clock
) -> None:
    await accounts.add_user(BOSS, "anna", WORD, (ADMIN,))

    async def guess(name: str, address: str) -> type[Exception]:
        try:
            await accounts.login(name, "wrong wrong", address)
        except OutlastError as error:
            return type(error)
        raise AssertionError("a wrong password fits")

    assert [await guess("anna", f"10.0.0.{n}") for n in range(6)] == [Refused] * 5 + [TooOften]
    said = [await guess(f"nobody{n}", "10.9.9.9") for n in range(21)]
    assert said == [Refused] * 20 + [TooOften]
    for n in range(20):
        with pytest.raises(Refused):
            await accounts.bearer(f"olt_{n}", "10.8.8.8")
    with pytest.raises(TooOften):
        await accounts.bearer("olt_x", "10.8.8.8")
    token, _row = await accounts.add_token(BOSS, "anna", "ci", (ADMIN,), 1)
    assert (await accounts.bearer(token, "10.8.8.8")).name == "anna/ci"
    with pytest.raises(TooOften):
        await accounts.login("anna", WORD, "10.0.0.77")
    clock.now_s += 3
    await accounts.login("anna", WORD, "10.0.0.77")
    assert await guess("anna", "10.0.0.78") is Refused
    rows, _ = await repository.read(lambda c: records.list_audit(c, action="login", limit=99))
    assert sum(not row.ok for row in rows) == 26


@accounts_test
async def test_a_token_may_no_more_than_its_owner_may_now(
    accounts: Accounts, repository: Repository, clock: Clock
) -> None:
    await accounts.add_user(BOSS, "boss", WORD, (ADMIN,))
    await accounts.add_user(BOSS, "anna", WORD, (Grant("operator", "p"),))
    me = Person("anna", (Grant("operator", "p"),))
    for grant in (ADMIN, Grant("viewer"), Grant("operator", "q"), Grant("admin", "p")):
        with pytest.raises(Refused, match="no role"):
            await accounts.add_token(me, "anna", "ci", (grant,), 1)
    token, row = await accounts.add_token(
        me, "anna", "ci", (Grant("operator", "p", "web"), Grant("viewer", "p")), 1
    )
    person = await accounts.bearer(token, "x")
    assert accounts.may(person, "start", "p", "web")
    assert not accounts.may(person, "start", "p", "db")
    assert accounts.may(person, "see", "p", "db")
    await accounts.change_user(BOSS, "anna", roles=(Grant("viewer", "p"),))
    person = await accounts.bearer(token, "x")
    assert not accounts.may(person, "start", "p", "web")
    assert accounts.may(person, "see", "p", "db")
    assert token not in repr(await accounts.tokens())
    clock.now_s += 86401
    with pytest.raises(Refused, match="expired"):
        await accounts.bearer(token, "x")
    await accounts.remove_token(BOSS, row.id)
    with pytest.raises(Refused, match="no such token"):
        await accounts.bearer(token, "x")
    for bad in ("", "olt_", "olt_" + "x" * 43, "x" * 5000, "olt_\ud800"):
        clock.now_s += 400
        with pytest.raises(Refused):
            await accounts.bearer(bad, "y")


@accounts_test
async def test_what_another_manager_took_away_counts_soon(
    accounts: Accounts, repository: Repository, clock: Clock
) -> None:
    await accounts.add_user(BOSS, "anna", WORD, (ADMIN,))
    session = await accounts.login("anna", WORD, "x")
    assert await accounts.session(session.cookie_token) is not None
    other = Accounts(repository, passwords=Passwords(QUICK), wall=clock, clock=clock)
    await other.add_user(BOSS, "bert", WORD, (ADMIN,))
    await other.remove_user(BOSS, "anna")
    clock.now_s += CACHE_S + 0.1
    assert await accounts.session(session.cookie_token) is None
    other.close()


@accounts_test
async def test_the_last_administrator_stays(
    accounts: Accounts, repository: Repository, _: Clock
) -> None:
    await accounts.add_user(BOSS, "anna", WORD, (ADMIN,))
    await accounts.add_user(BOSS, "bert", WORD, (Grant("admin", "p"), Grant("viewer")))
    for change in (
        lambda: accounts.remove_user(BOSS, "anna"),
        lambda: accounts.change_user(BOSS, "anna", disabled=True),
        lambda: accounts.change_user(BOSS, "anna", roles=(Grant("viewer"),)),
    ):
        with pytest.raises(Conflict, match="no administrator"):
            await change()
    assert (await accounts.user("anna")).grants == (ADMIN,)
    await accounts.change_user(BOSS, "bert", roles=(ADMIN,))
    await accounts.remove_user(BOSS, "anna")
    with pytest.raises(NotFound):
        await accounts.user("anna")
    rows, _ = await repository.read(lambda c: records.list_audit(c, action="user-change"))
    assert rows[0].before == "admin on p, viewer" or rows[0].before == "viewer, admin on p"
    assert rows[0].after == "admin"


@accounts_test
async def test_two_administrators_cannot_remove_each_other_at_once(
    accounts: Accounts, repository: Repository, _: Clock
) -> None:
    for name in ("anna", "bert"):
        await accounts.add_user(BOSS, name, WORD, (ADMIN,))
    done = await asyncio.gather(
        accounts.remove_user(BOSS, "anna"), accounts.remove_user(BOSS, "bert"),
        return_exceptions=True,
    )  # fmt: skip
    assert sorted(type(d).__name__ for d in done) == ["Conflict", "NoneType"]


@accounts_test
async def test_who_makes_a_vm_owns_it_until_it_is_gone(
    accounts: Accounts, _: Repository, clock: Clock
) -> None:
    await accounts.add_user(BOSS, "anna", WORD, (Grant("own", "p"),))
    token, _row = await accounts.add_token(BOSS, "anna", "ci", (Grant("own", "p"),), 9)
    person = await accounts.bearer(token, "x")
    assert accounts.may(person, "create", "p")
    assert not accounts.may(person, "start", "p", "web")
    assert accounts.scope(person) == Scope(False)
    await accounts.made_vm("anna/ci", "p", "web")
    person = await accounts.bearer(token, "x")
    assert accounts.may(person, "start", "p", "web")
    assert not accounts.may(person, "start", "p", "db")
    assert not accounts.may(person, "start", "q", "web")
    await accounts.gone_vm("p", "web")
    assert not accounts.may(await accounts.bearer(token, "x"), "see", "p", "web")


@pytest.mark.parametrize(
    "easy", ["short", "x" * 501, "aaaaaaaaaaaa", "password12", "annaannaanna", "outlast1111", ""]
)
def test_passwords_that_are_easy_to_guess(easy: str) -> None:
    with pytest.raises(InvalidInput):
        check_password(easy, "anna")
    check_password("long enough and no word of it", "anna")


# ---- rights


def test_every_role_stays_within_its_reach() -> None:
    for role in ROLES:
        for action in ACTIONS:
            everywhere = rights.allowed([Grant(role)], action)
            here = rights.allowed([Grant(role, "p")], action, "p", "web")
            assert not here or rights.allowed([Grant(role)], action, "p", "web")
            assert not rights.allowed([Grant(role, "p")], action, "q", "web")
            assert not rights.allowed([Grant(role, "p")], action)
            assert not rights.allowed([Grant(role, "p", "web")], action, "p", "db")
            assert not rights.allowed([Grant(role, "p", "web")], action, "p")
            assert not rights.allowed([Grant(role, "p", "web")], action)
            if role == "viewer":
                assert everywhere == (action in ("see", "catalog", "tasks"))
    assert all(rights.allowed([ADMIN], action) for action in ACTIONS)
    assert not any(rights.allowed([], action, "p", "web") for action in ACTIONS)
    for action in ("people", "audit", "power-off", "pool-ha", "pool-set", "pools"):
        assert not rights.allowed([Grant("operator")], action, "p")
        assert not rights.allowed([Grant("admin", "p", "web")], action, "p", "web")
    with pytest.raises(ValueError, match="no action"):
        rights.allowed([ADMIN], "fly")


def test_what_is_covered_gives_nothing_more() -> None:
    places = (("", ""), ("p", ""), ("p", "web"), ("q", "db"), ("p", "w*"), ("p", "we*"))
    grants = [Grant(role, *place) for role in ROLES for place in places]
    objects = [("", ""), ("p", ""), ("p", "web"), ("p", "db"), ("q", ""), ("q", "db")]
    for held, wished in itertools.product(grants, grants):
        if not rights.covers([held], wished):
            continue
        for action, place in itertools.product(ACTIONS, objects):
            if rights.allowed([wished], action, *place):
                assert rights.allowed([held], action, *place), (held, wished, action, place)
    assert all(rights.covers([ADMIN], g) and rights.covers([g], g) for g in grants)
    assert not rights.covers([], Grant("viewer", "p", "web"))


def test_what_is_seen_is_what_may_be_seen() -> None:
    grants = [Grant("operator", "p"), Grant("own", "q", "web"), Grant("own", "r"),
              Grant("viewer", "s", "d*")]  # fmt: skip
    scope = rights.scope_of(grants)
    for pool_id, vm in itertools.product("pqrs", ("web", "db")):
        assert scope.sees_vm(pool_id, vm) == rights.allowed(grants, "see", pool_id, vm)
    assert scope.touches("q") and not scope.sees_pool("q") and not scope.touches("r")
    assert scope.touches("s") and not scope.sees_pool("s")
    assert rights.scope_of([Grant("viewer")]).everything


@pytest.mark.parametrize("vm", ["*", "a*b", "**", "web-**"])
def test_folders_that_are_none(vm: str) -> None:
    with pytest.raises(InvalidInput, match="no folder"):
        rights.check(Grant("viewer", "p", vm))
