"""The part of the agent's API that Prometheus reads: /metrics.

Rules:
1. Each agent speaks of its own host. Of the pool speaks the agent of the master alone, so that a
   pool is there once, however many of its hosts are asked.
2. What a failure would do is counted in a thread, only while somebody asks, and missing until it
   was: no question waits for it. What is too old is missing again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from prometheus_client.core import Metric

from outlast.agent.api import Api
from outlast.errors import OutlastError
from outlast.readiness import metrics as shared
from outlast.readiness.forecast import EVERY_S, HISTORY_S, NOTES_MAX, REST, Forecast, forecast
from outlast.wire.shapes import PoolStatus

PATH = "/metrics"
OLD_S = 5 * EVERY_S
REFUSED = "outlast_agent_refused_calls_total"
OWN = {REFUSED: "calls to this agent that were refused"}
HELP = shared.HELP | OWN | shared.process_help("outlast_agent")


class MetricsApi:
    """seen: the pool as this host sees it; True: with what other hosts say of their VMs."""

    def __init__(
        self, api: Api, seen: Callable[[bool], Awaitable[PoolStatus]],
        blocking: Callable[[Callable[[], Forecast]], Awaitable[Forecast]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._api, self._seen, self._blocking, self._clock = api, seen, blocking, clock
        self._found: tuple[float, Forecast] | None = None
        self._again_s = 0.0
        self._counting: asyncio.Task[None] | None = None

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self._metrics)]

    async def _metrics(self, _: web.Request) -> web.Response:
        status = await self._seen(False)
        found = [*_own(status)]
        if status.master == status.answered_by:
            found += self._of_pool(await self._seen(True))
        return web.Response(body=shared.text(found), headers={"Content-Type": shared.CONTENT})

    def _of_pool(self, status: PoolStatus) -> Iterable[Metric]:
        labels = (status.uuid, status.name)
        yield from shared.pools([(labels, status)])
        now_s = self._clock()
        if self._counting is None and now_s >= self._again_s:
            self._counting = asyncio.create_task(self._count(status))
        fresh = self._found is not None and now_s - self._found[0] < OLD_S
        yield from shared.forecasts([(labels, self._found[1])] if self._found and fresh else [])

    async def _count(self, status: PoolStatus) -> None:
        began_s = self._clock()

        def work() -> Forecast:
            notes = self._api.timeline(time.time() - HISTORY_S, NOTES_MAX)
            return forecast(status, self._api.picture(), notes)

        with contextlib.suppress(OutlastError):  # the storage is away: later
            self._found = (began_s, await self._blocking(work))
        self._again_s = began_s + max(EVERY_S, REST * (self._clock() - began_s))
        self._counting = None


def _own(status: PoolStatus) -> Iterable[Metric]:
    """Of this host and its agent."""
    labels = (status.uuid, status.name, status.answered_by)
    # its own beats it knows up to now; what it told others of them may be ten minutes old
    me = [
        (labels, host.model_copy(update={"margin": status.margin}))
        for host in status.hosts if host.answering
    ]  # fmt: skip
    yield from shared.hosts(me)
    yield shared.counter(REFUSED, OWN[REFUSED], status.refused_calls)
    yield from shared.process("outlast_agent")
