"""`outlast manager user|token|factor ...`: people of the manager on this machine.

Rules:
1. Passwords and codes are typed or come on stdin, never from argv: that is in everybody's list of
   processes.
2. Whoever may write the manager's files may do this: there is no login.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import options, print_json, say, stdout, typed
from outlast.cli.manager_place import on_accounts

if TYPE_CHECKING:
    from outlast.manager.accounts import Accounts
    from outlast.manager.ports import Grant
    from outlast.manager.repository.people import UserRow

HERE = "root"  # who did it, in the audit: somebody who may write the manager's files

user_app = typer.Typer(no_args_is_help=True, help="Users of this manager.")
token_app = typer.Typer(no_args_is_help=True, help="Tokens for programs.")
role_app = typer.Typer(no_args_is_help=True, help="Roles, and what they may.")
factor_app = typer.Typer(no_args_is_help=True, help="Second factors: authenticator apps.")

Roles = Annotated[
    list[str],
    typer.Option("--role", metavar="ROLE[@POOL[/VM]]", help="admin, operator, viewer or own."),
]


@user_app.command("add")
def add_user(name: str, role: Roles) -> None:
    """Add a user; the password is asked for, or read from stdin when that is no terminal."""
    from outlast.manager.ports import Person

    password, roles = _password(), _grants(role)
    on_accounts(lambda a: a.add_user(Person(HERE, ()), name, password, roles))
    say(f"{name} is added")


@user_app.command("list")
def list_users(ctx: typer.Context) -> None:
    """All users with their roles."""
    found, factors = on_accounts(_users)
    if options(ctx).json:
        print_json({"users": [{"name": u.name, "disabled": u.disabled, "origin": u.origin,
                               "second_factor": u.name in factors,
                               "roles": [_word(g) for g in u.grants]} for u in found]})  # fmt: skip
        return
    for user in found:
        more = ["switched off"] if user.disabled else []
        more += ["second factor"] if user.name in factors else []
        more += [user.origin] if user.origin != "local" else []
        told = f"  ({', '.join(more)})" if more else ""
        say(f"{user.name}  {', '.join(_word(g) for g in user.grants)}{told}")


@user_app.command("password")
def new_password(name: str) -> None:
    """A new password; all sessions of that user end."""
    from outlast.manager.ports import Person

    password = _password()
    on_accounts(lambda a: a.change_user(Person(HERE, ()), name, password=password))
    say(f"{name} has a new password")


@user_app.command("roles")
def new_roles(name: str, role: Roles) -> None:
    """Give a user these roles, and no others."""
    from outlast.manager.ports import Person

    roles = _grants(role)
    on_accounts(lambda a: a.change_user(Person(HERE, ()), name, roles=roles))
    say(f"{name}: {', '.join(role)}")


@user_app.command("remove")
def remove_user(name: str) -> None:
    """Remove a user with all tokens and sessions."""
    from outlast.manager.ports import Person

    on_accounts(lambda a: a.remove_user(Person(HERE, ()), name))
    say(f"{name} is removed")


@role_app.command("list")
def list_roles(ctx: typer.Context) -> None:
    """What each role may, and the least that it must be given on for that."""
    from dataclasses import asdict

    from rich.table import Table

    from outlast.manager.roles import roles

    if options(ctx).json:
        print_json({"roles": [asdict(role) for role in roles()]})
        return
    found = roles()
    table = Table("MAY", *(role.name.upper() for role in found), box=None)
    for lines in zip(*(role.may for role in found), strict=True):
        table.add_row(lines[0].says, *(may.least or "-" for may in lines))
    stdout().print(table)


@token_app.command("add")
def add_token(
    ctx: typer.Context, owner: str, name: str, role: Roles,
    days: Annotated[float, typer.Option(help="How long it is good.")] = 365,
) -> None:  # fmt: skip
    """Make a token that may no more than its owner. It is shown this once."""
    from outlast.manager.ports import Person

    roles = _grants(role)
    token, row = on_accounts(lambda a: a.add_token(Person(HERE, ()), owner, name, roles, days))
    if options(ctx).json:
        print_json({"id": row.id, "token": token, "expires_wall_s": row.expires_wall_s})
    else:
        print(token)


@token_app.command("list")
def list_tokens(ctx: typer.Context) -> None:
    """All tokens; what they are is not known to anybody any more."""
    found = on_accounts(lambda a: a.tokens())
    if options(ctx).json:
        rows = [{"id": t.id, "name": t.name, "owner": t.owner, "expires_wall_s": t.expires_wall_s,
                 "roles": [_word(g) for g in t.grants]} for t in found]  # fmt: skip
        print_json({"tokens": rows})
        return
    for token in found:
        until = time.strftime("%Y-%m-%d", time.localtime(token.expires_wall_s))
        roles = ", ".join(_word(g) for g in token.grants)
        say(f"{token.id}  {token.owner}/{token.name}  until {until}  {roles}")


@token_app.command("remove")
def remove_token(token_id: str) -> None:
    """Take a token away, by its id."""
    from outlast.manager.ports import Person

    on_accounts(lambda a: a.remove_token(Person(HERE, ()), token_id))
    say("it is removed")


@factor_app.command("add")
def add_factor(ctx: typer.Context, name: str) -> None:
    """Show a picture for an authenticator app, and ask for its first code.

    \b
    The app counts once that code fits; then recovery codes are shown, this once.
    """
    uri = on_accounts(lambda a: _begin_factor(a, name))
    import segno  # comes with the manager's packages

    if options(ctx).json or not sys.stdout.isatty():
        print(uri, file=sys.stderr)
    else:
        segno.make(uri, error="m").terminal(compact=True)
        say(uri)
    code = typed("the code that the app shows")
    codes = on_accounts(lambda a: a.factors.confirm(name, code, by=HERE))
    if options(ctx).json:
        print_json({"recovery_codes": codes})
        return
    say(f"{name} has a second factor; all sessions have ended. Recovery codes, each good once:")
    for one in codes:
        print(one)


@factor_app.command("remove")
def remove_factor(name: str) -> None:
    """For somebody who lost app and recovery codes."""
    on_accounts(lambda a: a.factors.remove(HERE, name))
    say(f"{name} has no second factor any more")


@factor_app.command("need")
def need_factor(
    name: str, no: Annotated[bool, typer.Option("--no", help="Need none any more.")] = False
) -> None:
    """A user needs a second factor, whatever manager.json says of all."""
    from outlast.manager.ports import Person

    on_accounts(lambda a: a.change_user(Person(HERE, ()), name, code_needed=not no))
    say(f"{name} needs {'no' if no else 'a'} second factor")


# ---- inside


async def _users(accounts: Accounts) -> tuple[list[UserRow], set[str]]:
    return await accounts.users(), await accounts.factors.names()


async def _begin_factor(accounts: Accounts, name: str) -> str:
    await accounts.user(name)
    return await accounts.factors.begin(name)


def _password() -> str:
    return typed("password", hide=True, twice=True)


def _grants(words: list[str]) -> tuple[Grant, ...]:
    """operator@POOL/VM and the like. Raises InvalidInput."""
    from outlast.manager.ports import Grant
    from outlast.manager.rights import check

    found = []
    for word in words:
        role, _, where = word.partition("@")
        pool_id, _, vm = where.partition("/")
        found.append(check(Grant(role, pool_id, vm)))
    return tuple(found)


def _word(grant: Grant) -> str:
    where = f"{grant.pool_id}/{grant.vm}".rstrip("/")
    return f"{grant.role}@{where}" if where else grant.role
