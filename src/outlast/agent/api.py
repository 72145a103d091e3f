"""The agent's API without the network: questions answered from the picture, wishes handed on.

Rules:
1. Questions never touch storage, except `vm` for a VM that the picture does not have yet and the
   timeline. All methods may be called from any thread; wishes, `vm` and `timeline` may block.
2. Time comes in as a Clock, what other agents say as Peers: the answers follow from the arguments.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pydantic import ValidationError

from outlast.agent import placing
from outlast.agent.host_status import Clock, host_name, host_statuses
from outlast.agent.host_wishes import HostWishes
from outlast.agent.margin import Measured, advice
from outlast.agent.picture import Picture
from outlast.agent.pool_wishes import PoolWishes
from outlast.agent.service import Service
from outlast.agent.vm_status import Peers, ha_off, local_vms, on_stage, vm_status, vm_statuses
from outlast.agent.why import why_host, why_vm
from outlast.agent.wishes import Wishes
from outlast.errors import Conflict, NotFound, PoolTrouble
from outlast.model import SlotRecord
from outlast.placement.snapshot import write
from outlast.pool.facts import Facts
from outlast.settings import MS, Timing
from outlast.storage.health import HostHealth
from outlast.storage.names import check_name
from outlast.wire.hardware import PowerInfo
from outlast.wire.margin import LightInfo, MarginInfo
from outlast.wire.shapes import (
    HostStatus,
    LocalVms,
    PoolStatus,
    TimelineEntry,
    VmDetail,
    VmStatus,
)
from outlast.wire.why import Why

TIMELINE_MAX = 5000
RECENT_DAYS = 30
QUIET_S = 1800.0  # a host says something of its readiness three times as often
WHY_DAYS = 30


@dataclass(frozen=True, slots=True)
class Place:
    """Where a VM's console is: `api` is "" when it is on this host."""

    host: str
    api: str = ""


def now() -> Clock:
    return Clock(time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time())


