"""What a story can do to a pretend pool: power, paths, links, processes, VMs, records, wishes.

Rules:
1. A verb does one thing that can happen to a real pool, at once and without judging what follows.
2. Where a host stands, a list stands for several of them at the same moment: `power of a,b off`.
3. What no verb knows is said, never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from outlast.errors import InvalidInput
from outlast.model import Fence, GroupWish, HaOff, VmRecord, VmSpec
from outlast.settings import MS, S
from outlast.sim.codec import encode
from outlast.sim.disk_work import begin_work, end_work
from outlast.sim.faults import change_timing
from outlast.sim.host import SimHost
from outlast.sim.pool import UUID, SimPool
from outlast.sim.world import Path
from outlast.storage import format as fmt
from outlast.storage.format import BLOCK_SIZE

PATHS = {path.value: path for path in Path} | {"failing": Path.FAIL}
STARTS = {
    "fails": "other", "locked": "locked", "missing": "missing", "refused": "refused", "works": "",
}  # fmt: skip
CLONE_STEP_S = 0.003
STRANGER = UUID.format(0xBAD)


class Verbs:
    """The verbs of one pool."""

    def __init__(self, pool: SimPool) -> None:
        self.pool, self.world = pool, pool.world
        self._born = len(pool.vms)

    def do(self, command: str) -> None:
        """Raises InvalidInput for what no verb knows."""
        words = command.split()
        parts = (self._host, self._path, self._network, self._vm, self._move, self._record)
        if not any(part(words) for part in parts):
            raise InvalidInput(f"a story does not know: {command}")

    def _hosts(self, names: str) -> list[SimHost]:
        return [self.pool.host(name) for name in names.split(",")]

    def _host(self, words: list[str]) -> bool:
        match words:
            case ["power", "of", names, "off"]:
                for host in self._hosts(names):
                    host.power_off()
            case ["power", "of", names, "on"]:
                for host in self._hosts(names):
                    host.power_on()
            case ["drill", kind, "of", name, *span]:
                for_ns = round(seconds(span[1]) * S) if span else 0
                self.pool.host(name).agent.pulse.drill(kind, for_ns)
            case ["host", name, "confirmed", "off"]:  # by a person, rightly or not
                self._confirm_off(self.pool.host(name).me.slot)
            case ["timing", "of", name, "changes"]:  # to a slower one, or back
                change_timing(self.pool.host(name))
            case ["host", names, "resets"]:
                for host in self._hosts(names):
                    host.reset()
            case ["host", names, ("frozen" | "thawed") as word]:
                for host in self._hosts(names):
                    host.frozen = word == "frozen"
            case ["load", "of", names, "is", cores]:
                for host in self._hosts(names):
                    host.busy_mcores = round(float(cores) * 1000)
            case ["host", names, ("asleep" | "awake") as word]:
                for host in self._hosts(names):
                    host.sleep(word == "asleep")
            case ["clocks", "of", names, "drift"]:
                for host in self._hosts(names):
                    host.clock.err(self.world.random, wall=False)
            case ["wall", "clock", "of", names, "wrong"]:
                for host in self._hosts(names):
                    host.clock.err(self.world.random, wall=True)
            case ["agent", "of", names, ("killed" | "gone") as word]:
                for host in self._hosts(names):
                    host.agent.kill(for_good=word == "gone")
            case ["agent", "of", names, "back"]:
                for host in self._hosts(names):
                    host.agent.begin()
            case _:
                return False
        return True

    def _confirm_off(self, slot: int) -> None:
        disk, name = self.world.disk, f"fence/{slot}"
        version = disk.version("view")
        view = fmt.view_from(disk.value("view", version))
        fence = Fence(slot, view.members[slot].term, "anna")
        disk.swap(name, disk.version(name), fmt.fence_to(fence))

    def _path(self, words: list[str]) -> bool:
        match words:
            case ["storage", "of", names, word] if word in PATHS:
                for host in self._hosts(names):
                    self.pool.set_path(host.name, PATHS[word])
            case ["storage", "of", names, "stuck", "for", time]:
                for host in self._hosts(names):
                    self.pool.stall(host.name, seconds(time))
            case ["storage", word] if word in PATHS:
                for name in self.pool.hosts:
                    self.pool.set_path(name, PATHS[word])
            case ["world", ("rough" | "smooth") as word]:
                self.world.rough = word == "rough"
            case ["storage", "takes", times] if times.endswith("ms"):
                low, high = times[:-2].split("..")
                self.world.latency_ns = (int(low) * MS, int(high) * MS)
            case _:
                return False
        return True

    def _network(self, words: list[str]) -> bool:
        match words:
            case ["link", pair, ("down" | "up") as word] if "-" in pair:
                a, b = (self.pool.host(name).name for name in pair.split("-"))
                self.world.link(a, b, word == "up")
            case ["link", pair, "flaps", times, "times", "every", time] if "-" in pair:
                a, b = (self.pool.host(name).name for name in pair.split("-"))
                for number in range(2 * int(times)):
                    self.world.link(a, b, number % 2 == 1)
                    self.pool.run(seconds(time))
            case ["way", pair, ("cut" | "open") as word] if ">" in pair:
                a, b = (self.pool.host(name).name for name in pair.split(">"))
                (self.world.cut.add if word == "cut" else self.world.cut.discard)((a, b))
            case ["witness", "of", names, ("lost" | "reached") as word]:
                for host in self._hosts(names):
                    host.reach_witness(word == "reached")
            case ["network", "of", names, ("down" | "up") as word]:
                for host in self._hosts(names):
                    self.pool.isolate(host.name, word == "up")
            case ["network", "between", left, "and", right, ("down" | "up") as word]:
                for here in self._hosts(left):
                    for there in self._hosts(right):
                        self.world.link(here.name, there.name, word == "up")
            case ["network", ("down" | "up") as word]:
                self.pool.network(word == "up")
            case _:
                return False
        return True

    def _vm(self, words: list[str]) -> bool:
        match words:
            case ["qemu", "of", names, "dies"]:
                for vm in names.split(","):
                    self._running_on(vm).agent.qemu_ends(vm, "crashed")
            case ["vm", vm, "shuts", "down"]:
                self._running_on(vm).agent.qemu_ends(vm, "shutdown")
            case ["start", "of", vm, "on", names, word] if word in STARTS:
                for host in self._hosts(names):
                    host.start_trouble[vm] = STARTS[word]
            case ["guest", "of", vm, ("mute" | "answers") as word]:
                for host in self.pool.hosts.values():
                    (host.mute.add if word == "mute" else host.mute.discard)(vm)
            case ["guest", "of", vm, "boots", "for", time]:  # then it gives a sign of life
                for host in self.pool.hosts.values():
                    host.boots[vm] = round(seconds(time) * S)
            case ["starts", "on", names, "take", time]:
                for host in self._hosts(names):
                    host.start_takes_ns = round(seconds(time) * S)
            case ["kills", "on", names, "take", time]:
                for host in self._hosts(names):
                    host.kill_takes_ns = round(seconds(time) * S)
            case ["disks", "of", vm, "worked", "on", "by", name]:
                begin_work(self.pool.host(name).agent, vm)
            case ["disks", "of", vm, ("let" | "broken") as word, ("go" | "off")]:
                end_work(self.pool.hosts.values(), vm, killed=word == "broken")
            case ["wish", names, desired]:
                for vm in names.split(","):
                    self.pool.want(vm, desired)
            case ["create", vm, *options]:
                self._create(vm, dict(option.split("=", 1) for option in options))
            case ["vm", vm, "ha", ("on" | "off") as word]:
                self.pool.wish(vm, replace(self.pool.record(vm), ha=word == "on"))
            case ["ha", "of", vm, "off", *until]:
                switch = self._ha_off(until)
                self.pool.wish(vm, replace(self.pool.record(vm), ha_off=switch))
            case ["ha", "of", vm, "on"]:
                self.pool.wish(vm, replace(self.pool.record(vm), ha_off=None))
            case ["ha", ("off" | "on") as word, *until]:
                for host in self.pool.hosts.values():
                    off = self._ha_off(until) if word == "off" else None
                    host.pool_settings = replace(host.pool_settings, ha_off=off)
            case ["vm", vm, "on", "shutdown", ("stay" | "restart") as word]:
                self.pool.wish(vm, replace(self.pool.record(vm), on_shutdown=word))
            case ["vm", vm, "is", *options]:
                pairs = dict(option.split("=", 1) for option in options)
                self.pool.wish(vm, replace(self.pool.record(vm), **placement(pairs)))
            case ["vm", vm, "prefers", names]:
                preferred = () if names == "any" else tuple(names.split(","))
                self.pool.wish(vm, replace(self.pool.record(vm), preferred=preferred))
            case _:
                return False
        return True

    def _move(self, words: list[str]) -> bool:
        match words:
            case ["move", names]:
                for vm in names.split(","):
                    self.pool.move(vm)
            case ["move", names, "to", host]:
                for vm in names.split(","):
                    self.pool.move(vm, host)
            case ["move", "of", vm, "taken", "back"]:
                self.pool.wish(vm, replace(self.pool.record(vm), move=None))
            case ["moves", "from", name, "take", time]:
                self.pool.host(name).move_takes_ns = round(seconds(time) * 1e9)
            case ["replies", "to", name, ("lost" | "heard") as word]:
                self.pool.host(name).replies_lost = int(word == "lost")
            case ["maintain", name]:
                self.pool.serve(name, "new memory")
            case ["serve", name]:
                self.pool.serve(name, "")
            case _:
                return False
        return True

    def _ha_off(self, until: list[str]) -> HaOff:
        ends_s = self.world.now_ns // S + round(seconds(until[1])) if until else 0
        return HaOff("a test", "anna", ends_s)

    def _running_on(self, vm: str) -> SimHost:
        name = self.pool.where(vm)
        if not name:
            raise InvalidInput(f"{vm} runs nowhere, so nothing can happen to it")
        return self.pool.host(name)

    def _create(self, vm: str, options: Mapping[str, str]) -> None:
        """A new definition, also over a deleted one; nobody has wished it to run yet."""
        self._born += 1
        mib = int(options.get("memory", str(self.pool.vm_mib)))
        spec = VmSpec(vm, UUID.format(0x1000 + self._born), mib, 1)
        names = options.get("prefers", "")
        preferred = tuple(names.split(",")) if names else ()
        self.pool.wish(vm, VmRecord(spec, ha=options.get("ha", "on") == "on", preferred=preferred))

    def _record(self, words: list[str]) -> bool:
        disk = self.world.disk
        match words:
            case ["register", name, ("damaged" | "sound") as word]:
                (disk.damaged.add if word == "damaged" else disk.damaged.discard)(name)
            case ["block", "of", name, "torn"]:
                disk.write_block(self.pool.host(name).me.slot, b"\xa5" * BLOCK_SIZE)
            case ["block", "of", name, "written", "by", "a", "stranger"]:
                self._stranger(self.pool.host(name))
            case ["clone", "of", name, "writes", "for", time]:
                for _ in range(round(seconds(time) / CLONE_STEP_S)):
                    self._stranger(self.pool.host(name))
                    self.pool.run(CLONE_STEP_S)
            case ["slot", "of", name, ("retired" | "anew") as word]:
                self._slot(self.pool.host(name), word)
            case _:
                return False
        return True

    def _stranger(self, host: SimHost) -> None:
        """As by a machine whose system disk was cloned: the same slot, another host."""
        disk, slot = self.world.disk, host.me.slot
        block = fmt.decode_block(disk.area[slot], self.pool.settings.uuid, slot)
        other = replace(block, host_uuid=STRANGER, boot_id="f" * 32, seq=block.seq + 1)
        disk.write_block(slot, fmt.encode_block(other))

    def _slot(self, host: SimHost, word: str) -> None:
        """retired: it may not join any more. anew: the slot was given to somebody since."""
        name, record = f"slot/{host.me.slot}", host.record
        if word == "retired":
            record = replace(record, active=False)
        else:
            record = replace(record, generation=record.generation + 1, uuid=STRANGER)
        self.world.disk.swap(name, self.world.disk.version(name), encode(record))


def seconds(time: str) -> float:
    """2.5s -> 2.5"""
    if not time.endswith("s"):
        raise InvalidInput(f"a time ends with s, as 2.5s does: {time}")
    return float(time[:-1])


def placement(options: Mapping[str, str]) -> dict[str, Any]:
    """What a story says of where and when a VM runs: priority=high order=2 delay=3s likes=a,b
    ready=agent apart=GROUP together=GROUP; a "?" behind the group makes it soft.
    """
    found: dict[str, Any] = {}
    groups = []
    for name, value in options.items():
        match name:
            case "priority":
                found["priority"] = value
            case "order":
                found["start_order"] = int(value)
            case "delay":
                found["start_delay_s"] = round(seconds(value))
            case "ready":
                found["ready"] = value
            case "likes":
                found["likes"] = tuple(value.split(","))
            case "apart" | "together":
                groups.append(GroupWish(value.rstrip("?"), name, hard=not value.endswith("?")))
            case _:
                raise InvalidInput(f"a VM has no '{name}'")
    return found | ({"groups": tuple(groups)} if groups else {})
