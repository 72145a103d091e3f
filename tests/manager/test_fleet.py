"""The read model: what counts as a change, staleness, and lists held against a plain search."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pretend import POOL, host, pool, vm

from outlast.errors import InvalidInput, NotFound
from outlast.manager.fleet import Fleet
from outlast.manager.hub import Hub
from outlast.manager.ports import VM_SORTS, Change, Scope, VmItem, VmQuery
from outlast.wire.shapes import PoolStatus


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def fleet_test(test: Callable[[Fleet, Clock], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test on an event loop, with a fleet that knows the pool."""

    def run() -> None:
        async def main() -> None:
            clock = Clock()
            fleet = Fleet(Hub(window_s=0), clock=clock, wall=lambda: 1e6 + clock.now_s)
            fleet.add(POOL, "lab")
            await asyncio.sleep(0.01)
            await test(fleet, clock)

        asyncio.run(main())

    run.__name__ = test.__name__
    return run


async def told(fleet: Fleet, status: PoolStatus) -> set[tuple[str, str]]:
    """What a status changes, as it is told."""
    before = fleet.hub.last
    fleet.heard(status, fleet.now_s())
    await asyncio.sleep(0.01)
    found: set[tuple[str, str]] = set()
    for batch in fleet.hub._batches:
        found |= {(c.kind, c.name) for c in batch.changes if c.id > before}
    return found


@fleet_test
async def test_only_what_differs_is_told_and_gets_a_new_version(fleet: Fleet, _: Clock) -> None:
    assert await told(fleet, pool(vm("web"), vm("db"))) == {
        ("pool", ""), ("host", "a"), ("host", "b"), ("vm", "web"), ("vm", "db"),
    }  # fmt: skip
    before = fleet.vm(POOL, "web"), fleet.pool(POOL)
    trembling = pool(
        vm("web", since_wall_s=None), vm("db"), age_ms=99, answered_by="b",
        hosts=[host("a", master=True, beat_age_ms=7, deadline_ms=8), host("b", 2, answering=True)],
    )  # fmt: skip
    assert await told(fleet, trembling) == set()
    assert fleet.vm(POOL, "web") is before[0]
    assert fleet.pool(POOL).version == before[1].version
    assert fleet.pool(POOL).status.hosts[0].beat_age_ms == 7
    assert await told(fleet, pool(vm("web", host="b"))) == {("vm", "web"), ("vm", "db")}
    assert fleet.vm(POOL, "uuid-web").vm.host == "b"
    with pytest.raises(NotFound, match="no VM 'db'"):
        fleet.vm(POOL, "db")
    silent = [host("a", 1, master=True), host("b", 2, state="silent")]
    assert await told(fleet, pool(vm("web", host="b"), hosts=silent)) == {("host", "b")}


@fleet_test
async def test_since_may_tremble(fleet: Fleet, _: Clock) -> None:
    await told(fleet, pool(vm("web", since_wall_s=1000.0)))
    assert await told(fleet, pool(vm("web", since_wall_s=1000.4))) == set()
    assert fleet.vm(POOL, "web").vm.since_wall_s == 1000.0
    assert await told(fleet, pool(vm("web", since_wall_s=1002.0))) == {("vm", "web")}


@fleet_test
async def test_a_pool_that_does_not_answer_is_stale_and_never_fine(
    fleet: Fleet, clock: Clock
) -> None:
    entry = fleet.pool(POOL)
    assert (entry.stale, entry.seen_wall_s) == (True, 0)
    assert entry.trouble
    fleet.heard(pool(vm("web")), clock.now_s)
    assert (fleet.pool(POOL).stale, fleet.pool(POOL).trouble) == (False, "")
    seen_wall_s = fleet.pool(POOL).seen_wall_s
    fleet.silent(POOL, "no agent answers at x")
    assert fleet.pool(POOL).trouble == "no agent answers at x"
    clock.now_s += 9
    fleet.age()
    assert not fleet.pool(POOL).stale
    clock.now_s += 2
    fleet.age()
    entry = fleet.pool(POOL)
    assert (entry.stale, entry.seen_wall_s) == (True, seen_wall_s)
    assert [v.name for v in entry.status.vms] == ["web"]
    fleet.heard(pool(vm("web")), clock.now_s)
    assert (fleet.pool(POOL).stale, fleet.pool(POOL).trouble) == (False, "")


@fleet_test
async def test_an_answer_that_was_overtaken_changes_nothing(fleet: Fleet, clock: Clock) -> None:
    fleet.heard(pool(vm("web", host="b")), 50.0)
    fleet.heard(pool(vm("web", host="a")), 49.0)
    assert fleet.vm(POOL, "web").vm.host == "b"
    fleet.heard(pool(vm("web", host="a"), id="another"), 60.0)
    assert [e.id for e in fleet.pools()] == [POOL]


@fleet_test
async def test_doubt_is_stale_at_once(fleet: Fleet, clock: Clock) -> None:
    fleet.heard(pool(vm("web")), clock.now_s, "a answers, but is no member")
    assert fleet.pool(POOL).stale
    assert "no member" in fleet.pool(POOL).trouble


@fleet_test
async def test_pools_are_found_by_id_or_by_a_name_that_is_the_only_one(
    fleet: Fleet, _: Clock
) -> None:
    assert fleet.find("lab").id == fleet.find(POOL).id == POOL
    fleet.add("other", "lab")
    with pytest.raises(NotFound, match="2 pools"):
        fleet.find("lab")
    fleet.remove("other")
    with pytest.raises(NotFound):
        fleet.find("other")


# ---- lists


