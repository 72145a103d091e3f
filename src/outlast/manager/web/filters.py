"""The address of the list of VMs: search, filters, order, page.

Rules:
1. The address that is pushed has only what differs from the beginning.
2. Words like `state:down host:kvm-02 pool:lab ha:off` in the search filter as the boxes do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import Depends, Query

from outlast.errors import NotFound
from outlast.manager.ports import VmQuery
from outlast.manager.web.gate import View

LIMITS = (25, 50, 100)
TEXT_MAX, PAGE_MAX = 200, 100_000
Text = Annotated[str, Query(max_length=TEXT_MAX)]


@dataclass(frozen=True, slots=True)
class Filter:
    """The list's address."""

    search: str = ""
    pool: str = ""
    host: str = ""
    state: str = ""
    ha: str = ""  # "" | on | off
    sort: str = "name"
    down: bool = False  # descending
    page: int = 1
    limit: int = 50

    def path(self, **other: Any) -> str:
        """The address with some of it changed, without what is as at the beginning."""
        now, first = replace(self, **other), Filter()
        said: dict[str, str] = {
            name: ("1" if value is True else str(value))
            for name in Filter.__slots__
            if (value := getattr(now, name)) != getattr(first, name)
        }
        return "/vms" + (f"?{urlencode(said, quote_via=quote)}" if said else "")

    def sorted_by(self, sort: str) -> str:
        return self.path(sort=sort, down=self.sort == sort and not self.down, page=1)

    @property
    def narrowed(self) -> bool:
        return bool(self.search or self.pool or self.host or self.state or self.ha)

    def query(self, view: View, **other: int) -> tuple[VmQuery, str]:
        """What to look for; and the pool's name when words of the search named one.

        other: another page or limit. Raises NotFound for a pool that is not there.
        """
        words, asked = [], self
        for word in self.search.split():
            key, colon, value = word.partition(":")
            if colon and value and key in ("state", "host", "pool", "ha"):
                asked = replace(asked, **{key: value})  # type: ignore[arg-type]
            else:
                words.append(word)
        pool = view.manager.reads.find(asked.pool) if asked.pool else None
        if pool is not None and not view.scope.touches(pool.id):
            raise NotFound(f"there is no pool {asked.pool[:80]!r}")
        ha = {"": None, "on": True, "off": False}.get(asked.ha)
        return VmQuery(
            " ".join(words), pool.id if pool else "", asked.host, asked.state, ha, self.sort,
            self.down, "", other.get("page", self.page), other.get("limit", self.limit),
            view.scope,
        ), pool.name if pool else ""  # fmt: skip


def filter_of(path: str) -> Filter:
    """Of an address that `Filter.path` made; what is none counts as not said."""
    values = dict(parse_qsl(path.partition("?")[2]))
    texts = {k: values[k][:TEXT_MAX] for k in ("search", "pool", "host", "state") if k in values}
    limit, number = values.get("limit", ""), values.get("page", "")
    return Filter(
        **texts, ha=values.get("ha", ""), sort=values.get("sort", "name")[:TEXT_MAX],
        down="down" in values, limit=int(limit) if limit in map(str, LIMITS) else 50,
        page=min(max(1, int(number)), PAGE_MAX) if number.isdecimal() else 1,
    )  # fmt: skip


def asked_for() -> Any:
    """A dependency: what the address of the request asks for."""
    return Depends(_asked)


def _asked(
    search: Text = "", pool: Text = "", host: Text = "", state: Text = "", ha: Text = "",
    sort: Text = "name", down: bool = False, page: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 1,
    limit: int = 50,
) -> Filter:  # fmt: skip
    return Filter(
        search.strip(), pool, host, state, ha if ha in ("on", "off") else "", sort or "name",
        down, page, limit if limit in LIMITS else 50,
    )  # fmt: skip
