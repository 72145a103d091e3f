"""Change notices: order, coalescing, resuming, resets, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from outlast.manager.hub import SKEW_US, Batch, Hub
from outlast.manager.ports import Change


async def take(hub: Hub, after: int | None, count: int) -> list[Change]:
    found = []
    async for change in hub.changes(after):
        found.append(change)
        if len(found) == count:
            break
    return found


def test_changes_arrive_once_each_in_order_with_growing_ids() -> None:
    async def main() -> None:
        hub = Hub(window_s=0)
        reader = asyncio.create_task(take(hub, None, 3))
        await asyncio.sleep(0)
        for name in ("x", "y", "x"):
            hub.publish("vm", "p", name)
            await asyncio.sleep(0.01)
        found = await asyncio.wait_for(reader, 5)
        assert [c.name for c in found] == ["x", "y", "x"]
        assert found[0].id < found[1].id < found[2].id

    asyncio.run(main())


def test_many_changes_of_one_thing_within_a_window_are_one_notice() -> None:
    async def main() -> None:
        hub = Hub(window_s=0.05)
        hub.publish("vm", "p", "first")  # at once
        await asyncio.sleep(0.01)
        for _ in range(1000):
            hub.publish("vm", "p", "web")
        hub.publish("vm", "p", "db")
        found = await asyncio.wait_for(take(hub, hub._first_us, 3), 5)
        assert [c.name for c in found] == ["first", "web", "db"]
        assert hub.told == 3

    asyncio.run(main())


def test_a_reader_resumes_where_it_was() -> None:
    async def main() -> None:
        hub = Hub(window_s=0)
        for n in range(5):
            hub.publish("vm", "p", str(n))
            await asyncio.sleep(0.01)
        all_ = await take(hub, hub._first_us, 5)
        assert [c.name for c in await take(hub, all_[1].id, 3)] == ["2", "3", "4"]

    asyncio.run(main())


def test_what_is_not_kept_any_more_is_a_reset() -> None:
    async def main() -> None:
        hub = Hub(window_s=0, kept=3)
        start = hub._first_us
        for n in range(9):
            hub.publish("vm", "p", str(n))
            await asyncio.sleep(0.005)
        assert [c.kind for c in await take(hub, start, 1)] == ["reset"]

    asyncio.run(main())


def test_a_slow_reader_gets_one_reset_and_then_the_newest() -> None:
    async def main() -> None:
        hub = Hub(window_s=0, kept=3)
        reader = hub.changes()
        first = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        hub.publish("vm", "p", "seen")
        assert (await first).name == "seen"
        for n in range(9):
            hub.publish("vm", "p", str(n))
            await asyncio.sleep(0.005)
        assert (await anext(reader)).kind == "reset"
        later = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        hub.publish("vm", "p", "later")
        assert (await later).name == "later"

    asyncio.run(main())


def test_an_id_of_another_manager_brings_rather_more_than_less() -> None:
    async def main() -> None:
        now_s = 1_000_000.0
        hub = Hub(window_s=0, clock=lambda: now_s)
        for n in range(20):
            now_s += 1
            hub.publish("vm", "p", str(n))
            await asyncio.sleep(0.001)
        foreign = int((now_s - 2) * 1e6) + 7
        names = [c.name for c in await take(hub, foreign, 12)]
        assert names == [str(n) for n in range(8, 20)]
        # one whose clock is ahead misses nothing either
        ahead = int((now_s + 3) * 1e6)
        assert (await take(hub, ahead, 1))[0].id > ahead - SKEW_US
        # a manager that has just begun knows nothing of what was before
        fresh = Hub(window_s=0, clock=lambda: now_s)
        assert [c.kind for c in await take(fresh, foreign, 1)] == ["reset"]

    asyncio.run(main())


def test_all_readers_end_when_the_hub_closes() -> None:
    async def main() -> None:
        hub = Hub()

        async def read(source: AsyncIterator[Batch]) -> int:
            return len([b async for b in source])

        readers = [asyncio.create_task(read(hub.batches())) for _ in range(50)]
        await asyncio.sleep(0)
        assert hub.readers == 50
        hub.close()
        assert await asyncio.wait_for(asyncio.gather(*readers), 5) == [0] * 50
        assert hub.readers == 0

    asyncio.run(main())