class Api:
    """Everything that may be asked of one agent."""

    def __init__(
        self, service: Service, *, clock: Callable[[], Clock] = now, wishes: Wishes | None = None
    ) -> None:
        self._service = service
        self._clock = clock
        self.wishes = wishes or Wishes(service)
        self.host_wishes = HostWishes(service)
        self.pool_wishes = PoolWishes(service)

    @property
    def service(self) -> Service:
        return self._service

    # ---- questions

    def status(self, peers: Peers, refused_calls: int = 0) -> PoolStatus:
        """The pool as this host sees it; says why when it sees nothing."""
        picture, clock = self._service.picture, self._clock()
        facts, settings = picture.facts, picture.settings
        hosts = host_statuses(picture, clock)
        view = facts.view if facts else None
        listed = view is not None and view.master in view.members
        known = {
            "view": view.version if view else 0,
            "view_reason": view.reason if view else "",
            "master": host_name(facts, view.master) if facts and view and listed else "",
            "age_ms": max(0, clock.boot_ns - picture.taken_ns) // MS if facts else None,
        }
        return PoolStatus.model_validate(
            known
            | {
                "name": settings.name,
                "uuid": settings.uuid,
                "preset": settings.timing.preset,
                "protocol": settings.protocol,
                "settings": asdict(facts.agreed(settings) if facts else settings),
                "answered_by": picture.me.host,
                "sentence": _sentence(picture),
                "trouble": _trouble(picture),
                "refused_calls": refused_calls,
                "ha_off": ha_off(facts.ha_off, facts.wall_s) if facts else None,
                "margin": _margin(self._service.measured, settings.timing),
                "hosts": [self._with_own_word(h, settings.timing, clock) for h in hosts],
                "vms": vm_statuses(picture, peers, clock),
            }
        )

    def _with_own_word(self, host: HostStatus, timing: Timing, clock: Clock) -> HostStatus:
        """With what its power switch and the host itself say of it."""
        known: dict[str, object] = {}
        if (said := self._service.power.get(host.slot)) is not None:
            known["power"] = PowerInfo(power=said.power.value, why=said.reason)
        if (health := self._service.health.get(host.slot)) is not None:
            there = host.state == "member" and not host.agent_away_ms
            known["lights"] = _lights(health, clock.wall_s - health.wall_s if there else 0)
            known["margin"] = _margin(health, timing)
        return host.model_copy(update=known)

    def vms(self, peers: Peers) -> list[VmStatus]:
        """Raises PoolTrouble when this host knows nothing yet."""
        picture, clock = self._service.picture, self._clock()
        self._facts(picture)
        return vm_statuses(picture, peers, clock)

    def vm(self, name: str, peers: Peers, recent: int = 0) -> VmDetail:
        """One VM with its newest `recent` notes.

        Raises NotFound, PoolTrouble, StorageTrouble.
        """
        check_name(name, "VM name")
        picture, clock = self._service.picture, self._clock()
        facts = self._facts(picture)
        held = facts.vms.get(name)
        if held is None or held.value.deleted:
            held = self._service.read_vm(name)
        if held is None or held.value.deleted:
            raise NotFound(f"there is no VM '{name}'", hint="outlast vm list")
        facts = replace(facts, vms={**facts.vms, name: held})
        status = vm_status(picture, facts, peers, clock, held, on_stage(picture, facts))
        notes: list[TimelineEntry] = []
        if recent:
            since = clock.wall_s - RECENT_DAYS * 86400
            notes = [e for e in self.timeline(since, TIMELINE_MAX) if e.fields.get("vm") == name]
        return VmDetail(**status.model_dump(), recent=notes[-recent:] if recent else [])

    def local(self, *, moves: bool = True) -> LocalVms:
        """What this host's hypervisor says; for other agents.

        moves: also how far those are that leave it, for which it is asked and may hang.
        """
        progress = self._service.move_progress() if moves else {}
        return local_vms(self._service.picture, self._clock(), progress)

    @property
    def slot(self) -> int:
        return self._service.picture.me.slot

    @property
    def moving(self) -> bool:
        """True while a VM leaves this host: asking how far it is may block."""
        return self._service.moving

    def picture(self) -> str:
        """The pool as placement sees it here, as a snapshot's text. Raises PoolTrouble."""
        picture = self._service.picture
        return write(placing.picture(self._facts(picture), picture.settings))

    def timeline(
        self, since_wall_s: float, limit: int, until_wall_s: float = math.inf
    ) -> list[TimelineEntry]:
        """Notes of all hosts, oldest first, at most the newest `limit`. Raises StorageTrouble."""
        entries = []
        most = min(max(limit, 1), TIMELINE_MAX)
        for raw in self._service.timeline(since_wall_s, most, until_wall_s):
            try:
                entries.append(TimelineEntry.model_validate(raw))
            except ValidationError:
                continue  # a line of another version, or damaged: the others still count
        return entries

    def why_vm(self, name: str) -> Why:
        """Why a VM runs where it runs, or does not. Raises NotFound, StorageTrouble."""
        check_name(name, "VM name")
        return why_vm(name, self.timeline(self._clock().wall_s - WHY_DAYS * 86400, TIMELINE_MAX))

    def why_host(self, name: str) -> Why:
        """Why a host is as it is. Raises NotFound, StorageTrouble."""
        check_name(name, "host name")
        return why_host(name, self.timeline(self._clock().wall_s - WHY_DAYS * 86400, TIMELINE_MAX))

    # ---- where things are

    def holders(self) -> dict[int, Place]:
        """The other hosts that hold leases and can be asked, by slot.

        Not those that miss their beats: their VMs' fate is told without them, and waiting for an
        answer from a dead host would make everybody's status slow just when it matters.
        """
        picture = self._service.picture
        facts, gap_ns = picture.facts, picture.settings.timing.gap_ns
        if facts is None or facts.view is None:
            return {}
        still = {n for n, seen in facts.seen.items() if seen.block and seen.still_ns > gap_ns}
        slots = {
            held.value.slot
            for held in facts.leases.values()
            if held.value.held and facts.view.lists(held.value.slot, held.value.term)
        }
        return {
            n: Place(facts.slots[n].host, facts.slots[n].api)
            for n in slots - still - {facts.me.slot}
            if n in facts.slots and facts.slots[n].api
        }

    def home(self, vm: str) -> Place | None:
        """The other host that holds a VM's lease; None: this one, or nobody."""
        facts = self._service.picture.facts
        held = facts.leases.get(vm) if facts else None
        if facts is None or held is None or not held.value.held:
            return None
        record = facts.slots.get(held.value.slot)
        if held.value.slot == facts.me.slot or record is None or not record.api:
            return None
        return Place(record.host, record.api)

    def place_of(self, host: str) -> Place | None:
        """A host by its name; None: this one, as for "".

        Raises NotFound, PoolTrouble when it has no address.
        """
        facts = self._service.picture.facts
        if host in {"", self._service.picture.me.host}:
            return None
        record = next((r for r in facts.slots.values() if r.host == host), None) if facts else None
        if record is None:
            raise NotFound(f"there is no host '{host[:80]}'", hint="outlast host list")
        return _with_address(record, host)

    def console_place(self, name: str, *, only_here: bool) -> Place:
        """Where the VM's console can be opened.

        only_here: the caller is another agent, so there is no going on from here.
        Raises NotFound, Conflict when it does not run, PoolTrouble.
        """
        check_name(name, "VM name")
        facts = self._facts(self._service.picture)
        if name in facts.local:
            return Place(facts.me.host)
        if only_here:
            raise NotFound(f"'{name}' does not run on {facts.me.host}")
        held = self._service.read_vm(name)
        if held is None or held.value.deleted:
            raise NotFound(f"there is no VM '{name}'", hint="outlast vm list")
        lease = facts.leases.get(name)
        if lease is None or not lease.value.held or lease.value.slot == facts.me.slot:
            raise Conflict(f"'{name}' does not run", hint=f"outlast vm start {name}")
        slot = lease.value.slot
        return _with_address(facts.slots.get(slot), host_name(facts, slot))

    def _facts(self, picture: Picture) -> Facts:
        if picture.facts is None or not picture.facts.registers_ready:
            raise PoolTrouble(
                f"{picture.me.host} knows nothing of its VMs yet: {_trouble(picture)}",
                hint="is the pool's storage mounted? see 'outlast status'",
            )
        return picture.facts


