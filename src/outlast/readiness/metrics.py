"""Pools and hosts as numbers for Prometheus: one meaning a name, whoever exports it.

Rules:
1. The manager exports these of all pools, an agent of its own host; the pool's master of the pool
   as well. Names are documented in docs/operating/metrics.md and never change their meaning.
2. What is not known is missing. It is never 0.
3. Base units, as Prometheus wants them: seconds and bytes.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from outlast.readiness.forecast import Forecast
from outlast.wire.margin import MarginInfo
from outlast.wire.shapes import HostStatus, PoolStatus
from outlast.wire.sizes import MIB

CONTENT = "text/plain; version=0.0.4; charset=utf-8"
POOL_LABELS, HOST_LABELS = ("pool_id", "pool"), ("pool_id", "pool", "host")
Labels = tuple[str, ...]
# name -> help; the document is held against these
POOL = {
    "outlast_pool_members": "hosts that are members now",
    "outlast_pool_hosts": "hosts that own a slot",
    "outlast_pool_ha_off": "1 while high availability is switched off for all VMs",
    "outlast_pool_heartbeat_age_seconds_max": "age of the oldest beat of a member",
    "outlast_pool_free_memory_bytes": "free memory of all members in service",
    "outlast_pool_busy_cores": "cores that members keep busy, smoothed",
    "outlast_pool_vms_unprotected": "running VMs that nobody would start again",
    "outlast_pool_spare_memory_bytes": "least free memory that one failure would leave; "
    "below 0 = too little",
    "outlast_pool_fence_seconds": "silence of the storage after which a host ends its VMs",
    "outlast_pool_heartbeat_margin_seconds": "least time that was left to that on any member, "
    "within a day",
}
FORECASTS = {
    "outlast_pool_hosts_unsafe": "hosts whose failure would leave a protected VM without a place",
    "outlast_pool_vms_homeless_max": "most VMs that one failure would leave without a place",
    "outlast_pool_failover_seconds_predicted": "from a power failure to the last start, at most",
}
VMS = {"outlast_pool_vms": "VMs by state"}
HOST = {
    "outlast_host_member": "1 while the host is a member",
    "outlast_host_maintenance": "1 while the host is in maintenance",
    "outlast_host_free_memory_bytes": "free memory of the host",
    "outlast_host_used_memory_bytes": "memory of the host in use, whoever uses it",
    "outlast_host_busy_cores": "cores that are busy on the host, smoothed",
    "outlast_host_vms": "VMs the host runs",
    "outlast_host_heartbeat_age_seconds": "age of the host's last beat on the storage",
    "outlast_host_heartbeat_margin_seconds": "least time that was left, within a day, "
    "until the host would have ended its VMs",
    "outlast_host_storage_delay_seconds": "how much longer than at best one beat in a hundred "
    "takes on the storage, within a day",
    "outlast_host_network_silence_seconds": "how old the newest network beat of another host "
    "was at most, 99 times in a hundred, when the next one came, within a day",
    "outlast_host_deadline_seconds": "until its guard ends all VMs there, as that host itself says",
    "outlast_host_lights": "things on the host that are not as they should be",
}
HELP = POOL | FORECASTS | VMS | HOST


def pools(known: Iterable[tuple[Labels, PoolStatus]]) -> Iterable[Metric]:
    """Labels: those of POOL_LABELS."""
    found = list(known)
    yield from gauges(POOL, POOL_LABELS, [(labels, of_pool(one)) for labels, one in found])
    vms = GaugeMetricFamily("outlast_pool_vms", VMS["outlast_pool_vms"],
                            labels=(*POOL_LABELS, "state"))  # fmt: skip
    for labels, status in found:
        for state, count in sorted(Counter(vm.state for vm in status.vms).items()):
            vms.add_metric((*labels, state), count)
    yield vms


def forecasts(known: Iterable[tuple[Labels, Forecast]]) -> Iterable[Metric]:
    """Labels: those of POOL_LABELS."""
    values = [(labels, dict(zip(FORECASTS, astuple(one), strict=True))) for labels, one in known]
    return gauges(FORECASTS, POOL_LABELS, values)


def hosts(known: Iterable[tuple[Labels, HostStatus]]) -> Iterable[Metric]:
    """Labels: those of HOST_LABELS."""
    found = list(known)
    plain = {name: said for name, said in HOST.items() if name != "outlast_host_lights"}
    yield from gauges(plain, HOST_LABELS, [(labels, of_host(one)) for labels, one in found])
    lights = GaugeMetricFamily("outlast_host_lights", HOST["outlast_host_lights"],
                               labels=(*HOST_LABELS, "colour"))  # fmt: skip
    for labels, host in found:
        for colour in ("yellow", "red"):
            count = sum(light.colour == colour for light in host.lights)
            lights.add_metric((*labels, colour), count)
    yield lights


def gauges(
    names: Mapping[str, str], labels: Labels,
    known: Iterable[tuple[Labels, Mapping[str, float | None]]],
) -> Iterable[Metric]:  # fmt: skip
    made = {name: GaugeMetricFamily(name, said, labels=labels) for name, said in names.items()}
    for of, values in known:
        for name, value in values.items():
            if value is not None:
                made[name].add_metric(of, value)
    return made.values()


def counter(name: str, said: str, value: float) -> Metric:
    """name: with its _total."""
    made = CounterMetricFamily(name.removesuffix("_total"), said)
    made.add_metric((), value)
    return made


def process(prefix: str) -> Iterable[Metric]:
    """What this process uses; see process_help."""
    cpu, memory = process_help(prefix).items()
    yield counter(*cpu, time.process_time())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield from gauges(dict([memory]), (), [((), {memory[0]: most})])


def process_help(prefix: str) -> dict[str, str]:
    return {
        f"{prefix}_cpu_seconds_total": "CPU time of this process",
        f"{prefix}_memory_bytes_max": "most memory this process ever had",
    }


def text(found: Iterable[Metric]) -> bytes:
    """As Prometheus reads it; CONTENT is its type."""
    registry = CollectorRegistry()
    registry.register(_Collected(list(found)))
    return generate_latest(registry)


class _Collected:
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def of_pool(status: PoolStatus) -> dict[str, float | None]:
    """By the names of POOL; None = not known."""
    members = [host for host in status.hosts if host.state == "member"]
    ages = [host.beat_age_ms for host in members if host.beat_age_ms is not None]
    serving = [host for host in members if not host.maintenance and not host.no_vms]
    off = status.ha_off is not None
    bare = sum(vm.state == "running" and (off or not vm.ha or vm.ha_off is not None)
               for vm in status.vms)  # fmt: skip
    busy = [host.busy_cores for host in members if host.busy_cores is not None]
    margins = [_margin_s(one) for one in (status.margin, *(host.margin for host in members))]
    fences = [one.fence_ms / 1000 for one in (status.margin,) if one and one.fence_ms]
    return {
        "outlast_pool_members": len(members),
        "outlast_pool_hosts": len(status.hosts),
        "outlast_pool_ha_off": float(off),
        "outlast_pool_heartbeat_age_seconds_max": _seconds(max(ages, default=None)),
        "outlast_pool_free_memory_bytes": sum((h.free_mib or 0) * MIB for h in serving),
        "outlast_pool_busy_cores": sum(busy) if busy else None,
        "outlast_pool_vms_unprotected": bare,
        "outlast_pool_spare_memory_bytes": _bytes(_spare_mib(status, serving)),
        "outlast_pool_fence_seconds": min(fences, default=None),
        "outlast_pool_heartbeat_margin_seconds": min(
            (one for one in margins if one is not None), default=None
        ),
    }


def of_host(host: HostStatus) -> dict[str, float | None]:
    """By the names of HOST, but those with more labels."""
    return {
        "outlast_host_member": float(host.state == "member"),
        "outlast_host_maintenance": float(bool(host.maintenance)),
        "outlast_host_free_memory_bytes": _bytes(host.free_mib),
        "outlast_host_used_memory_bytes": _bytes(host.used_mib),
        "outlast_host_busy_cores": host.busy_cores,
        "outlast_host_vms": host.vm_count,
        "outlast_host_heartbeat_age_seconds": _seconds(host.beat_age_ms),
        "outlast_host_heartbeat_margin_seconds": _margin_s(host.margin),
        "outlast_host_storage_delay_seconds": _delay_s(host.margin),
        "outlast_host_network_silence_seconds": _silence_s(host.margin),
        "outlast_host_deadline_seconds": _seconds(host.deadline_ms),
    }


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _bytes(mib: int | None) -> float | None:
    return None if mib is None else mib * MIB


def _margin_s(margin: MarginInfo | None) -> float | None:
    """None: nothing is known of the beats."""
    if margin is None or not margin.beats:
        return None
    return (margin.fence_ms - margin.longest_ms) / 1000


def _delay_s(margin: MarginInfo | None) -> float | None:
    if margin is None or not margin.beats or not margin.beat_ms:
        return None
    return max(0.0, margin.p99_ms - margin.beat_ms) / 1000


def _spare_mib(status: PoolStatus, serving: list[HostStatus]) -> int | None:
    """Free memory of the others less what a host's protected VMs need, for the worst host."""
    free = {host.name: host.free_mib or 0 for host in serving}
    needs = Counter[str]()
    for vm in status.vms:
        if vm.ha and vm.state == "running":
            needs[vm.host] += vm.memory_mib
    return min((sum(free.values()) - free[host] - needs[host] for host in free), default=None)


def _silence_s(margin: MarginInfo | None) -> float | None:
    return margin.unheard_p99_ms / 1000 if margin and margin.unheard_p99_ms else None
