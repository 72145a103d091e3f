"""What the manager knows, for Prometheus: /metrics, with the right to see everything.

What pools and hosts are in numbers is said in readiness/metrics.py, for agents too. A scrape costs
one walk over the pools; what takes longer is counted beside it (forecast.py), and missing until it
was.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Response
from prometheus_client.core import Metric

from outlast.errors import Refused
from outlast.manager.api.gate import Caller, needs
from outlast.manager.service import Manager
from outlast.readiness import metrics as shared

router = APIRouter()
FOLLOWED = {
    "outlast_pool_up": "1 while the pool answers, 0 while it is stale",
    "outlast_pool_seen_timestamp_seconds": "when the pool answered last; 0 = never",
}
OWN = {
    "outlast_manager_leads": "1 on the manager that does the background work",
    "outlast_manager_database_up": "1 while the database works",
    "outlast_manager_followers": "streams of changes that are open",
    "outlast_manager_tasks_open": "wishes on their way",
    "outlast_manager_start_timestamp_seconds": "when this manager began",
}
COUNTED = {
    "outlast_manager_answers_total": "answers of agents that were taken",
    "outlast_manager_changes_total": "changes told to those who follow",
}
PROCESS = shared.process_help("outlast_manager")
HELP = shared.HELP | FOLLOWED | OWN | COUNTED | PROCESS


@router.get("/metrics", include_in_schema=False)
async def metrics(caller: Annotated[Caller, needs("see")]) -> Response:
    if not caller.scope.everything:
        raise Refused("metrics show all pools: they need a role on everything")
    return Response(shared.text(_all(caller.manager)), media_type=shared.CONTENT)


def _all(manager: Manager) -> Iterable[Metric]:
    entries = manager.reads.pools()
    labels = {entry.id: (entry.id, entry.name) for entry in entries}
    followed = [
        (labels[entry.id], dict(zip(FOLLOWED, (float(not entry.stale), entry.seen_wall_s),
                                    strict=True)))
        for entry in entries
    ]  # fmt: skip
    yield from shared.gauges(FOLLOWED, shared.POOL_LABELS, followed)
    yield from shared.pools((labels[entry.id], entry.status) for entry in entries)
    found = manager.forecasts.all()
    yield from shared.forecasts((labels[one], found[one]) for one in labels if one in found)
    yield from shared.hosts(
        ((*labels[entry.id], host.name), host) for entry in entries for host in entry.status.hosts
    )
    yield from _own(manager)


def _own(manager: Manager) -> Iterable[Metric]:
    values = (
        float(manager.leader.leads), float(not manager.trouble), manager.reads.hub.readers,
        len(manager.acts.tasks(open_only=True)), manager.started_wall_s,
    )  # fmt: skip
    yield from shared.gauges(OWN, (), [((), dict(zip(OWN, values, strict=True)))])
    counts = (manager.reads.answers, manager.reads.hub.told)
    for (name, said), value in zip(COUNTED.items(), counts, strict=True):
        yield shared.counter(name, said, value)
    yield from shared.process("outlast_manager")
