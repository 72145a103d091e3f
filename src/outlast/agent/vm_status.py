"""What a VM does and why, in plain words: wishes, leases and hypervisors put together (pure).

Rules:
1. Only a hypervisor says "running". A lease alone says who may run the VM; if the holder's agent
   does not answer, the state is "unconfirmed" and the sentence says so.
2. A VM that is down always says why: held down, stopped, no room (and what each host lacks), or
   whose death is being waited for.

    running      its host's hypervisor runs it
    paused       it is there but stands still
    starting     somebody was told to start it, or holds its lease and is about to
    stopping     it is there but shall not be
    stopped      nobody wants it to run
    down         it is wanted, but stays down until somebody starts it again
    waiting      it is wanted and will run once something else has happened
    unconfirmed  a living host holds its lease but cannot be asked
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache

from outlast.agent import furnishing
from outlast.agent.host_status import Clock, host_name, silent_sentence
from outlast.agent.picture import Picture
from outlast.hypervisor.mover import Progress
from outlast.model import Desired, HaOff, Lease, StopMode, VmRecord, VmState
from outlast.pool.availability import holds
from outlast.pool.decision import DISKS, leaving
from outlast.pool.facts import Facts, Held
from outlast.pool.landscape import landscape
from outlast.pool.measured import report_on
from outlast.pool.proof import of_death
from outlast.pool.sequence import is_ready
from outlast.pool.stage import Stage
from outlast.wire.shapes import (
    HaOffInfo,
    LocalVmInfo,
    LocalVms,
    MoveProgress,
    MoveStatus,
    VmStatus,
)

OnStage = Callable[[], Stage]
Peers = Mapping[int, LocalVms]  # slot -> what its agent said just now; absent: it did not answer


@dataclass(frozen=True, slots=True)
class Fate:
    """The part of a VM's status that has to be found out."""

    state: str
    sentence: str
    host: str = ""
    since_wall_s: float | None = None


def local_vms(
    picture: Picture, clock: Clock, moves: Mapping[str, Progress] | None = None
) -> LocalVms:
    """What this host's hypervisor says of its VMs; for the other agents.

    moves: how far those are that leave this host now.
    """
    facts = picture.facts
    if facts is None:
        return LocalVms(host=picture.me.host, ready=False)
    vms = {
        name: LocalVmInfo(
            state=vm.state.value,
            reason=vm.reason,
            since_wall_s=clock.wall_of(vm.started_ns) if vm.started_ns else None,
            move=MoveProgress(**asdict(moves[name])) if moves and name in moves else None,
        )
        for name, vm in facts.local.items()
    }
    return LocalVms(host=picture.me.host, ready=facts.local_ready, vms=vms)


def on_stage(picture: Picture, facts: Facts) -> OnStage:
    """The pool as placement sees it, made once when it is asked for."""

    @cache
    def made() -> Stage:
        return Stage(landscape(facts, picture.settings))

    return made


def vm_statuses(picture: Picture, peers: Peers, clock: Clock) -> list[VmStatus]:
    """All VMs that were not deleted, by name; empty without facts."""
    facts = picture.facts
    if facts is None:
        return []
    stage = on_stage(picture, facts)
    return [
        vm_status(picture, facts, peers, clock, record, stage)
        for _, record in sorted(facts.vms.items())
        if not record.value.deleted or _held(facts, record.value)
    ]


