"""ETags, and If-Match: what somebody wishes of a thing counts only for what he saw of it.

Rules:
1. An ETag is of what people wished of a thing, not of how it stands: another wish in between is
   noticed, a changed gauge is not.
2. It is held against what the pool says at that moment, never against an old list. Between that
   and the wish another one may still slip in.
3. "*" and no header at all mean: whatever it is now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header

from outlast.manager.errors import Changed

IfMatch = Annotated[
    str, Header(alias="If-Match", max_length=200, description="the ETag of what you saw")
]
SIGNS = 16


def etag(wished: str, more: str = "") -> str:
    """The header. wished: what it is of; more: what may differ and match all the same."""
    return f'"{mark(wished)}.{mark(more)}"' if more else f'"{mark(wished)}"'


def mark(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=SIGNS // 2).hexdigest()


async def check(if_match: str, name: str, now: Callable[[], Awaitable[str]]) -> None:
    """now: what is wished of it at this moment. Raises Changed."""
    said = if_match.strip()
    if said in ("", "*"):
        return
    seen = {tag.strip().removeprefix("W/").strip('"').partition(".")[0] for tag in said.split(",")}
    if mark(await now()) not in seen:
        raise Changed(f"{name} was changed meanwhile", hint="look at it again")
