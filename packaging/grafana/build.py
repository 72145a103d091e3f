"""Writes the Grafana dashboard outlast.json beside it, on stdout.

A panel is a line of the tables below; a test holds the file against them, and every name in it
against what the manager exports.
"""

from __future__ import annotations

import json
from typing import Any

WIDTH, HEIGHT = 8, 7  # of a panel; a row of Grafana is 24 wide
Panel = tuple[str, str, str, str, str]  # title, query, legend, unit, what it is good for

NOW: list[Panel] = [
    ("Pools that answer", "sum(outlast_pool_up)", "", "short", ""),
    ("Hosts that may not fail", "sum(outlast_pool_hosts_unsafe)", "", "short",
     "Hosts whose failure would leave a protected VM without a place. 0 is what you want."),
    ("Unprotected VMs", "sum(outlast_pool_vms_unprotected)", "", "short",
     "Running VMs that nobody would start again."),
]  # fmt: skip
POOLS: list[Panel] = [
    ("Members", "outlast_pool_members", "{{pool}}", "short", "Hosts that are members now."),
    ("Heartbeat margin", "outlast_pool_heartbeat_margin_seconds", "{{pool}}", "s",
     "Least time that was left, within a day, until a host would have ended its VMs."),
    ("Oldest beat", "outlast_pool_heartbeat_age_seconds_max", "{{pool}}", "s", ""),
    ("Predicted failover", "outlast_pool_failover_seconds_predicted", "{{pool}}", "s",
     "From a power failure to the last VM's start, at the latest."),
    ("Spare memory", "outlast_pool_spare_memory_bytes", "{{pool}}", "bytes",
     "Least free memory that one failure would leave; below 0 there is too little."),
    ("VMs without a place", "outlast_pool_vms_homeless_max", "{{pool}}", "short",
     "The most that one failure would leave so."),
    ("VMs by state", "sum by (pool, state) (outlast_pool_vms)", "{{pool}} {{state}}", "short", ""),
    ("Free memory", "outlast_pool_free_memory_bytes", "{{pool}}", "bytes", ""),
    ("Busy cores", "outlast_pool_busy_cores", "{{pool}}", "short", "Of all members, smoothed."),
    ("HA is off", "outlast_pool_ha_off", "{{pool}}", "short", "1 while it is off for all VMs."),
]  # fmt: skip
HOSTS: list[Panel] = [
    ("Member", "outlast_host_member", "{{pool}} {{host}}", "short", ""),
    ("VMs", "outlast_host_vms", "{{pool}} {{host}}", "short", ""),
    ("Free memory", "outlast_host_free_memory_bytes", "{{pool}} {{host}}", "bytes", ""),
    ("Memory in use", "outlast_host_used_memory_bytes", "{{pool}} {{host}}", "bytes",
     "Whoever uses it, VMs or not."),
    ("Busy cores", "outlast_host_busy_cores", "{{pool}} {{host}}", "short", ""),
    ("Heartbeat margin", "outlast_host_heartbeat_margin_seconds", "{{pool}} {{host}}", "s",
     "Least time that was left, within a day, until it would have ended its VMs."),
    ("Storage delay", "outlast_host_storage_delay_seconds", "{{pool}} {{host}}", "s",
     "How much longer than at best one beat in a hundred takes."),
    ("Not as it should be", "outlast_host_lights", "{{pool}} {{host}}", "short",
     "How many things; the host's page says which."),
    ("In maintenance", "outlast_host_maintenance", "{{pool}} {{host}}", "short", ""),
]  # fmt: skip
MANAGERS: list[Panel] = [
    ("Leads", "outlast_manager_leads", "{{instance}}", "short", ""),
    ("Database works", "outlast_manager_database_up", "{{instance}}", "short", ""),
    ("CPU", "rate(outlast_manager_cpu_seconds_total[5m])", "{{instance}}", "percentunit", ""),
    ("Memory, most ever", "outlast_manager_memory_bytes_max", "{{instance}}", "bytes", ""),
    ("Open streams", "outlast_manager_followers", "{{instance}}", "short", ""),
    ("Wishes on their way", "outlast_manager_tasks_open", "{{instance}}", "short", ""),
]
ROWS = {"Now": ("stat", NOW), "Pools": ("timeseries", POOLS), "Hosts": ("timeseries", HOSTS),
        "Managers": ("timeseries", MANAGERS)}  # fmt: skip
SOURCE = {"type": "prometheus", "uid": "${source}"}


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for row, (kind, wanted) in ROWS.items():
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": row, "panels": [],
             "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}
        )  # fmt: skip
        y += 1
        for n, one in enumerate(wanted):
            at = {"x": n % 3 * WIDTH, "y": y + n // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(panel(len(panels) + 1, kind, one, at))
        y += -(-len(wanted) // 3) * HEIGHT
    pool = {
        "name": "pool", "type": "query", "datasource": SOURCE, "includeAll": True, "multi": True,
        "query": "label_values(outlast_pool_up, pool)", "refresh": 2, "current": {},
    }  # fmt: skip
    source = {"name": "source", "type": "datasource", "query": "prometheus", "current": {}}
    return {
        "title": "Outlast", "uid": "outlast", "schemaVersion": 39, "editable": True,
        "tags": ["outlast"], "time": {"from": "now-6h", "to": "now"}, "refresh": "30s",
        "templating": {"list": [source, pool]}, "panels": panels,
    }  # fmt: skip


def panel(number: int, kind: str, one: Panel, at: dict[str, int]) -> dict[str, Any]:
    title, query, legend, unit, good_for = one
    target = {"refId": "A", "datasource": SOURCE, "expr": chosen(query), "legendFormat": legend}
    return {
        "id": number, "type": kind, "title": title, "description": good_for, "gridPos": at,
        "datasource": SOURCE, "targets": [target],
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
    }  # fmt: skip


def chosen(query: str) -> str:
    """Of the pools that are chosen at the top."""
    words = query.replace("(", " ").replace(")", " ").replace("[", " ").split()
    name = next(word for word in words if word.startswith("outlast_"))
    if name.startswith("outlast_manager_"):
        return query
    return query.replace(name, name + '{pool=~"$pool"}')


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
