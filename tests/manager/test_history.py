"""The history of metrics on SQLite and PostgreSQL: gathered, rolled up, forgotten, asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from calling import V, wait
from desk import Desk
from pretend import RealPool
from sqlalchemy import select

from outlast.errors import StorageTrouble
from outlast.manager import history
from outlast.manager.fleet import Fleet
from outlast.manager.history import History
from outlast.manager.ports import Grant
from outlast.manager.repository import records, rollups
from outlast.manager.repository.schema import rollups as table
from outlast.manager.repository.store import Repository
from outlast.manager.rollup import DAY_S, HOSTS, LEVELS, SHARES, Level, part_of
from outlast.wire.margin import MarginInfo
from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus

T = TypeVar("T")
BEGAN_S = 20_000 * DAY_S
CPU, VM_CPU = "outlast_host_busy_cores", "outlast_vm_busy_cores"


class World:
    """A fleet whose pools answer what they are told to, at a time that goes as told."""

    def __init__(self, repository: Repository, pools: int = 2) -> None:
        self.wall_s, self.busy = float(BEGAN_S), 1.0
        self.fleet = Fleet(wall=lambda: self.wall_s)
        self.pools = [f"p{n}" for n in range(pools)]
        self.repository, self._loop = repository, asyncio.new_event_loop()
        self.run(self._add())
        self.history = History(repository, self.fleet, wall=lambda: self.wall_s)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    async def _add(self) -> None:
        for pool in self.pools:
            self.fleet.add(pool, pool)

    def close(self) -> None:
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def tell(self) -> None:
        for pool in self.pools:
            self.fleet.heard(status(pool, self.busy), self.fleet.now_s())

    def go(self, minutes: int, every_s: int = 20) -> None:
        """Samples for so long; each minute keeps one core more busy than the one before."""

        async def run() -> None:
            for n in range(minutes * 60 // every_s):
                self.busy = 1.0 + n * every_s // 60
                self.tell()
                await self.history.round()
                self.wall_s += every_s
            await self.history.round()

        self.run(run())

    def series(self, name: str, level: Level, part: str = HOSTS, pool: str = "p0") -> Any:
        return self.repository.read_now(
            lambda c: rollups.series(c, pool, part, name, level, BEGAN_S, self.wall_s)
        )

    def count(self, level: Level) -> int:
        mine = select(table).where(table.c.step_s == level.step_s)
        return self.repository.read_now(lambda c: len(c.execute(mine).all()))


def status(pool: str, busy: float, vms: tuple[str, ...] = ("web", "db")) -> PoolStatus:
    hosts = [
        HostStatus(
            name=name, slot=n, state="member", sentence="", free_mib=1024 * n, busy_cores=busy,
            beat_age_ms=200, margin=MarginInfo(beats=9, p99_ms=1500, beat_ms=1000,
                                               longest_ms=2000, fence_ms=40000),
        )
        for n, name in ((1, "a"), (2, "b"))
    ]  # fmt: skip
    return PoolStatus(
        name=pool, uuid=pool, preset="standard", answered_by="a", sentence="", hosts=hosts,
        vms=[VmStatus(name=name, uuid=f"u-{name}", state="running", sentence="", desired="running",
                      host="a", memory_mib=512, vcpus=1, ha=True, busy_cores=busy / 10)
             for name in vms],
    )  # fmt: skip


@pytest.fixture
def world(database: str) -> Iterator[World]:
    repository = Repository(database)
    repository.migrate()
    made = World(repository)
    yield made
    made.close()
    repository.close()


def test_samples_become_buckets_and_those_coarser_ones(world: World) -> None:
    world.go(125)
    minute, ten, hour = LEVELS[:3]
    by_minute = world.series("a", minute)
    assert len(by_minute[CPU]) == 125
    first = by_minute[CPU][BEGAN_S + 600]
    assert (first.count, first.low, first.high) == (3, 11, 11)
    assert by_minute["outlast_host_heartbeat_margin_seconds"][BEGAN_S].mean == 38
    assert by_minute["outlast_host_storage_delay_seconds"][BEGAN_S].mean == 0.5
    assert "outlast_host_used_memory_bytes" not in by_minute, "it was not known"
    # 12 windows are over and made; the 13th has five minutes, which are looked up
    assert world.count(ten) == 2 * (12 + 12 * 2), "two pools: hosts, and two shares of VMs"
    by_ten = world.series("a", ten)[CPU]
    assert [(r.count, r.low, r.high, r.mean) for r in by_ten.values()] == [
        (30 if n < 12 else 15, 10 * n + 1, min(10 * n + 10, 125), 10 * n + (5.5 if n < 12 else 3))
        for n in range(13)
    ]
    assert world.count(hour) == 2 * 2 * 3
    assert [r.high for r in world.series("b", hour)[CPU].values()] == [60, 120, 125]
    assert [r.high for r in world.series("", LEVELS[4])["outlast_pool_members"].values()] == [2]
    vms = world.series("web", ten, part_of("web"))[VM_CPU]
    assert len(vms) == 12
    assert vms[BEGAN_S].count == 10, "VMs once a minute"
    assert world.series("nobody", ten) == {}


def test_another_manager_goes_on_and_what_is_done_twice_does_no_harm(world: World) -> None:
    world.go(15)
    other = World(world.repository)
    other.wall_s = world.wall_s - 5 * 60  # it thinks that it leads, too
    other.go(15)
    assert len(world.series("a", LEVELS[0])[CPU]) == 15
    other.wall_s = max(world.wall_s, other.wall_s)
    found = other.series("a", LEVELS[1])[CPU]
    assert [r.count for r in found.values()] == [30, 30, 15]
    assert other.run(other.history.roll_up(other.wall_s)) == 0, "all is rolled up"


def test_a_time_without_a_manager_is_a_gap_and_no_end(world: World) -> None:
    world.go(30)
    world.wall_s += 6 * 3600
    world.go(30)
    found = world.series("a", LEVELS[1])[CPU]
    assert [r.count for r in found.values()] == [30, 30, 30, 1, 30, 30, 30]
    assert [r.count for r in world.series("a", LEVELS[2])[CPU].values()] == [91, 90]


def test_more_than_one_round_can_make_is_made_in_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(History, "roll_up", never := Skipped())
    world.go(180)
    assert never.asked
    monkeypatch.undo()
    monkeypatch.setattr(history, "WINDOWS", 5)
    made = []
    while made[-1:] != [0]:
        made.append(world.run(world.history.roll_up(world.wall_s)))
    assert made == [5, 5, 5, 3 + 3, 0], "18 of ten minutes first, then 3 hours"
    assert [r.count for r in world.series("a", LEVELS[2])[CPU].values()] == [180] * 3


class Skipped:
    asked = 0

    async def __call__(self, wall_s: float) -> int:
        self.asked += 1
        return 0


def test_a_pool_that_does_not_answer_has_a_gap(world: World) -> None:
    world.pools = ["p0"]
    world.go(3)
    assert len(world.series("a", LEVELS[0])[CPU]) == 3
    assert world.series("a", LEVELS[0], pool="p1") == {}


def test_what_is_old_is_forgotten_level_by_level(world: World) -> None:
    world.go(125)

    def forget(days_later: float, days: int = 732) -> list[int]:
        wall_s = world.wall_s + days_later * DAY_S
        world.repository.write_now(lambda c: rollups.forget(c, wall_s, days))
        return [world.count(level) for level in LEVELS[:3]]

    before = forget(0)
    assert forget(1.8) == before
    assert forget(3) == [0, 2 * 12, 2 * 2 * 3], "minutes are gone, and ten minutes of VMs"
    assert forget(11) == [0, 0, 2 * 2], "hours of hosts are left"
    assert forget(11, days=5) == [0, 0, 0]


def test_a_database_that_is_away_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, away = world.repository.write, [True]

    async def perhaps(work: Any) -> Any:
        if away[0]:
            raise StorageTrouble("the database is away")
        return await write(work)

    monkeypatch.setattr(world.repository, "write", perhaps)

    async def run() -> None:
        for _ in range(12):
            world.tell()
            with contextlib.suppress(StorageTrouble):
                await world.history.round()
            world.wall_s += 60

    world.run(run())
    assert world.count(LEVELS[0]) == 0
    away[0] = False
    world.go(1)
    assert len(world.series("a", LEVELS[0])[CPU]) == 13
    assert world.count(LEVELS[1]) == 2 * 3


def test_a_large_pool_has_no_more_rows_and_small_ones(world: World) -> None:
    names = tuple(f"vm-{n:04d}" for n in range(2000))
    world.pools = ["p0"]

    async def run() -> None:
        for _ in range(11):
            world.fleet.heard(status("p0", 1.234, names), world.fleet.now_s())
            await world.history.round()
            world.wall_s += 60

    world.run(run())
    assert world.count(LEVELS[1]) == 1 + SHARES


# ---- over the API


def test_the_api_tells_and_refuses(desk: Desk, real: RealPool, admin: str) -> None:
    manager = desk.manager
    # the manager's own rounds take place too; time goes faster here
    began_s = manager.history._wall()
    passed = [0.0]
    manager.history._wall = lambda: began_s + passed[0]
    path = f"{V}/pools/{real.id}/hosts/a/metrics"

    def told() -> Any:
        passed[0] += 30
        desk.run(manager.history.round())
        span = f"from_wall_s={began_s - 100}&to_wall_s={began_s + 4000}"
        return desk.call("GET", f"{path}?{span}&step_s=60", token=admin).json

    wait(lambda: len(told()["metrics"].get("outlast_host_heartbeat_age_seconds", ())) > 2)
    found = told()
    assert found["step_s"] == 60
    point = found["metrics"]["outlast_host_vms"][0]
    assert set(point) == {"start_wall_s", "count", "mean", "low", "high"}
    assert point["low"] <= point["mean"] <= point["high"]
    pool = desk.call("GET", f"{V}/pools/lab/metrics", token=admin).json
    assert pool["step_s"] == 600, "the last day"
    for query, field in (("step_s=61", "step_s"), ("from_wall_s=9&to_wall_s=8", "from_wall_s"),
                         ("from_wall_s=9&step_s=60", "step_s"), ("to_wall_s=nan", "to_wall_s"),
                         ("step_s=-1", "step_s")):  # fmt: skip
        said = desk.call("GET", f"{path}?{query}", token=admin)
        assert (said.status, said.error["field"]) == (422, field), query
    other = desk.user("otto", Grant("admin", "another-pool"))
    assert desk.call("GET", path, token=other).status == 403
    records_before = desk.run(manager.repository.read(records.list_audit))[1]
    assert desk.call("GET", path, token=admin).status == 200
    assert desk.run(manager.repository.read(records.list_audit))[1] == records_before
