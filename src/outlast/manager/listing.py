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
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import compress
from operator import and_, not_

from outlast.errors import InvalidInput
from outlast.manager.ports import VM_SORTS, VmItem, VmPage, VmQuery

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
    """All rows, sorted by one thing, and what queries look at in lists beside them.

    Lists of plain values let the interpreter filter in C: looking into ten thousand rows would
    cost several times as much.
    """

    def __init__(self, sort: str, rows: Iterable[Row]) -> None:
        self._value = _VALUES[sort]
        self._rows: dict[Key, Row] = {self.key(row): row for row in rows}
        self._changed: set[Key] = set()
        self._sort_anew()

    def key(self, row: Row) -> Key:
        return (self._value(row), row.item.vm.name, row.item.pool_id)

    def change(self, before: Row | None, after: Row | None) -> None:
        if before is not None:
            old = self.key(before)
            del self._rows[old]
            self._changed.add(old)
        if after is not None:
            new = self.key(after)
            self._rows[new] = after
            self._changed.add(new)

    def refresh(self) -> None:
        """Take over what has changed; the lists are good until the next change."""
        if len(self._changed) * SORT_ANEW > len(self.keys):
            self._sort_anew()
        for key in self._changed:
            self._put(key, self._rows.get(key))
        self._changed.clear()

    def find(self, query: VmQuery) -> list[Row]:
        """Those that fit, ascending."""
        masks: list[Iterable[object]] = []
        if query.state:
            masks.append(map(frozenset(query.state.split(",")).__contains__, self.states))
        if query.pool:
            masks.append(map(query.pool.__eq__, self.pools))
        if query.host:
            masks.append(map(query.host.__eq__, self.hosts))
        if query.ha is not None:
            masks.append(self.protected if query.ha else map(not_, self.protected))
        mask = masks.pop() if masks else None
        for other in masks:
            mask = map(and_, map(bool, mask or ()), map(bool, other))
        words = query.search.lower().split()
        if not words:
            rows = list(compress(self.rows, mask)) if mask is not None else list(self.rows)
        else:
            pairs: Iterable[tuple[Row, str]] = zip(self.rows, self.texts, strict=True)
            word, *more = words
            chosen = compress(pairs, mask) if mask is not None else pairs
            rows = [row for row, text in chosen if word in text]
            for word in more:
                rows = [row for row in rows if word in row.text]
        scope = query.scope
        if not scope.everything:
            rows = [r for r in rows if scope.sees_vm(r.item.pool_id, r.item.vm.name)]
        return rows

    def _sort_anew(self) -> None:
        self._changed.clear()
        self.keys: list[Key] = sorted(self._rows)
        self.rows: list[Row] = [self._rows[key] for key in self.keys]
        self.states = [row.item.vm.state for row in self.rows]
        self.hosts = [row.item.vm.host for row in self.rows]
        self.pools = [row.item.pool_id for row in self.rows]
        self.protected = [row.protected for row in self.rows]
        self.texts = [row.text for row in self.rows]

    def _put(self, key: Key, row: Row | None) -> None:
        at = bisect_left(self.keys, key)
        here = at < len(self.keys) and self.keys[at] == key
        end = at + here
        new = [] if row is None else [row]
        self.keys[at:end] = [key for _ in new]
        self.rows[at:end] = new
        self.states[at:end] = [r.item.vm.state for r in new]
        self.hosts[at:end] = [r.item.vm.host for r in new]
        self.pools[at:end] = [r.item.pool_id for r in new]
        self.protected[at:end] = [r.protected for r in new]
        self.texts[at:end] = [r.text for r in new]


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
        order.refresh()
        rows = order.find(query)
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