def vm_status(
    picture: Picture, facts: Facts, peers: Peers, clock: Clock, held: Held[VmRecord],
    stage: OnStage,
) -> VmStatus:  # fmt: skip
    """stage: the pool as placement sees it, made when a VM waits for a host (`on_stage`)."""
    record = held.value
    spec = record.spec
    lease = facts.leases.get(spec.name)
    fate = _fate(picture, facts, stage, peers, clock, record)
    return VmStatus.model_validate(
        {
            "name": spec.name,
            "uuid": spec.uuid,
            "state": fate.state,
            "sentence": fate.sentence,
            "desired": record.desired.value,
            "host": fate.host,
            "since_wall_s": fate.since_wall_s,
            "epoch": lease.version if lease else 0,
            "definition": held.version,
            "memory_mib": spec.memory_mib,
            "vcpus": spec.vcpus,
            "ha": record.ha,
            "ha_off": ha_off(record.ha_off, facts.wall_s),
            "on_shutdown": record.on_shutdown,
            "priority": record.priority,
            "start_order": record.start_order,
            "start_delay_s": record.start_delay_s,
            "ready": record.ready,
            "is_ready": _ready(facts, record, fate),
            "busy_cores": _busy_cores(facts, spec.name),
            "likes": list(record.likes),
            "groups": [f"{g.kind} {g.name}{'' if g.hard else ' (soft)'}" for g in record.groups],
            "preferred": list(record.preferred),
            "held_down": record.held_down,
            "disks": [asdict(disk) for disk in spec.disks],
            "kernel": spec.kernel,
            "initrd": spec.initrd,
            "cmdline": spec.cmdline,
            "serial_log": spec.serial_log,
            "graphics": spec.graphics,
            "hardware": furnishing.told(spec),
            "networks": list(spec.networks),
            "away_from": record.away_from,
            "move": _move(facts, record, lease.value if lease else Lease(spec.name), peers),
        }
    )


def _ready(facts: Facts, record: VmRecord, fate: Fate) -> bool | None:
    return is_ready(facts, record.spec.name, record.ready) if fate.state == "running" else None


def _busy_cores(facts: Facts, vm: str) -> float | None:
    said = report_on(facts, vm)
    return said.busy_mcores / 1000 if said and said.busy_mcores else None


def ha_off(switch: HaOff | None, wall_s: int) -> HaOffInfo | None:
    """The switch, while it is off."""
    if switch is None or not holds(switch, wall_s):
        return None
    return HaOffInfo(why=switch.why, by=switch.by, until_wall_s=switch.until_wall_s)


def _move(facts: Facts, record: VmRecord, lease: Lease, peers: Peers) -> MoveStatus | None:
    """The wish to move it, and how far that is."""
    wish, way = record.move, lease.move
    if wish is None:
        return None
    under_way = way is not None and way.id == wish.id and lease.held and leaving(lease, lease.slot)
    said = peers.get(lease.slot)
    local = said.vms.get(record.spec.name) if said else None
    return MoveStatus(
        id=wish.id,
        to=host_name(facts, way.to_slot) if way is not None and under_way else wish.to,
        why=wish.why,
        failed=wish.failed,
        under_way=under_way,
        progress=local.move if local and under_way else None,
    )


def _held(facts: Facts, record: VmRecord) -> bool:
    lease = facts.leases.get(record.spec.name)
    return lease is not None and lease.value.held


def _fate(
    picture: Picture, facts: Facts, stage: OnStage, peers: Peers, clock: Clock, record: VmRecord,
) -> Fate:  # fmt: skip
    name = record.spec.name
    held = facts.leases.get(name)
    if held is None or not held.value.held:
        return _free(facts, stage, record, held.value if held else Lease(name))
    lease = held.value
    if (lease.slot, lease.term) == (facts.me.slot, facts.term):
        said: LocalVms | None = peers.get(lease.slot) or local_vms(picture, clock)
    else:
        waiting = _doubtful(picture, facts, held)
        if waiting:
            return Fate("waiting" if record.wanted else "stopping", waiting)
        said = peers.get(lease.slot)
    return _at_holder(host_name(facts, lease.slot), record, lease, said)