def _with_address(record: SlotRecord | None, host: str) -> Place:
    """Raises PoolTrouble."""
    if record is None or not record.api:
        raise PoolTrouble(f"the agent of {host} has no address", hint=f"ask on {host} itself")
    return Place(record.host, record.api)


def _sentence(picture: Picture) -> str:
    if picture.decision is not None and picture.decision.sentence:
        return picture.decision.sentence
    return f"{picture.me.host} sees nothing: {picture.trouble}"


def _trouble(picture: Picture) -> str:
    if picture.facts is None:
        return picture.trouble or "it has just begun"
    if not picture.facts.registers_ready:
        return "the pool's registers are still being read"
    return picture.trouble


def _margin(known: Measured | HostHealth, timing: Timing) -> MarginInfo:
    found = Measured(known.beats, known.median_ns, known.p99_ns, known.p999_ns, known.longest_ns)
    times = {
        "median": known.median_ns, "p99": known.p99_ns, "p999": known.p999_ns,
        "longest": known.longest_ns, "fence": timing.fence_ns, "beat": timing.beat_ns,
        "unheard_median": known.unheard_median_ns, "unheard_p99": known.unheard_p99_ns,
        "unheard": known.unheard_ns, "link_lost": timing.link_lost_ns,
    }  # fmt: skip
    spans = {f"{name}_ms": round(ns / MS, 1) for name, ns in times.items()}
    return MarginInfo.model_validate(
        {"beats": known.beats, "advice": advice(found, timing), **spans}
    )


def _lights(health: HostHealth, quiet_s: float) -> list[LightInfo]:
    """What a host says of itself; that it says nothing any more, when that is so."""
    if quiet_s <= QUIET_S:
        return [LightInfo.model_validate(asdict(one)) for one in health.lights]
    said = f"it has said nothing of its readiness for {quiet_s / 60:.0f} min"
    sentence = f"{said}: can it write the pool's registers?"
    hint = "outlast host check, on that host"
    return [LightInfo(colour="yellow", what="registers", sentence=sentence, hint=hint)]
