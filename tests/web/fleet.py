"""A pretend fleet: pools that live in memory and answer as agents do, for the console's tests.

A pool carries wishes out over time when `step` is called, so that a test decides when something
happens. What an agent would refuse is refused here too, where a test needs it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from fleet_hosts import HostWishes
from fleet_stock import PretendStock

from outlast.errors import Conflict, NotFound, OutlastError, Unreachable
from outlast.placement.picture import Host, Picture, Policy, Priority, Vm
from outlast.placement.snapshot import write
from outlast.wire.margin import MarginInfo
from outlast.wire.shapes import (
    DiskInfo,
    HaOffInfo,
    HaSwitch,
    HostStatus,
    MoveProgress,
    MoveStatus,
    PoolChange,
    PoolSettingsInfo,
    PoolStatus,
    PoolWish,
    TimelineEntry,
    VmChange,
    VmCreate,
    VmDetail,
    VmStatus,
    VmWish,
    make,
    parse,
)
from outlast.wire.templates import TemplateDeploy
from outlast.wire.why import Moment, Why

NAMES = ("api", "crm", "db", "erp", "mail", "proxy", "shop", "web")
STAGES = ("prod", "stage", "dev")
MEMORY = (1024, 2048, 4096, 8192)
HOST_MIB = 1 << 21


def pool_id(n: int) -> str:
    return f"00000000-0000-4000-8000-{n:012d}"


class PretendPool:
    """One pool. Threads of the manager call it; everything holds the lock."""

    def __init__(self, n: int, name: str, hosts: int = 8, vms: int = 400) -> None:
        self.id, self.name = pool_id(n), name
        self.lock, self.answers = threading.RLock(), True
        self.wishes: list[tuple[Any, ...]] = []
        self.began = time.time()
        self.ha_off: HaOffInfo | None = None
        self.stock = PretendStock()
        self.deployed: list[tuple[str, TemplateDeploy]] = []
        self.refuse: dict[str, OutlastError] = {}  # why, by VM
        self.preset, self.settings = "standard", PoolSettingsInfo()
        self.notes: list[TimelineEntry] = []
        names = [f"{name[:3]}-kvm-{k:02d}" for k in range(1, hosts + 1)]
        self.hosts = {h: self._host(h, k, names) for k, h in enumerate(names, 1)}
        self.vms = {v.name: v for v in (self._vm(n, k, names) for k in range(vms))}

    def _host(self, name: str, slot: int, names: list[str]) -> HostStatus:
        others = [o for o in names if o != name]
        return HostStatus(
            name=name, slot=slot, state="member", sentence=f"{name} is a member of view 12",
            answering=slot == 1, master=slot == min(3, len(names)), beat_age_ms=120 * slot,
            hears=others, free_mib=0, free_vcpus=64, vm_count=0, generation=1, version="0.1.0",
            guard_version="0.1.0", addresses=[f"10.90.0.{slot}:7790"], guard="open",
            api=f"10.90.0.{slot}:7791", deadline_ms=39500 if slot == 1 else None,
            margin=MarginInfo(beats=9000, longest_ms=800.0 + slot, fence_ms=40000),
        )  # fmt: skip

    def _vm(self, pool: int, k: int, names: list[str]) -> VmStatus:
        name = f"{NAMES[k % 8]}-{STAGES[k % 3]}-{k:04d}"
        state = "running"
        if k % 41 == 40:
            state = "stopped"
        host = names[(k * 7 + k // 8) % len(names)] if state == "running" else ""
        sentence = f"{name} runs on {host}" if host else f"{name} is stopped"
        return VmStatus(
            name=name, uuid=f"1{pool:07d}-0000-4000-8000-{k:012d}", state=state, sentence=sentence,
            desired="running" if host else "stopped", host=host,
            since_wall_s=self.began - 900 - k * 977 % 7_000_000 if host else None,
            memory_mib=MEMORY[k % 4], vcpus=1 + k % 4, ha=k % 6 != 5, definition=3, epoch=5,
            priority="high" if k % 8 == 2 else "normal",
            disks=[DiskInfo(path=f"images/{name}.raw", format="raw", bus="virtio")],
            networks=["br0"],
        )  # fmt: skip

    # ---- the world

    def change_host(self, name: str, **values: Any) -> None:
        with self.lock:
            self.hosts[name] = self.hosts[name].model_copy(update=values)

    def change_vm(self, name: str, **values: Any) -> None:
        with self.lock:
            old = self.vms[name]
            self.vms[name] = old.model_copy(update={"definition": old.definition + 1} | values)

    def note(
        self, code: str, by: str, sentence: str, ago_s: float = 0,
        evidence: dict[str, object] | None = None, **fields: Any,
    ) -> None:  # fmt: skip
        with self.lock:
            n = len(self.notes)
            entry = TimelineEntry(
                wall_s=time.time() - ago_s, host=by, code=code, sentence=sentence, fields=fields,
                id=f"{self.id}-{n}", evidence=evidence or {},
            )  # fmt: skip
            self.notes.append(entry)

    def step(self, share: float = 1.0) -> None:
        """What was wished happens; moves get `share` further, and end at 1."""
        with self.lock:
            for vm in list(self.vms.values()):
                self._step(vm, share)

    def _step(self, vm: VmStatus, share: float) -> None:
        if vm.move is not None and not vm.move.failed:
            total = vm.memory_mib << 20
            done = min(total, (vm.move.progress.done_bytes if vm.move.progress else 0))
            done += int(total * share)
            if done >= total:
                to = vm.move.to
                away = "" if to == vm.away_from else vm.away_from
                self._put(vm, move=None, host=to, sentence=f"{vm.name} runs on {to}",
                          since_wall_s=time.time(), away_from=away)  # fmt: skip
                return
            progress = MoveProgress(done_bytes=done, left_bytes=total - done, total_bytes=total,
                                    rate_bytes_s=900 << 20)  # fmt: skip
            self._put(vm, move=vm.move.model_copy(update={"progress": progress}))
        elif vm.desired == "running" and vm.state in ("stopped", "starting", "down"):
            host = self._room(vm)
            self._put(vm, state="running", host=host, sentence=f"{vm.name} runs on {host}",
                      since_wall_s=time.time())  # fmt: skip
        elif vm.desired == "stopped" and vm.state != "stopped":
            self._put(vm, state="stopped", host="", sentence=f"{vm.name} is stopped",
                      since_wall_s=None)  # fmt: skip

    def _put(self, vm: VmStatus, **values: Any) -> None:
        self.vms[vm.name] = vm.model_copy(update=values)

    def _room(self, vm: VmStatus, without: str = "") -> str:
        open_ = [h.name for h in self.hosts.values()
                 if h.state == "member" and not h.maintenance and h.name != without]  # fmt: skip
        count = {h: sum(v.host == h for v in self.vms.values()) for h in open_}
        return min(open_, key=lambda h: (count[h], h))

    # ---- what an agent answers

    def status(self) -> PoolStatus:
        with self.lock:
            self._must_answer()
            used: dict[str, int] = {}
            counts: dict[str, int] = {}
            for vm in self.vms.values():
                used[vm.host] = used.get(vm.host, 0) + vm.memory_mib
                counts[vm.host] = counts.get(vm.host, 0) + 1
            hosts = [
                h.model_copy(update={
                    "free_mib": max(0, HOST_MIB - used.get(h.name, 0)),
                    "vm_count": counts.get(h.name, 0),
                })
                for h in self.hosts.values()
            ]  # fmt: skip
            master = next((h.name for h in hosts if h.master), "")
            return PoolStatus(
                name=self.name, uuid=self.id, preset=self.preset, answered_by=hosts[0].name,
                sentence="all is well", view=12, master=master, age_ms=100, hosts=hosts,
                vms=list(self.vms.values()), ha_off=self.ha_off,
                settings=self.settings,
            )  # fmt: skip

    def picture(self) -> str:
        with self.lock:
            self._must_answer()
            from outlast.placement.picture import HostState

            hosts = tuple(
                Host(h.name, HOST_MIB, 96,
                     HostState.OPEN if h.state == "member" and not h.maintenance
                     else HostState.CLOSED if h.state == "member" else HostState.DOWN,
                     why=h.maintenance)
                for h in self.hosts.values()
            )  # fmt: skip
            vms = tuple(
                Vm(v.name, v.memory_mib, v.vcpus, v.host, ha=v.ha and v.ha_off is None,
                   priority=Priority(v.priority))
                for v in self.vms.values() if v.desired == "running" or v.host
            )  # fmt: skip
            return write(Picture(hosts, vms, policy=Policy()))

    def _must_answer(self) -> None:
        if not self.answers:
            raise Unreachable(f"no agent of {self.name} answers: no route to host")

    def vm(self, name: str) -> VmStatus:
        if name not in self.vms:
            raise NotFound(f"there is no VM '{name}'")
        return self.vms[name]


class PretendAgent(HostWishes):
    """What `wire.client.AgentClient` is to the manager."""

    def __init__(self, pool: PretendPool, address: str = "") -> None:
        self._pool = pool
        named = (h.name for h in pool.hosts.values() if address == f"https://{h.api}")
        self._host = next(named, next(iter(pool.hosts)))

    def status(self) -> PoolStatus:
        return self._pool.status()

    def picture(self) -> str:
        return self._pool.picture()

    def timeline(
        self, since_wall_s: float = 0, limit: int = 200, until_wall_s: float | None = None
    ) -> list[TimelineEntry]:
        self._pool._must_answer()
        until_s = time.time() if until_wall_s is None else until_wall_s
        return [n for n in self._pool.notes if since_wall_s <= n.wall_s <= until_s][-limit:]

    def why_vm(self, name: str) -> Why:
        self._pool._must_answer()
        vm = self._pool.vm(name)
        steps = [n for n in self._pool.notes if n.fields.get("vm") == name]
        since_s, reason = vm.since_wall_s or 0, "most memory was left there when it started"
        account = [Moment(words="QEMU running", wall_s=since_s), Moment(words="its guest lives")]
        return Why(
            subject=name, sentence=f"{vm.sentence}, because {reason}", since_wall_s=since_s,
            steps=steps, state=vm.sentence, because=reason, account=account,
        )  # fmt: skip

    def why_host(self, name: str) -> Why:
        self._pool._must_answer()
        host = self._pool.hosts[name]
        steps = [n for n in self._pool.notes if n.host == name or n.fields.get("host") == name]
        return Why(subject=name, sentence=host.sentence, since_wall_s=1, steps=steps)

    def vm(self, name: str, *, recent: int = 0) -> VmDetail:
        return VmDetail(**self._pool.vm(name).model_dump())

    def call(
        self, method: str, path: str, body: bytes | Iterator[bytes] = b"", length: int = 0
    ) -> bytes:
        """Calls about what VMs are made of and stand on."""
        pool, body = self._pool, body if isinstance(body, bytes) else b"".join(body)
        with pool.lock:
            pool._must_answer()
            if not path.endswith("/deploy"):
                if method != "GET":
                    pool.wishes.append((method, path, body))
                vms = list(pool.vms.values())
                return pool.stock.answer(self._host, vms, method, path, body)
        name, wish = path.split("/")[3], parse(TemplateDeploy, body)
        size = f"{wish.memory or 1 << 30}B"
        self._pool.deployed.append((name, wish))
        done = self.create(make(VmCreate, name=wish.name, memory=size, vcpus=wish.vcpus or 1))
        return done.model_dump_json().encode()

    # ---- wishes

    def start(self, name: str) -> VmWish:
        return self._wish("start", name, desired="running", state="starting",
                          sentence=f"{name} is being started")  # fmt: skip

    def stop(self, name: str) -> VmWish:
        return self._wish("stop", name, desired="stopped", state="stopping",
                          sentence=f"{name} is asked to shut down")  # fmt: skip

    def kill(self, name: str) -> VmWish:
        return self._wish("kill", name, desired="stopped", state="stopping",
                          sentence=f"{name} is ended at once")  # fmt: skip

    def migrate(self, name: str, to: str = "") -> VmWish:
        pool = self._pool
        with pool.lock:
            vm = pool.vm(name)
            if vm.state != "running":
                raise Conflict(f"{name} is {vm.state}: only what runs moves", hint="start it")
            target = to or pool._room(vm, without=vm.host)
            move = MoveStatus(id=f"m-{name}", to=target, under_way=True, why="wished")
            return self._wish("migrate", name, move=move)

    def stay(self, name: str) -> VmWish:
        return self._wish("stay", name, move=None)

    def vm_ha(self, name: str, wish: HaSwitch) -> VmWish:
        return self._wish("ha", name, ha_off=_off(wish))

    def place(self, name: str, change: VmChange) -> VmWish:
        given = change.model_dump(exclude_unset=True)
        if "memory" in given:
            given["memory_mib"] = given.pop("memory") >> 20
        if "groups" in given:
            given["groups"] = [f"{g.kind} {g.name}{'' if g.hard else ' (soft)'}"
                               for g in change.groups or []]  # fmt: skip
        return self._wish("set", name, **given)

    def pool_set(self, change: PoolChange) -> PoolWish:
        pool, given = self._pool, change.model_dump(exclude_none=True)
        with pool.lock:
            pool._must_answer()
            pool.wishes.append(("pool-set", tuple(given)))
            pool.preset = str(given.pop("timing", pool.preset))
            pool.settings = pool.settings.model_copy(update=given)
        return PoolWish(changed=True, sentence="the settings are changed")

    def pool_ha(self, wish: HaSwitch) -> PoolWish:
        with self._pool.lock:
            self._pool._must_answer()
            self._pool.wishes.append(("pool-ha", wish.on))
            self._pool.ha_off = _off(wish)
        return PoolWish(changed=True, sentence=f"HA is {'on' if wish.on else 'off'}")

    def create(self, wish: VmCreate) -> VmWish:
        pool = self._pool
        with pool.lock:
            pool._must_answer()
            if wish.name in pool.vms:
                raise Conflict(f"there is a VM '{wish.name}' already", hint="choose another name")
            pool.wishes.append(("create", wish.name))
            pool.vms[wish.name] = VmStatus(
                name=wish.name, uuid=f"u-{wish.name}", state="stopped", desired="stopped",
                sentence=f"{wish.name} is stopped", memory_mib=wish.memory >> 20, vcpus=wish.vcpus,
                ha=wish.ha, definition=1,
            )  # fmt: skip
        return VmWish(name=wish.name, version=1, changed=True, sentence=f"{wish.name} is created")

    def delete(self, name: str, *, force: bool = False, with_disks: bool = False) -> VmWish:
        with self._pool.lock:
            self._pool.vm(name)
            self._pool.wishes.append(("delete", name, with_disks))
            del self._pool.vms[name]
        return VmWish(name=name, version=9, changed=True, sentence=f"{name} is deleted")

    def _wish(self, verb: str, name: str, **values: Any) -> VmWish:
        pool = self._pool
        with pool.lock:
            pool._must_answer()
            vm = pool.vm(name)
            if name in pool.refuse:
                raise pool.refuse[name]
            pool.wishes.append((verb, name))
            pool.change_vm(name, **values)
            version = vm.definition + 1
        return VmWish(
            name=name, version=version, changed=True, sentence=f"{verb} of {name} is wished"
        )


def _off(wish: HaSwitch) -> HaOffInfo | None:
    return None if wish.on else HaOffInfo(why=wish.why, by="manager")
