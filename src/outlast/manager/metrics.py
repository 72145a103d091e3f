"""What the manager knows, for Prometheus: /metrics, with the right to see everything.

Names are documented in docs/operating/manager.md and never change their meaning. A scrape costs one
walk over the pools; what takes longer is counted beside it (forecast.py), and missing until it was.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple
from typing import Annotated, Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from outlast.errors import Refused
from outlast.manager.api.gate import Caller, needs
from outlast.manager.forecast import Forecast
from outlast.manager.ports import PoolEntry
from outlast.manager.service import Manager
from outlast.wire.margin import MarginInfo
from outlast.wire.shapes import HostStatus, PoolStatus
from outlast.wire.sizes import MIB

router = APIRouter()
CONTENT = "text/plain; version=0.0.4; charset=utf-8"
# name -> help; the document is held against this
POOL_GAUGES = {
    "outlast_pool_up": "1 while the pool answers, 0 while it is stale",
    "outlast_pool_seen_timestamp_seconds": "when the pool answered last; 0 = never",
    "outlast_pool_members": "hosts that are members now",
    "outlast_pool_hosts": "hosts that own a slot",
    "outlast_pool_ha_off": "1 while high availability is switched off for all VMs",
    "outlast_pool_heartbeat_age_seconds_max": "age of the oldest beat of a member",
    "outlast_pool_free_memory_bytes": "free memory of all members in service",
    "outlast_pool_vms_unprotected": "running VMs that nobody would start again",
    "outlast_pool_spare_memory_bytes": "least free memory that one failure would leave; "
    "below 0 = too little",
    "outlast_pool_fence_seconds": "silence of the storage after which a host ends its VMs",
    "outlast_pool_heartbeat_margin_seconds": "least time that was left to that, within a day",
}
FORECASTS = {
    "outlast_pool_hosts_unsafe": "hosts whose failure would leave a protected VM without a place",
    "outlast_pool_vms_homeless_max": "most VMs that one failure would leave without a place",
    "outlast_pool_failover_seconds_predicted": "from a power failure to the last start, at most",
}
HELP = (
    POOL_GAUGES
    | FORECASTS
    | {
        "outlast_pool_vms": "VMs by state",
        "outlast_host_member": "1 while the host is a member",
        "outlast_host_maintenance": "1 while the host is in maintenance",
        "outlast_host_free_memory_bytes": "free memory of the host",
        "outlast_host_vms": "VMs the host runs",
        "outlast_manager_leads": "1 on the manager that does the background work",
        "outlast_manager_database_up": "1 while the database works",
        "outlast_manager_answers_total": "answers of agents that were taken",
        "outlast_manager_changes_total": "changes told to those who follow",
        "outlast_manager_followers": "streams of changes that are open",
        "outlast_manager_tasks_open": "wishes on their way",
        "outlast_manager_cpu_seconds_total": "CPU time of this process",
        "outlast_manager_memory_bytes_max": "most memory this process ever had",
        "outlast_manager_start_timestamp_seconds": "when this manager began",
    }
)


@router.get("/metrics", include_in_schema=False)
async def metrics(caller: Annotated[Caller, needs("see")]) -> Response:
    if not caller.scope.everything:
        raise Refused("metrics show all pools: they need a role on everything")
    registry = CollectorRegistry()
    registry.register(_Collector(caller.manager))
    return Response(generate_latest(registry), media_type=CONTENT)


class _Collector:
    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def collect(self) -> Iterable[Metric]:
        entries = self._manager.reads.pools()
        yield from _pools(entries)
        yield from _forecasts(entries, self._manager.forecasts.all())
        yield from _hosts(entries)
        yield from _own(self._manager)


def _gauge(name: str, labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, HELP[name], labels=labels)


def _pools(entries: list[PoolEntry]) -> Iterable[Metric]:
    gauges = {name: _gauge(name, ("pool_id", "pool")) for name in POOL_GAUGES}
    vms = _gauge("outlast_pool_vms", ("pool_id", "pool", "state"))
    for entry in entries:
        labels = (entry.id, entry.name)
        for name, value in _of_pool(entry).items():
            if value is not None:
                gauges[name].add_metric(labels, value)
        for state, count in sorted(Counter(vm.state for vm in entry.status.vms).items()):
            vms.add_metric((*labels, state), count)
    yield from gauges.values()
    yield vms


def _forecasts(entries: list[PoolEntry], found: dict[str, Forecast]) -> Iterable[Metric]:
    gauges = {name: _gauge(name, ("pool_id", "pool")) for name in FORECASTS}
    for entry in entries:
        if (one := found.get(entry.id)) is not None:
            for name, value in zip(FORECASTS, astuple(one), strict=True):
                gauges[name].add_metric((entry.id, entry.name), value)
    yield from gauges.values()


def _of_pool(entry: PoolEntry) -> dict[str, float | None]:
    """None: not known."""
    status = entry.status
    members = [host for host in status.hosts if host.state == "member"]
    ages = [host.beat_age_ms for host in members if host.beat_age_ms is not None]
    serving = [host for host in members if not host.maintenance and not host.no_vms]
    off = status.ha_off is not None
    bare = sum(vm.state == "running" and (off or not vm.ha or vm.ha_off is not None)
               for vm in status.vms)  # fmt: skip
    margin = status.margin or MarginInfo()
    fence_ms, longest_ms = margin.fence_ms if margin.beats else None, margin.longest_ms
    return {
        "outlast_pool_up": float(not entry.stale),
        "outlast_pool_seen_timestamp_seconds": entry.seen_wall_s,
        "outlast_pool_members": len(members),
        "outlast_pool_hosts": len(status.hosts),
        "outlast_pool_ha_off": float(off),
        "outlast_pool_heartbeat_age_seconds_max": max(ages, default=0) / 1000,
        "outlast_pool_free_memory_bytes": sum((h.free_mib or 0) * MIB for h in serving),
        "outlast_pool_vms_unprotected": bare,
        "outlast_pool_spare_memory_bytes": _spare_mib(status, serving) * MIB,
        "outlast_pool_fence_seconds": fence_ms and fence_ms / 1000,
        "outlast_pool_heartbeat_margin_seconds": fence_ms and (fence_ms - longest_ms) / 1000,
    }


def _spare_mib(status: PoolStatus, serving: list[HostStatus]) -> int:
    """Free memory of the others less what a host's protected VMs need, for the worst host."""
    free = {host.name: host.free_mib or 0 for host in serving}
    needs = Counter[str]()
    for vm in status.vms:
        if vm.ha and vm.state == "running":
            needs[vm.host] += vm.memory_mib
    return min((sum(free.values()) - free[host] - needs[host] for host in free), default=0)


