"""How a machine becomes a host of a pool.

Rules:
1. A slot is taken by a swap of its register, so two machines never get one slot. Names, machine
   ids and addresses are looked at before and once more after: of two that collide the one with
   the lower slot stays, the other withdraws.
2. A machine that lost its host file gets its own slot back, with the next generation, but only
   when its former life is over: its block says closed, was never written, or does not change for
   as long as silence has to last to be a proof of death.
3. The host file is written last: where it exists, everything else is there.
4. A pool that has hosts asks for a token (tokens.py). It is looked at first and used up when the
   slot is taken, before a certificate is made: what fails before that leaves it good.
5. Joining starts nothing and admits nobody: the services do that when the host file is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from outlast.cli import machine, qemu_tls, tokens
from outlast.cli.this_host import Places
from outlast.errors import (
    Conflict,
    InvalidInput,
    OutlastError,
    PoolTrouble,
    Refused,
    StorageTrouble,
)
from outlast.model import SLOT_MAX, BlockState, SlotRecord
from outlast.settings import MS, RHO, PoolSettings, S, check_protocol
from outlast.storage.etcd_access import Access
from outlast.storage.etcd_folder import shared
from outlast.storage.etcd_pool import attach
from outlast.storage.format import BadBlock, decode_block, pool_from, slot_from, slot_to
from outlast.storage.layout import PoolDir, open_pool
from outlast.storage.register import Outcome, Register
from outlast.wire.seal import install, issue_host, write_file

WRITER = "join"
UNKNOWN_WAIT_S = 10.0
RESETS = ("auto", "watchdog", "sysrq", "none")
ACCELERATORS = ("auto", "kvm", "tcg")

Tell = Callable[[str], None]
Slots = Mapping[int, tuple[int, SlotRecord]]  # slot -> version and value


@dataclass(frozen=True, slots=True)
class Wish:
    """What the person said; "" and () mean: find out."""

    pool_dir: Path
    name: str = ""
    addresses: tuple[str, ...] = ()
    api_address: str = ""
    no_vms: bool = False
    reset: str = "auto"
    watchdog_device: str = "/dev/watchdog"
    accelerator: str = "auto"
    libvirt_uri: str = "qemu:///system"
    qemu: str = "/usr/bin/qemu-system-x86_64"
    memory_mib: int = 0  # what VMs may use of this machine; 0: all
    vcpus: int = 0
    token_file: Path | None = None  # None: the person is asked
    etcd: Access | None = None  # where the pool is; None: on the file system of pool_dir
    migration_address: str = ""  # for VMs that move here; "": the first for heartbeats


@dataclass(frozen=True, slots=True)
class HostFile:
    """The content of host.json."""

    pool_dir: str
    pool_uuid: str
    host: str
    slot: int
    uuid: str
    generation: int
    beat_addresses: tuple[str, ...]
    api_address: str
    reset: str
    watchdog_device: str
    cgroup: str
    accelerator: str
    libvirt_uri: str
    qemu: str
    memory_mib: int
    vcpus: int
    migration_address: str = ""


def join(wish: Wish, where: Places, tell: Tell) -> tuple[HostFile, PoolSettings, list[str]]:
    """Make this machine a host of the pool; its host file, the settings and warnings for people.

    tell: hears what is being waited for. Raises Conflict, InvalidInput, NotFound, PoolTrouble,
    StorageTrouble; then this machine is no host, though a slot may be kept for its next try.
    """
    host_path = where.etc / "host.json"
    _check_new(host_path)
    pool_dir = wish.pool_dir.absolute()
    pool = attach(pool_dir, wish.etcd) if wish.etcd else open_pool(pool_dir)
    register = pool.register(WRITER)
    settings = _settings(register)
    check_protocol(settings)
    name = machine.host_name(wish.name)
    addresses = wish.addresses or (machine.default_address(),)
    beats = tuple(machine.check_address(a, machine.BEAT_PORT) for a in addresses)
    api = wish.api_address or beats[0].rpartition(":")[0]
    api = machine.check_address(api, machine.API_PORT)
    reset, warnings = _reset(wish, settings)
    if wish.accelerator not in ACCELERATORS:
        raise InvalidInput(f"there is no accelerator '{wish.accelerator}'", hint="auto, kvm or tcg")
    machine.check_clock(pool_dir, time.time())
    moves = machine.check_address(wish.migration_address or beats[0], machine.BEAT_PORT)
    moves = moves.rpartition(":")[0].strip("[]") if wish.migration_address else ""
    mine = SlotRecord(
        0,
        name,
        machine.host_uuid(where.var),
        1,
        True,
        beats,
        api,
        wish.no_vms,
        migration_address=moves,
    )  # slot and generation are found now
    others = [record for _, record in _slots(register).values() if record.active]
    warnings += _other_networks(beats, others)
    token = None
    if settings.join == "token" and others:
        token = tokens.ask(wish.token_file, settings.name)
        tokens.check(pool, register, token, name, mine.uuid)
    record = _take_slot(pool, register, settings, mine, tell)
    if token is not None:
        _use(register, token, record)
    names = (*beats, api, *([moves] if moves else []))
    with shared(pool.root):
        key, cert = issue_host(pool.pki, name, record.uuid, names)
    install(where.etc / "pki", pool.pki, key, cert)
    note = qemu_tls.install(pool.pki, name, record.uuid, names)
    warnings += [note] if note else []
    host_file = HostFile(
        str(pool_dir), settings.uuid, name, record.slot, record.uuid, record.generation, beats,
        api, reset, wish.watchdog_device, "", wish.accelerator, wish.libvirt_uri,
        wish.qemu, wish.memory_mib, wish.vcpus, moves,
    )  # fmt: skip
    write_file(host_path, json.dumps(asdict(host_file), indent=2).encode() + b"\n", 0o644)
    return host_file, settings, warnings


def _check_new(host_path: Path) -> None:
    try:
        raw = host_path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageTrouble(f"{host_path}: {error.strerror}", hint="run it as root") from error
    try:
        known = json.loads(raw)
        who = f"as host '{known['host']}', slot {known['slot']}, in {known['pool_dir']}"
    except (ValueError, KeyError, TypeError):
        who = f"(though {host_path} is damaged)"
    raise Conflict(
        f"this machine has already joined {who}",
        hint=f"to join anew: stop the outlast services, then remove {host_path}",
    )


def _settings(register: Register) -> PoolSettings:
    _, value = register.read("pool")
    if value is None:
        raise StorageTrouble("the pool has no settings", hint="was its storage restored in part?")
    return pool_from(value)


def _other_networks(beats: tuple[str, ...], others: list[SlotRecord]) -> list[str]:
    """What to say when this host has not as many heartbeat networks as the others."""
    counts = {len(record.addresses) for record in others} - {len(beats)}
    if not counts:
        return []
    return [
        f"warning: other hosts have {max(counts)} addresses for heartbeats, this one {len(beats)}; "
        "the first of each host are one network, the second ones another"
    ]


def _reset(wish: Wish, settings: PoolSettings) -> tuple[str, list[str]]:
    """How this host is reset when it must be, and what to say about that."""
    if wish.reset not in RESETS:
        raise InvalidInput(f"there is no reset '{wish.reset}'", hint="one of: " + ", ".join(RESETS))
    device = Path(wish.watchdog_device.removeprefix("testing:"))
    there = device.exists()
    if wish.reset == "watchdog" and not there:
        raise InvalidInput(
            f"there is no watchdog {device}", hint="load its driver; 'softdog' is better than none"
        )
    if wish.reset != "auto":
        return wish.reset, []
    if settings.watchdog == "off":
        return "none", []
    if there:
        return "watchdog", []
    if settings.watchdog == "required":
        raise InvalidInput(
            f"this pool requires a watchdog, and {device} is not there",
            hint="load its driver; 'softdog' is better than none",
        )
    return "none", [
        f"warning: {device} is not there; a host that hangs cannot reset itself, so its VMs wait "
        "longer. Load a watchdog driver and join again."
    ]


def _take_slot(
    pool: PoolDir, register: Register, settings: PoolSettings, mine: SlotRecord, tell: Tell
) -> SlotRecord:
    for _ in range(SLOT_MAX):
        known = _slots(register)
        own = slot = _own_slot(known, mine)
        if own:
            _check_over(pool, settings, slot, known[slot][1], tell)
        else:
            slot = _free_slot(pool, known)
        version, before = known.get(slot, (0, None))
        generation = before.generation + 1 if before else 1
        record = replace(mine, slot=slot, generation=generation)
        taken = _swap(register, version, record)
        if taken:
            _check_alone(register, taken, record)
            return record
        if own:
            raise Conflict(
                f"another machine has just joined as host '{mine.host}'",
                hint="is one a clone of the other? each needs a machine id of its own",
            )
    raise PoolTrouble("others take slots all the time", hint="try again in a moment")


def _slots(register: Register) -> dict[int, tuple[int, SlotRecord]]:
    found = {}
    for name in register.names("slot"):
        version, value = register.read(name)
        if value is not None:
            record = slot_from(value)
            found[record.slot] = (version, record)
    return found


def _own_slot(known: Slots, mine: SlotRecord) -> int:
    """The slot this machine had before, 0 when it is new. Raises Conflict."""
    own = 0
    for slot, (_, other) in sorted(known.items()):
        if not other.active:
            continue
        if other.uuid == mine.uuid and other.host == mine.host:
            own = slot
        elif other.uuid == mine.uuid:
            raise Conflict(
                f"this machine is already host '{other.host}', slot {slot}",
                hint=f"use --name {other.host}; a clone needs a machine id of its own first "
                "(rm /etc/machine-id; systemd-machine-id-setup)",
            )
        elif other.host == mine.host:
            raise Conflict(
                f"another machine is host '{mine.host}' already, slot {slot}",
                hint="choose another name with --name",
            )
        elif shared := ({*other.addresses, other.api} & {*mine.addresses, mine.api}):
            raise Conflict(
                f"host '{other.host}' has the address {sorted(shared)[0]} already",
                hint="every host needs addresses of its own; see --address",
            )
    return own


def _free_slot(pool: PoolDir, known: Slots) -> int:
    """The lowest slot nobody owns and no former owner can still be writing to."""
    waiting = 0
    for slot in range(1, SLOT_MAX + 1):
        if slot in known and known[slot][1].active:
            continue
        if _resting(_piece(pool, slot)):
            return slot
        waiting += 1
    what = f"; {waiting} were given up by hosts that have not ended in order" if waiting else ""
    raise PoolTrouble(f"the pool has no free slot{what}", hint=f"a pool has {SLOT_MAX} at most")


def _piece(pool: PoolDir, slot: int) -> bytes:
    try:
        with pool.area() as area:
            return area.read_all()[slot]
    except OSError as error:
        raise StorageTrouble(
            f"the heartbeat area cannot be read: {error.strerror or error} ({pool.hb})",
            hint="is the pool's storage well? see 'outlast storage dump'",
        ) from error


def _resting(piece: bytes) -> bool:
    """True when this block's life is over by its own word, or never began."""
    try:
        return decode_block(piece).state is BlockState.CLOSED
    except BadBlock as bad:
        return bad.kind == "empty"


