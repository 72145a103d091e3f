"""What a user may be called, and how people are put into the words of the audit (pure)."""

from __future__ import annotations

from outlast.manager.ports import Grant
from outlast.manager.repository.people import UserRow
from outlast.wire.shapes import BadField

NAME_MAX = 64
SIGNS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_@")


def usable(name: str) -> bool:
    return 1 <= len(name) <= NAME_MAX and SIGNS.issuperset(name) and name[0].isalnum()


def check_name(name: str, field: str = "name") -> str:
    """Small letters, digits, . - _ and @. Raises BadField."""
    if not usable(name):
        raise BadField(
            f"{name[:80]!r} is not a usable name", field=field,
            hint="a-z, 0-9 and . - _ @, beginning with a letter or digit",
        )  # fmt: skip
    return name


def words(roles: tuple[Grant, ...]) -> str:
    return ", ".join(
        g.role + (f" on {g.pool_id}{'/' + g.vm if g.vm else ''}" if g.pool_id else "")
        for g in roles
    )


def about(user: UserRow | None) -> str:
    """Roles and state; "" = there is no such user."""
    if user is None:
        return ""
    more = ", switched off" if user.disabled else ""
    more += ", needs a second factor" if user.code_needed else ""
    return (words(user.grants) or "no role") + more