def key_of(item: VmItem, sort: str) -> tuple[object, ...]:
    value = {
        "name": "", "pool": f"pool{item.pool_id}", "host": item.vm.host, "state": item.vm.state,
        "memory": item.vm.memory_mib, "vcpus": item.vm.vcpus, "since": item.vm.since_wall_s or 0,
    }[sort]  # fmt: skip
    return (value, item.vm.name, item.pool_id)


def plainly(items: list[VmItem], query: VmQuery) -> list[VmItem]:
    """The same list the simple way."""

    def fits(item: VmItem) -> bool:
        one = item.vm
        text = f"{one.name} {one.host} pool{item.pool_id} {one.state}"
        return (
            all(word in text for word in query.search.lower().split())
            and query.pool in ("", item.pool_id)
            and query.host in ("", one.host)
            and (not query.state or one.state in query.state.split(","))
            and (query.ha is None or query.ha == one.ha)
            and query.scope.sees_vm(item.pool_id, one.name)
        )

    found = sorted(filter(fits, items), key=lambda item: key_of(item, query.sort))
    return found[::-1] if query.descending else found


def test_lists_are_those_of_a_plain_search_while_everything_changes() -> None:
    async def main() -> None:
        chance = random.Random(5)
        fleet = Fleet(Hub(window_s=0))
        for p in "123":
            fleet.add(p, f"pool{p}")
        world: dict[str, dict[str, Any]] = {p: {} for p in "123"}
        for step in range(120):
            p = chance.choice("123")
            for _ in range(chance.choice((1, 1, 2, 30))):
                name = f"vm{chance.randrange(60)}"
                world[p][name] = vm(
                    name, chance.choice(("running", "stopped", "waiting")), chance.choice("ab"),
                    memory_mib=chance.choice((512, 1024)), ha=chance.random() < 0.7,
                    since_wall_s=chance.choice((None, 10.0 * chance.randrange(9))),
                )  # fmt: skip
            if chance.random() < 0.4:
                world[p].pop(chance.choice(list(world[p])))
            fleet.heard(pool(*world[p].values(), id=p, name=f"pool{p}"), float(step))
            items = [fleet.vm(q, name) for q in world for name in world[q]]
            query = VmQuery(
                search=chance.choice(("", "", "vm1", "a RUNNING", "pool2 vm")),
                pool=chance.choice(("", "", "1")),
                host=chance.choice(("", "", "b")),
                state=chance.choice(("", "running", "stopped,waiting")),
                ha=chance.choice((None, True, False)),
                sort=chance.choice(VM_SORTS),
                descending=chance.random() < 0.5,
                limit=chance.choice((1, 7, 50)),
                scope=chance.choice(
                    (Scope(), Scope(False, frozenset("1"), frozenset({("2", "vm7")})))
                ),
            )
            wanted = plainly(items, query)
            assert pages(fleet, query) == wanted
            second = fleet.vms(VmQuery(**{**fields(query), "page": 2}))
            assert list(second.items) == wanted[query.limit : 2 * query.limit]

    asyncio.run(main())


def fields(query: VmQuery) -> dict[str, Any]:
    return {name: getattr(query, name) for name in VmQuery.__slots__}


def pages(fleet: Fleet, query: VmQuery) -> list[VmItem]:
    found: list[VmItem] = []
    while True:
        page = fleet.vms(query)
        found += page.items
        if not page.next_cursor:
            assert page.total == len(found)
            return found
        query = VmQuery(**{**fields(query), "cursor": page.next_cursor})


@fleet_test
async def test_a_cursor_neither_repeats_nor_leaves_out(fleet: Fleet, _: Clock) -> None:
    fleet.heard(pool(*(vm(f"vm{n:02}") for n in range(20))), 1.0)
    first = fleet.vms(VmQuery(limit=5))
    fleet.heard(pool(*(vm(f"vm{n:02}") for n in range(2, 20))), 2.0)
    second = fleet.vms(VmQuery(limit=5, cursor=first.next_cursor))
    assert [i.vm.name for i in second.items] == [f"vm{n:02}" for n in range(5, 10)]


@pytest.mark.parametrize(
    "bad",
    [
        {"sort": "colour"}, {"limit": 0}, {"limit": 501}, {"page": 0}, {"cursor": "x"},
        {"cursor": "WyJuYW1lIiwgZmFsc2UsIDUsICJhIiwgImIiXQ"}, {"cursor": "é" * 50},
        {"cursor": "bnVsbA"}, {"search": "x" * 201},
    ],
)  # fmt: skip
def test_queries_that_are_none_are_refused(bad: dict[str, Any]) -> None:
    @fleet_test
    async def check(fleet: Fleet, _: Clock) -> None:
        fleet.heard(pool(vm("a"), vm("b")), 1.0)
        with pytest.raises(InvalidInput):
            fleet.vms(VmQuery(**bad))

    check()


def test_a_change_has_no_values() -> None:
    assert set(Change.__slots__) == {"id", "kind", "pool_id", "name"}


def test_the_log_tells_once_that_a_pool_is_away_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(fleet: Fleet, clock: Clock) -> None:
        fleet.heard(pool(), fleet.now_s())
        for _ in range(3):
            clock.now_s += 60
            fleet.silent(POOL, "no agent answers at https://a:7791")
            fleet.age()
        for _ in range(3):
            fleet.heard(pool(), fleet.now_s())

    fleet_test(main)()
    assert [record.getMessage() for record in caplog.records] == [
        "pool lab: no agent answers at https://a:7791", "pool lab: it works again",
    ]  # fmt: skip
