"""What has happened in a pretend pool: the failure of a host, some time ago."""

from __future__ import annotations

import math
import time

from fleet import PretendPool
from moments import evidence

from outlast.manager.repository.rollups import Row
from outlast.manager.rollup import HOSTS, LEVELS, Sheet, begin_s, note, packed, part_of

GIB = 1 << 30


def failure(pool: PretendPool, ago_s: float = 1500) -> None:
    """Host 06 died some time ago; its VMs run elsewhere, one waits. And 02 does not hear 07."""
    names = list(pool.hosts)
    dead, deaf, unheard, master = names[5], names[1], names[6], names[2]
    pool.note("host-silent", master, f"{dead} is silent: its block is unchanged for 15.2 s, "
              "limit 15 s", ago_s, evidence(master, names, dead, 15.2), host=dead, still_s=15.2,
              limit_s=15)  # fmt: skip
    left = [n for n in names if n != dead]
    pool.note("view-changed", master, f"view 12 is {', '.join(left)}, master {master}: "
              f"{dead} is dead", ago_s - 0.4, view=12)  # fmt: skip
    mine = [v for v in pool.vms.values() if v.host == dead]
    for n, vm in enumerate(mine):
        to = left[n % len(left)]
        waits = n == len(mine) - 1
        if waits:
            pool._put(vm, host="", state="waiting", sentence=f"{vm.name} waits with its start: "
                      f"no host that it may run on has {vm.memory_mib} MiB free")  # fmt: skip
            pool.note("no-room", master, f"{vm.name} stays down: no host has room", ago_s - 1,
                      vm=vm.name, why="no host has room")  # fmt: skip
            continue
        if n < 12:
            pool.note("vm-starts", to, f"{vm.name} is being started on {to}: {dead} is dead",
                      ago_s - 1 - n * 0.2, vm=vm.name, host=to)  # fmt: skip
            pool.note("vm-runs", to, f"{vm.name} runs on {to}", ago_s - 3 - n * 0.3, vm=vm.name,
                      host=to)  # fmt: skip
        pool._put(vm, host=to, sentence=f"{vm.name} runs on {to} since {dead} died",
                  since_wall_s=time.time() - ago_s + 3)  # fmt: skip
    said = f"{dead} is silent for {ago_s / 60:.0f} min; its VMs run elsewhere"
    age_ms = int(ago_s * 1000)
    pool.change_host(dead, state="silent", beat_age_ms=age_ms, hears=[], unheard=[], sentence=said)
    for name in left:
        host = pool.hosts[name]
        hears = [h for h in host.hears if h != dead and (name, h) != (deaf, unheard)]
        missing = [unheard] if name == deaf else []
        pool.change_host(name, hears=hears, unheard=missing)
    pool.note("link-down", deaf, f"{deaf} and {unheard} do not hear each other", 40,
              evidence(deaf, left, deaf=(deaf, unheard)), host=deaf, other=unheard)  # fmt: skip


def lately(pool: PretendPool, vm: str) -> list[Row]:
    """Numbers of the last hour, day, week, month and year; of VMs one has some."""
    now_s, rows = time.time(), []
    spans = (3600, 86400, 7 * 86400, 31 * 86400, 366 * 86400)
    for level, span_s in zip(LEVELS, spans, strict=True):
        for at_s in range(begin_s(now_s - span_s, level.step_s), int(now_s), level.step_s):
            hosts: Sheet = {}
            for k in range(3):
                day = math.sin(at_s / 86400 * math.tau) + k - 1
                for host in pool.hosts.values():
                    note(hosts, host.name, _of_host(host.slot, day, silent=host.state == "silent"))
                note(hosts, "", {
                    "outlast_pool_busy_cores": 90 + 40 * day, "outlast_pool_members": 7,
                    "outlast_pool_free_memory_bytes": (9000 - 300 * day) * GIB,
                    "outlast_pool_spare_memory_bytes": (7000 - 300 * day) * GIB,
                    "outlast_pool_heartbeat_margin_seconds": 38 - k,
                    "outlast_pool_vms_unprotected": 20,
                })  # fmt: skip
            rows.append(Row(level.step_s, pool.id, HOSTS, at_s, packed(hosts)))
            if level.vms_days:
                mine: Sheet = {}
                note(mine, vm, {"outlast_vm_busy_cores": 1.2 + math.sin(at_s / 9000)})
                rows.append(Row(level.step_s, pool.id, part_of(vm), at_s, packed(mine)))
    return rows


def _of_host(slot: int, day: float, *, silent: bool) -> dict[str, float | None]:
    if silent:
        return {"outlast_host_vms": 0}
    return {
        "outlast_host_busy_cores": 12 + slot + 5 * day,
        "outlast_host_vms": 50,
        "outlast_host_used_memory_bytes": (700 + 20 * slot + 60 * day) * GIB,
        "outlast_host_heartbeat_age_seconds": 0.6 + 0.2 * day,
        "outlast_host_heartbeat_margin_seconds": 38.5 - day,
        "outlast_host_storage_delay_seconds": 0.08 + 0.03 * day,
    }
