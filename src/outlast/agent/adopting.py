"""Domains of this host's libvirt become VMs of the pool.

Rules:
1. A domain that runs, or that the pool could not run as it was, is refused with every reason.
2. libvirt forgets the domain before the VM is made: at no moment can both be started, for nothing
   but the guard's own domains may write to a disk of the pool. Its definition is kept in a file
   first, and given back when the VM was certainly not made.
3. Disks are taken where they are, on storage of the pool, or as copies that the caller made.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from outlast.agent import images
from outlast.agent.service import Service
from outlast.agent.wishes import Wishes
from outlast.errors import Conflict, InvalidInput, NotFound, StorageTrouble
from outlast.hypervisor.adoption import Definition, Foreigners, Found, FoundDisk, read
from outlast.images.look import backing_of
from outlast.mounts.registry import repositories
from outlast.storage.names import check_name
from outlast.wire.disks import AdoptWish, ForeignDisk, ForeignDomain
from outlast.wire.shapes import BadField, DiskWish, VmCreate, VmWish, make


class Adopting:
    """Of one host. Methods block; for worker threads."""

    def __init__(self, service: Service, wishes: Wishes, kept: Path) -> None:
        self._service, self._wishes, self._kept = service, wishes, kept

    @property
    def _foreigners(self) -> Foreigners:
        return self._service.foreigners

    def all(self) -> list[ForeignDomain]:
        """Every foreign domain of this host. Raises HypervisorTrouble."""
        found = []
        for name in self._foreigners.names():
            with contextlib.suppress(NotFound):
                found.append(self.look(name))
        return found

    def look(self, domain: str) -> ForeignDomain:
        """What it is and what speaks against it. Raises NotFound, HypervisorTrouble."""
        definition = self._foreigners.definition(domain)
        found = read(definition.xml)
        refusals = [*([definition.note] if definition.note else []), *found.refusals]
        disks = [
            ForeignDisk(path=d.path, format=d.format, bus=d.bus, away=away)
            for d, away in zip(found.disks, self._away(found), strict=True)
        ]
        return ForeignDomain(
            name=domain, uuid=found.uuid, memory_mib=found.memory_mib, vcpus=found.vcpus,
            machine=found.machine, disks=disks, networks=list(found.networks),
            refusals=refusals, lost=list(found.lost), remarks=list(found.remarks),
        )  # fmt: skip

    def adopt(self, domain: str, wish: AdoptWish) -> VmWish:
        """Raises NotFound, Conflict with every reason, InvalidInput, StorageTrouble."""
        check_name(wish.name, "VM name")
        definition = self._foreigners.definition(domain)
        found = read(definition.xml)
        self._check(domain, definition, found, wish)
        paths = wish.disks or [disk.path for disk in found.disks]
        create = make(
            VmCreate, name=wish.name, memory=found.memory_mib << 20, vcpus=found.vcpus,
            use_existing=True, machine=found.machine,
            networks=list(found.networks) if wish.networks is None else wish.networks,
            disks=[{"path": p, "bus": d.bus} for p, d in zip(paths, found.disks, strict=True)],
        )  # fmt: skip
        path = self._keep(domain, definition.xml)
        self._foreigners.undefine(domain)
        try:
            done = self._wishes.create(create)
        except StorageTrouble as error:
            error.hint = f"look: outlast vm show {wish.name}; libvirt's definition is in {path}"
            raise
        except BaseException:
            self._foreigners.define(definition.xml)
            raise
        said = f"{wish.name} is adopted; libvirt's definition of '{domain}' is kept in {path}"
        return done.model_copy(update={"sentence": said})

    # ---- parts

    def _check(self, domain: str, definition: Definition, found: Found, wish: AdoptWish) -> None:
        against = [*([definition.note] if definition.note else []), *found.refusals]
        if wish.networks is None:
            against += found.lost
        if against:
            raise Conflict(
                f"'{domain}' cannot be adopted: {'; '.join(against)}",
                hint="--network BRIDGE puts its network cards on a bridge" if found.lost else "",
            )
        if wish.disks is not None and len(wish.disks) != len(found.disks):
            raise InvalidInput(f"'{domain}' has {len(found.disks)} disks, not {len(wish.disks)}")
        away = self._away(found) if wish.disks is None else []
        if any(away):
            raise Conflict(
                f"'{domain}' cannot be adopted: {'; '.join(filter(None, away))}",
                hint="--copy copies its disks to the pool's storage",
            )
        for other in self._foreigners.names():
            with contextlib.suppress(NotFound):
                theirs = {disk.path for disk in read(self._foreigners.definition(other).xml).disks}
                shared = theirs & {disk.path for disk in found.disks}
                if other != domain and shared and wish.disks is None:
                    raise Conflict(f"the domain '{other}' has the same disk: {min(shared)}")

    def _away(self, found: Found) -> list[str]:
        """Of each disk why the pool cannot use it where it is, "" when it can."""
        roots = {one.name: one.path for one in self._service.agreed(repositories)}
        return [self._disk_away(disk, roots) for disk in found.disks]

    def _disk_away(self, disk: FoundDisk, roots: Mapping[str, str]) -> str:
        wish = make(DiskWish, path=disk.path)
        try:
            _, store = images.find_disk(self._service.pool_dir, roots, wish, "", disk.path)
            base = backing_of(Path(disk.path))
        except BadField:
            return f"its disk {disk.path} is not on the pool's storage"
        except OSError as error:
            return f"its disk {disk.path} cannot be read: {error.strerror}"
        facts = self._service.picture.facts
        if facts is not None and (why := facts.without(store)):
            return f"its disk {disk.path} cannot be used now: {why}"
        if (disk.format == "qcow2") != disk.path.endswith(".qcow2"):
            return f"its disk {disk.path} is {disk.format}, which its name does not say"
        return f"its disk {disk.path} lies over {base}" if base else ""

    def _keep(self, domain: str, xml: str) -> Path:
        """Write a definition down, on the disk. Raises StorageTrouble."""
        path = self._kept / f"{domain.replace('/', '_')}.xml"
        try:
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8") as file:
                file.write(xml)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageTrouble(f"{path} cannot be written: {error.strerror}") from error
        return path