def _hosts(entries: list[PoolEntry]) -> Iterable[Metric]:
    names = ("member", "maintenance", "free_memory_bytes", "vms")
    gauges = {n: _gauge(f"outlast_host_{n}", ("pool_id", "pool", "host")) for n in names}
    for entry in entries:
        for host in entry.status.hosts:
            labels = (entry.id, entry.name, host.name)
            gauges["member"].add_metric(labels, float(host.state == "member"))
            gauges["maintenance"].add_metric(labels, float(bool(host.maintenance)))
            if host.free_mib is not None:
                gauges["free_memory_bytes"].add_metric(labels, host.free_mib * MIB)
            if host.vm_count is not None:
                gauges["vms"].add_metric(labels, host.vm_count)
    yield from gauges.values()


def _own(manager: Manager) -> Iterable[Metric]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    values: dict[str, Any] = {
        "outlast_manager_leads": float(manager.leader.leads),
        "outlast_manager_database_up": float(not manager.trouble),
        "outlast_manager_answers_total": manager.reads.answers,
        "outlast_manager_changes_total": manager.reads.hub.told,
        "outlast_manager_followers": manager.reads.hub.readers,
        "outlast_manager_tasks_open": len(manager.acts.tasks(open_only=True)),
        "outlast_manager_cpu_seconds_total": time.process_time(),
        "outlast_manager_memory_bytes_max": used.ru_maxrss * 1024,
        "outlast_manager_start_timestamp_seconds": manager.started_wall_s,
    }
    for name, value in values.items():
        if name.endswith("_total"):
            counter = CounterMetricFamily(name.removesuffix("_total"), HELP[name])
            counter.add_metric((), value)
            yield counter
        else:
            gauge = _gauge(name)
            gauge.add_metric((), value)
            yield gauge