def _check_over(
    pool: PoolDir, settings: PoolSettings, slot: int, record: SlotRecord, tell: Tell
) -> None:
    """Rule 2. Raises Conflict when the former life of this slot goes on."""
    first = _piece(pool, slot)
    if _resting(first):
        return
    timing = settings.timing
    limit_ns = timing.dead_ns
    try:
        promised = int(decode_block(first).dead_after_ms * MS * (1 + RHO)) + timing.settle_ns
        limit_ns = max(limit_ns, promised)
    except BadBlock:
        pass
    # the read above ended before this moment, so what is unchanged until then is older still
    until = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + limit_ns
    while (left_ns := until - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) > 0:
        tell(
            f"making sure that the former life of {record.host} (slot {slot}) is over: "
            f"{left_ns / S:.0f} s to go"
        )
        time.sleep(min(timing.beat_ns, left_ns) / S / 2)
        if _piece(pool, slot) != first:
            raise Conflict(
                f"host '{record.host}' (slot {slot}) is alive: its block changes",
                hint="if it is this machine, stop the outlast services first; if it is another, "
                "one is a clone and needs a machine id of its own",
            )


def _swap(register: Register, version: int, record: SlotRecord) -> int:
    """The version written; 0 when somebody was faster. Raises StorageTrouble."""
    name = f"slot/{record.slot}"
    answer = register.swap(name, version, slot_to(record))
    until = time.monotonic() + UNKNOWN_WAIT_S
    while answer.outcome is Outcome.UNKNOWN:
        newest, value = register.read(name)
        if newest > version:
            return newest if value == slot_to(record) else 0
        if time.monotonic() > until:
            raise StorageTrouble(
                "the storage did not say whether a slot was taken", hint="join again"
            )
        time.sleep(0.1)
    return answer.version if answer.outcome is Outcome.OK else 0


def _use(register: Register, token: tokens.Token, record: SlotRecord) -> None:
    """Use the token up; the slot is given back when somebody else was faster."""
    try:
        tokens.use(register, token, record.host, record.uuid)
    except Refused:
        version, _ = register.read(f"slot/{record.slot}")
        register.swap(f"slot/{record.slot}", version, slot_to(replace(record, active=False)))
        raise


def _check_alone(register: Register, version: int, record: SlotRecord) -> None:
    """Rule 1, once more with the slot in hand. Raises Conflict after having withdrawn."""
    known = _slots(register)
    lower = {n: held for n, held in known.items() if n < record.slot}
    try:
        twin = _own_slot(lower, record)
        if twin:
            raise Conflict(f"this machine has just joined as slot {twin}")
    except OutlastError:
        register.swap(f"slot/{record.slot}", version, slot_to(replace(record, active=False)))
        raise
