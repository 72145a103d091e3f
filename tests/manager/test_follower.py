"""A pool followed through real agents' servers over mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from pretend import RealPool, host, pool, until

from outlast.manager.fleet import Fleet
from outlast.manager.follower import Follower, PoolLink, doubt_of
from outlast.manager.hub import Hub
from outlast.wire import seal
from outlast.wire.client import AgentClient
from outlast.wire.shapes import VmCreate, make


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealPool]:
    made = RealPool(tmp_path)
    yield made
    made.close()


def follow(link: PoolLink, test: Callable[[Fleet, Follower], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        fleet = Fleet(Hub(window_s=0), stale_s=0.3)
        fleet.add(link.pool_id, link.name)
        follower = Follower(link, fleet, asyncio.get_running_loop(), period_s=0.05)
        follower.start()
        try:
            await test(fleet, follower)
        finally:
            follower.stop()

    asyncio.run(main())


def test_a_change_in_the_pool_is_seen(real: RealPool) -> None:
    async def check(fleet: Fleet, follower: Follower) -> None:
        await until(lambda: not fleet.pool(real.id).stale)
        assert fleet.pool(real.id).name == "lab"
        client = follower.client(real.url("a"))
        wish = make(VmCreate, name="web", memory="512MiB", disks=[{"size": "1M"}])
        await asyncio.to_thread(client.create, wish)
        await asyncio.to_thread(client.start, "web")
        await until(lambda: [v.state for v in fleet.pool(real.id).status.vms] == ["running"])

    follow(real.link("a"), check)


def test_agents_that_go_away_are_left_for_others_and_the_pool_is_stale_without_any(
    real: RealPool,
) -> None:
    async def check(fleet: Fleet, _: Follower) -> None:
        await until(lambda: not fleet.pool(real.id).stale)
        assert fleet.pool(real.id).status.answered_by == "a"
        real.stop("a")  # b's address is known from the pool itself
        await until(lambda: fleet.pool(real.id).status.answered_by == "b")
        assert not fleet.pool(real.id).stale
        real.stop("b")

        def stale() -> bool:
            fleet.age()
            return fleet.pool(real.id).stale

        await until(stale)
        entry = fleet.pool(real.id)
        assert "no agent answers" in entry.trouble or "broke" in entry.trouble
        assert entry.seen_wall_s > 0
        assert entry.status.answered_by == "b"
        real.start("a")
        await until(lambda: not fleet.pool(real.id).stale)
        assert fleet.pool(real.id).trouble == ""

    follow(real.link("a"), check)


def test_only_what_has_changed_is_asked_for_over_one_connection(
    real: RealPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an agent that was away for a moment is asked anew, for the whole."""
    asked: list[tuple[int, str]] = []
    exchange = AgentClient._exchange

    def watched(
        client: AgentClient, connection: Any, method: str, path: str, body: bytes, length: int
    ) -> bytes:
        if path.startswith("/v1/status"):
            asked.append((id(connection), path.partition("since=")[2]))
        return exchange(client, connection, method, path, body, length)

    monkeypatch.setattr(AgentClient, "_exchange", watched)

    async def check(fleet: Fleet, follower: Follower) -> None:
        wish = make(VmCreate, name="web", memory="512MiB")
        await asyncio.to_thread(follower.client(real.url("a")).create, wish)
        await until(lambda: len(asked) > 4)
        assert len({connection for connection, _ in asked[:5]}) == 1
        assert asked[0][1] == "" and all(mark for _, mark in asked[1:5])
        assert [v.name for v in fleet.pool(real.id).status.vms] == ["web"]
        real.stop("a")
        real.start("a")
        count = len(asked)
        await until(lambda: "" in [mark for _, mark in asked[count:]] or len(asked) > count + 4)
        await until(lambda: fleet.pool(real.id).trouble == "")
        assert [v.name for v in fleet.pool(real.id).status.vms] == ["web"]

    follow(real.link("a"), check)


def test_an_agent_without_its_pool_is_not_taken_for_the_pool(real: RealPool) -> None:
    async def check(fleet: Fleet, _: Follower) -> None:
        await until(lambda: not fleet.pool(real.id).stale)
        real.a.trouble = "the storage does not answer"
        await until(lambda: fleet.pool(real.id).status.answered_by == "b")
        assert not fleet.pool(real.id).stale
        real.b.trouble = "the storage does not answer"
        await until(lambda: fleet.pool(real.id).stale)
        assert "does not see its pool" in fleet.pool(real.id).trouble

    follow(real.link("a", "b"), check)


def test_another_pool_is_not_listened_to(real: RealPool) -> None:
    link = PoolLink("another-id", "other", (real.url("a"),), real.pki)

    async def check(fleet: Fleet, _: Follower) -> None:
        await until(lambda: "another pool" in fleet.pool("another-id").trouble)
        assert fleet.pool("another-id").stale

    follow(link, check)


def test_a_certificate_of_another_pool_does_not_get_in(real: RealPool, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    seal.create_authority(other)
    key, cert = seal.issue_host(other, "manager", "u", [], "manager")
    seal.install(tmp_path / "pki", other, key, cert)
    link = PoolLink(real.id, "lab", (real.url("a"),), tmp_path / "pki")

    async def check(fleet: Fleet, _: Follower) -> None:
        await until(lambda: "no certificate of this pool" in fleet.pool(real.id).trouble)

    follow(link, check)


def test_what_is_doubted() -> None:
    assert doubt_of(pool()) == ""
    assert "nothing new for 20 s" in doubt_of(pool(age_ms=20_000))
    closed = [host("a", answering=True, state="closed"), host("b", 2)]
    assert "no member" in doubt_of(pool(hosts=closed))
