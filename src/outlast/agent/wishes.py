"""Wishes of people become register values: the only writer of VM records besides the pool core.

Rules:
1. Read, change, write if nobody else wrote meanwhile; on a conflict again from the newest record.
   A wish that stands already is answered and not written.
2. "Unknown" is resolved by reading: it was written when the newest record is the wished one. If
   that cannot be found out in time, the caller is told so, and repeating the wish is harmless.
3. A wish is acknowledged only when it is durable. Carrying it out is the pool's business.
4. create: disks first, the record last; a record that was certainly not written leaves no disk.
   delete: the record first (a tombstone), disks last.
"""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from outlast.agent import images
from outlast.agent.furnishing import furnished, unfurnish
from outlast.agent.placing import admission, check_possible, edited
from outlast.agent.service import Service
from outlast.agent.wish_checks import check_host, check_hosts, check_preferred, check_unshared
from outlast.errors import Conflict, NotFound, OutlastError, PoolTrouble, StorageTrouble, TimedOut
from outlast.hypervisor.hardware_xml import pinned
from outlast.model import Desired, Disk, HaOff, Move, StopMode, VmRecord, VmSpec
from outlast.mounts.registry import repositories
from outlast.pool.facts import Facts, Held
from outlast.storage.names import check_name
from outlast.storage.register import Outcome
from outlast.wire.shapes import BadField, VmChange, VmCreate, VmDelete, VmWish
from outlast.wire.sizes import MIB

TRIES = 8
UNKNOWN_WAIT_S = 5.0
DELETE_WAIT_S = 15.0
PAUSE_S = 0.05

_BRIDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
Edit = Callable[[VmRecord], VmRecord]


class _NotKnown(StorageTrouble):
    """Whether a record was written could not be found out."""


