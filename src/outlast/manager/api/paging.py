"""How lists are asked for and answered: one shape for all of them, a page at a time.

Rules:
1. A short list is searched by name, sorted by any of its keys and paged behind a value: what comes
   and goes meanwhile neither repeats a line nor leaves one out. Ties go by id.
2. A long one, of which lines are only added, is told newest first and paged behind an id, or where
   there is none behind a moment.
3. Every page says how many lines there are on all of them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar

from fastapi import Depends, Query

from outlast.errors import InvalidInput
from outlast.wire.shapes import Answer

T = TypeVar("T")
S = TypeVar("S")
CURSOR_MAX = 2000

Limit = Annotated[int, Query(ge=1, le=500, description="how many lines at most")]
Cursor = Annotated[str, Query(max_length=CURSOR_MAX, description="next_cursor of the page before")]
Text = Annotated[str, Query(max_length=200)]


class Page(Answer, Generic[T]):
    items: list[T]
    total: int
    next_cursor: str = ""


class Numbered(Protocol):
    @property
    def id(self) -> int: ...


N = TypeVar("N", bound=Numbered)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller wants of a short list."""

    search: str
    sort: str
    descending: bool
    limit: int
    cursor: str

    def page(
        self, rows: Iterable[T], keys: Mapping[str, Callable[[T], Any]], show: Callable[[T], S], *,
        name: Callable[[T], str] = lambda row: str(row.name),  # type: ignore[attr-defined]
        id_: Callable[[T], str] | None = None,
    ) -> Page[S]:  # fmt: skip
        """keys: what it is sorted by. id_: tells rows apart; None: their name does.

        Raises InvalidInput.
        """
        word, id_of = self.search.lower(), id_ or name
        found = [row for row in rows if word in name(row).lower()]
        chosen, more = self._cut(found, keys, id_of)
        return Page(items=[show(row) for row in chosen], total=len(found), next_cursor=more)

    def _cut(
        self, rows: Sequence[T], keys: Mapping[str, Callable[[T], Any]], id_of: Callable[[T], str]
    ) -> tuple[list[T], str]:
        if self.sort not in keys:
            raise InvalidInput(f"there is no order by {self.sort[:40]!r}", hint=", ".join(keys))

        def place(row: T) -> tuple[Any, str]:
            return keys[self.sort](row), id_of(row)

        ordered = sorted(rows, key=place, reverse=self.descending)
        start = 0
        if self.cursor:
            after = self._parsed()
            try:
                start = sum(
                    place(row) >= after if self.descending else place(row) <= after
                    for row in ordered
                )
            except TypeError:
                raise _bad_cursor() from None
        chosen = ordered[start : start + self.limit]
        if not chosen or start + self.limit >= len(ordered):
            return chosen, ""
        return chosen, pack([self.sort, self.descending, *place(chosen[-1])])

    def _parsed(self) -> tuple[Any, str]:
        found = unpack(self.cursor)
        mine = len(found) == 4 and found[:2] == [self.sort, self.descending]
        if not mine or not isinstance(found[3], str):
            raise _bad_cursor()
        return found[2], found[3]


@dataclass(frozen=True, slots=True)
class Newest:
    """What a caller wants of a long list."""

    limit: int
    cursor: str = ""

    @property
    def before_id(self) -> int:
        """0 = from the newest on. Raises InvalidInput."""
        return unpack_id(self.cursor)

    @property
    def before_moment(self) -> tuple[float | None, tuple[str, ...]]:
        """Of a list by time: the moment that the page before ended with, and what was told of it.

        None: from the newest on. Raises InvalidInput.
        """
        if not self.cursor:
            return None, ()
        match unpack(self.cursor):
            case [float() | int() as wall_s, list() as ids] if 0 <= wall_s < 1e12:
                return float(wall_s), tuple(map(str, ids))
        raise _bad_cursor()

    @property
    def ask(self) -> int:
        """How many to ask for, to know whether there are more."""
        return self.limit + 1

    def page(self, rows: Sequence[N], total: int, show: Callable[[N], S]) -> Page[S]:
        items = [show(row) for row in rows[: self.limit]]
        return Page(items=items, total=total, next_cursor=self.more(rows))

    def more(self, rows: Sequence[N]) -> str:
        """The cursor of the next page; "" = there is none."""
        return pack([rows[self.limit - 1].id]) if len(rows) > self.limit else ""


def asked(sort: str = "name", *, descending: bool = False, limit: int = 50) -> Any:
    """A dependency: an Asked, with these defaults."""
    first, down, most = sort, descending, limit

    def check(
        search: Text = "", sort: Text = first, descending: bool = down, limit: Limit = most,
        cursor: Cursor = "",
    ) -> Asked:  # fmt: skip
        return Asked(search, sort, descending, limit, cursor)

    return Depends(check)


def newest() -> Any:
    """A dependency: a Newest."""

    def check(limit: Limit = 50, cursor: Cursor = "") -> Newest:
        return Newest(limit, cursor)

    return Depends(check)


def pack(value: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def unpack(cursor: str) -> list[Any]:
    """Raises InvalidInput."""
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        raise _bad_cursor() from None
    if not isinstance(found, list):
        raise _bad_cursor()
    return found


def unpack_id(cursor: str) -> int:
    """The id in a cursor of a list by id; 0 without one. Raises InvalidInput."""
    if not cursor:
        return 0
    found = unpack(cursor)
    if len(found) != 1 or type(found[0]) is not int or not 0 < found[0] < 1 << 62:
        raise _bad_cursor()
    return found[0]


def _bad_cursor() -> InvalidInput:
    return InvalidInput("the cursor is none", hint="begin again without a cursor")
