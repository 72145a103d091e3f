"""All VMs of all pools in the orders people ask for (pure but for the cursors' text).

Rules:
1. An order is kept sorted while VMs change; it is sorted anew only when many have changed.
2. A cursor says behind which VM the next page begins, not how many came before: VMs that come and
   go meanwhile neither repeat a line nor leave one out.
3. The answer to a query is kept until something changes: turning pages costs nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from outlast.errors import InvalidInput
from outlast.manager.ports import VM_SORTS, VmItem, VmPage, VmQuery
from outlast.wire.shapes import VmStatus

LIMIT_MAX = 500
SEARCH_MAX = 200
KEPT_ANSWERS = 64
SORT_ANEW = 16  # when more than one in so many has changed

Key = tuple[str | int | float, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One VM with what queries look at."""

    item: VmItem
    pool_name: str
    text: str
    protected: bool

    @property
    def pool_id(self) -> str:
        return self.item.pool_id


def row_of(item: VmItem, pool_name: str, pool_ha: bool) -> Row:
    vm = item.vm
    text = f"{vm.name} {vm.host} {pool_name} {vm.state}".lower()
    return Row(item, pool_name, text, vm.ha and vm.ha_off is None and pool_ha)


_VALUES: dict[str, Callable[[Row], str | int | float]] = {
    "name": lambda row: "",
    "pool": lambda row: row.pool_name,
    "host": lambda row: row.item.vm.host,
    "state": lambda row: row.item.vm.state,
    "memory": lambda row: row.item.vm.memory_mib,
    "vcpus": lambda row: row.item.vm.vcpus,
    "since": lambda row: row.item.vm.since_wall_s or 0.0,
}


class _Order:
    """All rows, sorted by one thing."""

    def __init__(self, sort: str, rows: Iterable[Row]) -> None:
        self._value = _VALUES[sort]
        self.rows: dict[Key, Row] = {self.key(row): row for row in rows}
        self.keys: list[Key] = sorted(self.rows)
        self._gone: set[Key] = set()
        self._come: set[Key] = set()

    def key(self, row: Row) -> Key:
        return (self._value(row), row.item.vm.name, row.item.pool_id)

    def change(self, before: Row | None, after: Row | None) -> None:
        old = self.key(before) if before is not None else None
        new = self.key(after) if after is not None else None
        if old is not None and old != new:
            del self.rows[old]
            if old in self._come:
                self._come.discard(old)
            else:
                self._gone.add(old)
        if new is not None and after is not None:
            self.rows[new] = after
            if old != new:
                if new in self._gone:
                    self._gone.discard(new)
                else:
                    self._come.add(new)

    def sorted_rows(self) -> list[Row]:
        changed = len(self._gone) + len(self._come)
        if changed * SORT_ANEW > len(self.keys):
            self.keys = sorted(self.rows)
        else:
            for key in self._gone:
                del self.keys[bisect_left(self.keys, key)]
            for key in self._come:
                insort(self.keys, key)
        self._gone.clear()
        self._come.clear()
        rows = self.rows
        return [rows[key] for key in self.keys]