def _at_holder(host: str, record: VmRecord, lease: Lease, said: LocalVms | None) -> Fate:
    """The VM of a living holder, as its hypervisor says."""
    if lease.via == DISKS:
        rest = "; it starts after that" if record.wanted else ""
        state = "waiting" if record.wanted else "stopped"
        return Fate(state, f"{host} works on its disks ({lease.why}){rest}", host)
    if said is None or not said.ready:
        what = "its agent does not answer" if said is None else "its hypervisor does not answer"
        return Fate("unconfirmed", f"{host} holds its lease, but {what} now", host)
    vm = said.vms.get(record.spec.name)
    since = vm.since_wall_s if vm else None
    if not record.wanted:
        if vm is None:
            return Fate("stopping", f"it has ended on {host}, which is giving up its lease", host)
        how = "at once" if record.stop_mode is StopMode.KILL else "by asking the system inside it"
        return Fate("stopping", f"{host} is stopping it {how}", host, since)
    if vm is None or vm.state in {VmState.STARTING.value, VmState.STOPPED.value}:
        return Fate("starting", f"{host} holds its lease and is starting it", host, since)
    if vm.state == VmState.PAUSED.value:
        reason = f": {vm.reason}" if vm.reason else ""
        return Fate("paused", f"it is paused on {host}{reason}", host, since)
    sentence = f"it runs on {host}{_moving(record, lease)}"
    if lease.via == "takeover":
        sentence += f", which took it over: {lease.why}"
    return Fate("running", sentence, host, since)


def _moving(record: VmRecord, lease: Lease) -> str:
    """What the wish to move it has come to; a part of a sentence."""
    wish = record.move
    if wish is None:
        return ""
    to = f" to {wish.to}" if wish.to else ""
    if wish.failed:
        return f"; it did not move{to}: {wish.failed}"
    under_way = lease.move is not None and lease.move.id == wish.id
    return f" and is moving{to}" if under_way else f" and shall move{to}"


def _doubtful(picture: Picture, facts: Facts, held: Held[Lease]) -> str:
    """Why the holder cannot be trusted to run the VM; "" when nothing speaks against it."""
    lease, timing = held.value, picture.settings.timing
    host = host_name(facts, lease.slot)
    listed = facts.view is not None and facts.view.lists(lease.slot, lease.term)
    proof = of_death(facts, timing, lease.slot, lease.term, known_ns=held.read_ns, excluded={})
    if proof:
        return f"{host} lost it ({proof.evidence}); it will be started elsewhere"
    seen = facts.seen.get(lease.slot)
    if seen and seen.block and seen.still_ns > timing.gap_ns:
        return (
            f"its holder {silent_sentence(host, seen, timing)}; "
            "it starts elsewhere once that is proven"
        )
    if not listed:
        return f"its holder {host} is no member any more; waiting for the proof that it ended there"
    return ""


def _free(facts: Facts, stage: OnStage, record: VmRecord, lease: Lease) -> Fate:
    """The VM nobody holds."""
    name = record.spec.name
    if name in facts.local:
        return Fate("stopping", f"{facts.me.host} runs it without a lease and is ending it")
    if record.held_down and record.desired is Desired.RUNNING:
        return Fate("down", f"it stays down until somebody starts it: {record.held_down}")
    if not record.wanted:
        why = f": {record.held_down}" if record.held_down else ""
        return Fate("stopped", f"it is stopped{why}")
    for slot, book in facts.books.items():
        order = next((o for o in book.value.orders if o.vm == name), None)
        fresh = facts.view is not None and book.value.view_version == facts.view.version
        if order and fresh:
            host = host_name(facts, slot)
            return Fate("starting", f"{host} was told to start it: {order.reason}")
    failed = f"it did not start on {host_name(facts, lease.failed_slot)}: {lease.why}; "
    failed = failed if lease.via == "failed" else ""
    if facts.view is None or facts.view.master not in facts.view.members:
        return Fate("waiting", f"{failed}the pool has no master at the moment")
    choice = stage().why(name)
    if not choice.host:
        return Fate("waiting", f"{failed}no host can take it: {choice.why}")
    return Fate("waiting", f"{failed}a host is being chosen; {choice.why}")