class Wishes:
    """What people may wish, through one Service. Methods block; call them from a worker thread."""

    def __init__(
        self,
        service: Service,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        new_uuid: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._service = service
        self._clock, self._sleep, self._new_uuid = clock, sleep, new_uuid

    def create(self, wish: VmCreate) -> VmWish:
        """Raises Conflict, InvalidInput, StorageTrouble."""
        name = check_name(wish.name, "VM name")
        before = self._service.read_vm(name)
        if before is not None and not before.value.deleted:
            raise Conflict(f"there is a VM '{name}' already", hint=f"outlast vm show {name}")
        facts = self._service.picture.facts
        if facts is not None:
            lease = facts.leases.get(name)
            if lease is not None and lease.value.held:
                raise Conflict(
                    f"the deleted VM '{name}' is still being ended", hint="try again in a moment"
                )
        record, planned = self._record(wish, facts)
        made = images.make(planned)
        try:
            version = self._write(before.version if before else 0, record)
        except _NotKnown:
            raise  # the record may be there, so its disks stay
        except OutlastError:
            images.remove(made)
            raise
        if version == 0:
            after = self._service.read_vm(name)
            if after is None or after.value.spec.uuid != record.spec.uuid:
                images.remove(made)
                raise Conflict(f"somebody else has just made a VM '{name}'")
            version = after.version  # made here, and changed by somebody since
        return VmWish(name=name, version=version, changed=True, sentence=f"{name} is created")

    def start(self, name: str) -> VmWish:
        """Raises NotFound, Conflict, PoolTrouble when the pool admits no more, StorageTrouble."""
        careful = ""

        def edit(record: VmRecord) -> VmRecord:
            nonlocal careful
            if record.wanted:
                return record
            careful = admission(self._service, record)
            return replace(
                record,
                desired=Desired.RUNNING,
                stop_mode=StopMode.SHUTDOWN,
                held_down="",
                start_seq=record.start_seq + 1,
            )

        done = self.change(name, edit, f"{name} shall run", f"{name} shall run already")
        return _carefully(done, careful)

    def place(self, name: str, change: VmChange) -> VmWish:
        """Change where and when it runs; what runs stays where it is.

        Raises NotFound, BadField, PoolTrouble (admission of a larger one), StorageTrouble.
        """
        picture = self._service.picture
        check_hosts(change, picture.facts)
        careful = ""

        def edit(record: VmRecord) -> VmRecord:
            nonlocal careful
            after = edited(record, change)
            if picture.facts is not None:
                check_possible(picture.facts, picture.settings, after)
            if after.wanted and after.spec != record.spec:
                careful = admission(self._service, after)
            return after

        said = f"{name} is placed so from its next start on"
        return _carefully(self.change(name, edit, said, f"{name} is placed so already"), careful)

    def stop(self, name: str) -> VmWish:
        """Ask the system inside to shut down. Raises NotFound, Conflict, StorageTrouble."""

        def edit(record: VmRecord) -> VmRecord:
            if record.desired is Desired.STOPPED:
                return record
            return replace(record, desired=Desired.STOPPED, stop_mode=StopMode.SHUTDOWN)

        return self.change(name, edit, f"{name} shall stop", f"{name} shall be stopped already")

    def kill(self, name: str) -> VmWish:
        """End it at once. Raises NotFound, Conflict, StorageTrouble."""

        def edit(record: VmRecord) -> VmRecord:
            return replace(record, desired=Desired.STOPPED, stop_mode=StopMode.KILL)

        said = f"{name} shall end at once"
        return self.change(name, edit, said, f"{said} already")

    def set_ha(self, name: str, off: HaOff | None) -> VmWish:
        """Switch its high availability off, or on with None. Raises NotFound, StorageTrouble."""
        word = "off" if off else "on"
        return self.change(
            name, lambda record: replace(record, ha_off=off), f"HA of {name} is {word}",
            f"HA of {name} is {word} already",
        )  # fmt: skip

    def migrate(self, name: str, to: str, why: str = "somebody wished it") -> VmWish:
        """Move it while it runs; to: a host, "" = the pool chooses.

        Raises NotFound, Conflict when it does not run or is on its way already, BadField for a
        host that is none, StorageTrouble.
        """
        facts = self._service.picture.facts
        if to:
            check_host(to, "to", facts)
        wish = Move(secrets.token_hex(8), to, why)

        def edit(record: VmRecord) -> VmRecord:
            if not record.wanted:
                raise Conflict(f"'{name}' shall not run", hint=f"outlast vm start {name}")
            if record.move is not None and not record.move.failed:
                where = f" to {record.move.to}" if record.move.to else ""
                raise Conflict(
                    f"'{name}' shall move{where} already",
                    hint=f"outlast vm migrate {name} --cancel",
                )
            if to and record.preferred and to not in record.preferred:
                raise Conflict(f"{to} is not on the list of preferred hosts of '{name}'")
            if why := pinned(record.spec):
                raise Conflict(
                    f"'{name}' cannot move while it runs: {why}",
                    hint=f"stop it, and start it elsewhere: outlast vm stop {name}",
                )
            return replace(record, move=wish)

        self._check_runs(name, to, facts)
        said = f"{name} shall move to {to}" if to else f"{name} shall move to another host"
        return self.change(name, edit, said, said)

    def stay(self, name: str) -> VmWish:
        """Take back the wish to move it. Raises NotFound, Conflict, StorageTrouble."""

        def edit(record: VmRecord) -> VmRecord:
            return replace(record, move=None)

        return self.change(name, edit, f"{name} stays where it is", f"{name} shall not move")

    def delete(self, name: str, how: VmDelete) -> VmWish:
        """Leave a tombstone; disks go only when asked for.

        Raises NotFound, Conflict while it runs or is held, TimedOut, StorageTrouble.
        """
        held = self._existing(name)
        busy = self._busy(held)
        if busy and not how.force:
            raise Conflict(f"'{name}' is not deleted: {busy}", hint=f"outlast vm stop {name}")
        if busy:
            self.kill(name)
            self._wait_until_free(name)

        def edit(record: VmRecord) -> VmRecord:
            if record.desired is Desired.RUNNING and not record.held_down:
                raise Conflict(f"'{name}' is not deleted: somebody has just started it")
            if record.disk_move is not None:
                raise Conflict(f"'{name}' is not deleted: a disk of it is on its way")
            return replace(record, deleted=True, desired=Desired.STOPPED)

        done = self.change(name, edit, f"{name} is deleted", f"{name} is deleted already")
        if not how.with_disks:
            return done
        left = self._remove_disks(name, held.value.spec.disks) + unfurnish(held.value.spec)
        sentence = f"{name} and its disks are deleted"
        return done.model_copy(update={"sentence": "; but ".join([sentence, *left])})

    def change(self, name: str, edit: Edit, said: str, said_already: str) -> VmWish:
        """Change its record, from the newest one. Raises NotFound, Conflict, StorageTrouble."""
        for _ in range(TRIES):
            held = self._existing(name)
            record = edit(held.value)
            if record == held.value:
                return VmWish(name=name, version=held.version, changed=False, sentence=said_already)
            version = self._write(held.version, record)
            if version:
                return VmWish(name=name, version=version, changed=True, sentence=said)
            self._sleep(PAUSE_S)
        raise Conflict(f"others change '{name}' all the time", hint="try again in a moment")

    # ---- parts

    def _record(self, wish: VmCreate, facts: Facts | None) -> tuple[VmRecord, list[images.Planned]]:
        pool_dir = self._service.pool_dir
        if wish.memory % MIB:
            raise BadField("memory: it must be whole MiB", field="memory")
        for field in ("kernel", "initrd", "cmdline", "serial_log"):
            if any(ord(c) < 32 for c in getattr(wish, field)):
                raise BadField(f"{field}: it has control characters in it", field=field)
        if (wish.initrd or wish.cmdline) and not wish.kernel:
            raise BadField("kernel: initrd and cmdline need a kernel", field="kernel")
        paths = {}
        for field in ("kernel", "initrd", "serial_log"):
            text = getattr(wish, field)
            paths[field] = images.check_path(pool_dir, text, field) if text else ""
            if text and field == "serial_log":
                images.check_folder_of(paths[field], field)
            elif text:
                images.check_file(paths[field], field)
        check_preferred(wish.preferred, facts)
        for bridge in wish.networks:
            if not _BRIDGE.fullmatch(bridge):
                raise BadField(f"networks: {bridge[:40]!r} is no bridge name", field="networks")
        roots = {one.name: one.path for one in self._service.agreed(repositories)}
        planned = images.plan(pool_dir, roots, wish.name, wish.disks, wish.use_existing)
        check_unshared(planned, facts)
        spec = VmSpec(
            wish.name, self._new_uuid(), wish.memory // MIB, wish.vcpus,
            tuple(item.disk for item in planned), paths["kernel"], paths["initrd"], wish.cmdline,
            paths["serial_log"], tuple(wish.networks), wish.machine,
        )  # fmt: skip
        spec = furnished(spec, pool_dir, wish)
        record = VmRecord(
            spec, ha=wish.ha, preferred=tuple(wish.preferred), on_shutdown=wish.on_shutdown
        )
        check_hosts(wish.placing, facts)
        record = edited(record, wish.placing)
        if facts is not None:
            check_possible(facts, self._service.picture.settings, record)
            if why := facts.away(spec):
                raise StorageTrouble(f"'{wish.name}' cannot be made here: {why}")
        return record, planned

    def _existing(self, name: str) -> Held[VmRecord]:
        check_name(name, "VM name")
        held = self._service.read_vm(name)
        if held is None or held.value.deleted:
            raise NotFound(f"there is no VM '{name}'", hint="outlast vm list")
        return held

    def _write(self, expected: int, record: VmRecord) -> int:
        """The version written; 0 when somebody else was faster. Raises StorageTrouble."""
        answer = self._service.write_vm(expected, record)
        if answer.outcome is Outcome.OK:
            return answer.version
        if answer.outcome is Outcome.CONFLICT:
            return 0
        name = record.spec.name
        until = self._clock() + UNKNOWN_WAIT_S
        while self._clock() < until:
            try:
                held = self._service.read_vm(name)
            except StorageTrouble:
                held = None
            if held is not None and held.value == record:
                return held.version
            if held is not None and held.version > expected + 1:
                return 0  # ours may have been in between; from the newest record it is wished again
            if held is not None and held.version == expected + 1:
                return 0
            self._sleep(PAUSE_S)
        raise _NotKnown(
            f"the storage did not say whether the wish about '{name}' was written",
            hint=f"look with 'outlast vm show {name}'; wishing it again does no harm",
        )

    def _check_runs(self, name: str, to: str, facts: Facts | None) -> None:
        """Refuse what cannot come to anything."""
        lease = facts.leases.get(name) if facts else None
        if facts is None or lease is None or not lease.value.held:
            self._existing(name)
            raise Conflict(f"'{name}' does not run", hint=f"outlast vm start {name}")
        holder = facts.slots.get(lease.value.slot)
        if holder is not None and holder.host == to:
            raise Conflict(f"'{name}' is on {to} already")

    def _busy(self, held: Held[VmRecord]) -> str:
        """Why a VM is not at rest; "" when it is."""
        record, name = held.value, held.value.spec.name
        facts = self._service.picture.facts
        if facts is None or not facts.registers_ready:
            trouble = self._service.picture.trouble or "the leases were not read yet"
            raise PoolTrouble(
                f"whether '{name}' runs is not known: {trouble}",
                hint="try again when this host is a member of the pool",
            )
        lease = facts.leases.get(name)
        if lease is not None and lease.value.held:
            record_of = facts.slots.get(lease.value.slot)
            host = record_of.host if record_of else f"slot {lease.value.slot}"
            return f"{host} holds its lease"
        if name in facts.local or name in facts.guard.populated:
            return f"it still runs on {facts.me.host}"
        return "it is wanted to run" if record.wanted else ""

    def _wait_until_free(self, name: str) -> None:
        until = self._clock() + DELETE_WAIT_S
        while busy := self._busy(self._existing(name)):
            if self._clock() > until:
                raise TimedOut(
                    f"'{name}' has not ended within {DELETE_WAIT_S:g} s: {busy}",
                    hint="it shall stop; delete it again when it has",
                )
            self._sleep(PAUSE_S)

    def _remove_disks(self, name: str, disks: tuple[Disk, ...]) -> list[str]:
        facts = self._service.picture.facts
        others = {
            disk.path: other
            for other, held in (facts.vms.items() if facts else ())
            if other != name and not held.value.deleted
            for disk in held.value.spec.disks
        }
        away = {d.path: facts.without(d.repository) for d in disks} if facts else {}
        kept = {path: why for path, why in away.items() if why}
        kept |= {d.path: "it is no file" for d in disks if d.kind != "file"}
        kept |= {d.path: f"{others[d.path]} uses it" for d in disks if d.path in others}
        left = [f"{path} is left: {why}" for path, why in kept.items()]
        return left + images.remove([d.path for d in disks if d.path not in kept])


def _carefully(done: VmWish, warning: str) -> VmWish:
    """What was done, with what admission says of it."""
    if not (done.changed and warning):
        return done
    return done.model_copy(update={"sentence": f"{done.sentence}; {warning}"})