class Listing:
    """Rows by (pool id, VM name)."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Row] = {}
        self._orders: dict[str, _Order] = {}
        self._answers: dict[VmQuery, list[Row]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, row: Row) -> None:
        place = (row.item.pool_id, row.item.vm.name)
        before = self._rows.get(place)
        self._rows[place] = row
        self._change(before, row)

    def remove(self, pool_id: str, name: str) -> None:
        before = self._rows.pop((pool_id, name), None)
        if before is not None:
            self._change(before, None)

    def page(self, query: VmQuery) -> VmPage:
        """Raises InvalidInput for a sort, cursor, page or limit that is none."""
        _check(query)
        found = self._find(replace(query, cursor="", page=1, limit=50, descending=False))
        count = len(found)
        start = self._behind(found, query) if query.cursor else (query.page - 1) * query.limit
        end = min(start + query.limit, count)
        if query.descending:
            chosen = found[count - end : count - start][::-1] if start < count else []
        else:
            chosen = found[start:end]
        more = end < count and bool(chosen)
        cursor = _cursor(query, self._orders[query.sort].key(chosen[-1])) if more else ""
        return VmPage([row.item for row in chosen], count, cursor)

    # ---- inside

    def _change(self, before: Row | None, after: Row | None) -> None:
        self._answers.clear()
        for order in self._orders.values():
            order.change(before, after)

    def _find(self, query: VmQuery) -> list[Row]:
        known = self._answers.get(query)
        if known is not None:
            return known
        order = self._orders.get(query.sort)
        if order is None:
            order = self._orders[query.sort] = _Order(query.sort, self._rows.values())
        rows = _narrowed(order.sorted_rows(), query)
        if len(self._answers) >= KEPT_ANSWERS:
            self._answers.clear()
        self._answers[query] = rows
        return rows

    def _behind(self, rows: list[Row], query: VmQuery) -> int:
        """The index of the first row behind the cursor."""
        key, key_of = _key_of(query), self._orders[query.sort].key
        try:
            if query.descending:
                return len(rows) - bisect_left(rows, key, key=key_of)
            return bisect_right(rows, key, key=key_of)
        except TypeError:
            raise _bad_cursor() from None


def _narrowed(rows: list[Row], query: VmQuery) -> list[Row]:
    scope = query.scope
    if not scope.everything:
        rows = [r for r in rows if scope.sees_vm(r.item.pool_id, r.item.vm.name)]
    if query.pool:
        rows = [r for r in rows if r.item.pool_id == query.pool]
    if query.host:
        rows = [r for r in rows if r.item.vm.host == query.host]
    if query.state:
        states = frozenset(query.state.split(","))
        rows = [r for r in rows if r.item.vm.state in states]
    if query.ha is not None:
        rows = [r for r in rows if r.protected is query.ha]
    for word in query.search.lower().split():
        rows = [r for r in rows if word in r.text]
    return rows


def _check(query: VmQuery) -> None:
    if query.sort not in VM_SORTS:
        raise InvalidInput(
            f"there is no order by {query.sort[:40]!r}", hint="one of: " + ", ".join(VM_SORTS)
        )
    if not 1 <= query.limit <= LIMIT_MAX:
        raise InvalidInput(f"limit: {query.limit} is not within 1..{LIMIT_MAX}")
    if not 1 <= query.page <= 1_000_000:
        raise InvalidInput(f"page: {query.page} is not within 1..1000000")
    if len(query.search) > SEARCH_MAX:
        raise InvalidInput(f"search: more than {SEARCH_MAX} characters")


def _cursor(query: VmQuery, key: Key) -> str:
    raw = json.dumps([query.sort, query.descending, *key]).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _key_of(query: VmQuery) -> Key:
    """The key in a cursor. Raises InvalidInput."""
    text = query.cursor
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        sort, descending, value, name, pool_id = json.loads(raw)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _bad_cursor() from None
    texts = isinstance(name, str) and isinstance(pool_id, str)
    if not texts or not isinstance(value, str | int | float):
        raise _bad_cursor()
    if (sort, descending) != (query.sort, query.descending):
        raise InvalidInput(
            "the cursor belongs to another order", hint="begin again without a cursor"
        )
    return value, name, pool_id


def _bad_cursor() -> InvalidInput:
    return InvalidInput("the cursor is none", hint="begin again without a cursor")


def same_vm(old: VmStatus, new: VmStatus) -> bool:
    """True when nothing that is shown differs; agents' clocks make `since` tremble."""
    before, after = old.__dict__, new.__dict__
    if before == after:
        return True
    then, now = old.since_wall_s, new.since_wall_s
    if then is None or now is None or abs(then - now) > 1:
        return False
    return {**after, "since_wall_s": then} == before
