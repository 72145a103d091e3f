"""Networks, storage, images and templates of a pretend pool, as its agents tell of them.

Networks and storage are the real registries over a register in memory, so what they refuse is
refused here too; how they stand on hosts is what a test says.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel

from outlast.equipment import Network, Repository
from outlast.errors import Conflict, NotFound, OutlastError, Unreachable
from outlast.mounts import registry as stores
from outlast.network import registry as nets
from outlast.storage.memory import MemoryRegister
from outlast.wire.disks import BackupStatus, JobStatus, Snapshot
from outlast.wire.equipment import (
    NetworkChange,
    NetworkInfo,
    NetworkStanding,
    NetworkWish,
    OrphanInfo,
    StorageInfo,
    StorageStanding,
    StorageWish,
)
from outlast.wire.images import ImageImport, ImageInfo, ImportStatus, UploadStatus, UploadWish
from outlast.wire.shapes import PoolWish, VmStatus, parse
from outlast.wire.templates import TemplateInfo, TemplateMaking, TemplateOfVm, TemplateWish

GIB = 1 << 30
POOL_DIR = Path("/srv/pool")


class PretendStock:
    """What all agents of one pool know; `lacks` and `deaf` are by (thing, host)."""

    def __init__(self) -> None:
        self.register = MemoryRegister()
        nets.create(self.register, Network("lan", "eno1", (), 20))
        stores.add(self.register, Repository("fast", "nfs", "flash:/vms"), POOL_DIR)
        self.lacks: dict[tuple[str, str], str] = {}
        self.deaf: dict[tuple[str, str], tuple[str, ...]] = {}
        self.images = {"debian-12": self._image("debian-12", "https://images.example/d12.qcow2")}
        self.templates = {
            "small": TemplateInfo(name="small", image="debian-12", memory_mib=2048, vcpus=1,
                                  disks=1, note="for all", vms=["api-prod-0000"])
        }  # fmt: skip
        self.jobs: dict[str, ImportStatus] = {}
        self.sent: dict[str, tuple[UploadWish, bytearray]] = {}
        self.snapshots = {"db-prod-0018": {"before-upgrade": 90_000, "half": 4000}}
        self.loose = {"old-web.raw": 40 * GIB, "fast:spare.qcow2": 3 * GIB}
        self.breaks = 0  # so many pieces are lost on their way
        self.making: dict[str, TemplateMaking] = {}  # by VM
        self.asked: list[tuple[Any, ...]] = []  # what was wished of disks

    def _image(self, name: str, source: str) -> ImageInfo:
        return ImageInfo(
            name=name, disks=1, virtual_bytes=2 * GIB, stored_bytes=600 << 20, source=source,
            kind="qcow2", sha256="9f86d081884c7d65" * 4, created_wall_s=time.time() - 9000,
            by_host="fra-kvm-01",
        )  # fmt: skip

    def imported(self, name: str) -> None:
        """What an import leads to in the end."""
        job = self.jobs[name]
        self.jobs[name] = job.model_copy(
            update={"state": "done", "sentence": f"{name} is imported"}
        )
        self.images[name] = self._image(name, "elsewhere")

    def answer(self, host: str, vms: list[VmStatus], method: str, path: str, body: bytes) -> bytes:
        what, *rest = path.removeprefix("/v1/").split("/")
        name = rest[0] if rest else ""
        found = getattr(self, f"_{method.lower()}_{what}")(host, vms, name, rest[1:], body)
        if isinstance(found, list):
            return json.dumps([one.model_dump() for one in found]).encode()
        assert isinstance(found, BaseModel)
        return found.model_dump_json().encode()

    def _get_networks(self, host: str, vms: list[VmStatus], *_: Any) -> list[NetworkInfo]:
        return [
            NetworkInfo(
                name=n.name, uplink=n.uplink, uplinks_of=list(n.uplinks_of), vlan=n.vlan, mtu=n.mtu,
                vms=[vm.name for vm in vms if n.name in vm.networks],
                hosts=[NetworkStanding(
                    host=host, there=(n.name, host) not in self.lacks, uplink=n.uplink,
                    sentence=self.lacks.get((n.name, host), ""),
                    deaf=list(self.deaf.get((n.name, host), ())),
                )],
            )
            for n in nets.networks(self.register)
        ]  # fmt: skip

    def _post_networks(self, host: str, vms: Any, name: str, rest: Any, body: bytes) -> PoolWish:
        w = parse(NetworkWish, body)
        nets.create(self.register, Network(w.name, w.uplink, tuple(w.uplinks_of), w.vlan, w.mtu))
        return _done(f"every host makes the network {w.name}")

    def _patch_networks(self, host: str, vms: Any, name: str, rest: Any, body: bytes) -> PoolWish:
        told = parse(NetworkChange, body).model_dump(exclude_none=True)
        nets.change(self.register, name, lambda old: replace(old, **told))
        return _done(f"every host changes the network {name}")

    def _delete_networks(self, host: str, vms: Any, name: str, *_: Any) -> PoolWish:
        nets.remove(self.register, name)
        return _done(f"{name} is removed")

    def _get_orphans(self, host: str, vms: Any, *_: Any) -> list[OrphanInfo]:
        return [OrphanInfo(name=n, path=f"{POOL_DIR}/images/{n}", size_bytes=size,
                           changed_wall_s=time.time() - 9000)
                for n, size in self.loose.items()]  # fmt: skip

    def _delete_orphans(self, host: str, vms: Any, name: str, *_: Any) -> PoolWish:
        if self.loose.pop(unquote(name), None) is None:
            raise NotFound(f"there is no disk {name!r} that no VM names")
        return _done(f"{name} is deleted")

    def _get_storage(self, host: str, vms: list[VmStatus], *_: Any) -> list[StorageInfo]:
        own = Repository("pool", "nfs4", "", str(POOL_DIR))
        return [
            StorageInfo(
                **asdict(one) | {"options": list(one.options)}, own=one is own,
                vms=[vm.name for vm in vms] if one is own else [],
                hosts=[StorageStanding(
                    host=host, there=(one.name, host) not in self.lacks, size_bytes=4000 * GIB,
                    sentence=self.lacks.get((one.name, host), ""), free_bytes=1500 * GIB,
                )],
            )
            for one in (own, *stores.repositories(self.register))
        ]  # fmt: skip

    def _post_storage(self, host: str, vms: Any, name: str, rest: Any, body: bytes) -> PoolWish:
        w = parse(StorageWish, body)
        wished = Repository(w.name, w.kind, w.source, w.path, tuple(w.options))
        made = stores.add(self.register, wished, POOL_DIR)
        return _done(f"every host has {made.name} at {made.path} in a moment")

    def _delete_storage(self, host: str, vms: Any, name: str, *_: Any) -> PoolWish:
        stores.remove(self.register, name)
        return _done(f"{name} is unmounted")

    def _get_images(
        self, host: str, vms: Any, name: str, *_: Any
    ) -> list[ImageInfo] | ImportStatus:
        if not name:
            return sorted(self.images.values(), key=lambda i: i.name)
        if name not in self.jobs:
            raise NotFound("none was begun here")
        return self.jobs[name]

    def _put_images(self, host: str, vms: Any, name: str, rest: Any, body: bytes) -> UploadStatus:
        wish, got = self.sent[name]
        if self.breaks:
            self.breaks -= 1
            raise Unreachable("the line broke")
        assert int(rest[0].partition("offset=")[2]) == len(got)
        got += body
        return UploadStatus(name=name, size_bytes=wish.size_bytes, got_bytes=len(got))

    def _begin(self, name: str, wish: UploadWish) -> UploadStatus:
        if self.sent.get(name, (None,))[0] != wish:
            self.sent[name] = wish, bytearray()
        got = len(self.sent[name][1])
        return UploadStatus(name=name, size_bytes=wish.size_bytes, got_bytes=got)

    def _post_vms(
        self, host: str, vms: Any, name: str, rest: Any, body: bytes
    ) -> JobStatus:  # fmt: skip
        if rest != ["template"]:
            self.asked.append((*rest, name, json.loads(body)))
            return _worked(rest[0], name)
        wish = parse(TemplateOfVm, body)
        self.making[name] = TemplateMaking(
            vm=name, template=wish.name, state="running", sentence=f"copying the disks of {name}",
            done_bytes=40, total_bytes=100,
        )  # fmt: skip
        return self.making[name]

    def _get_vms(
        self, host: str, vms: Any, name: str, rest: Any, body: bytes
    ) -> JobStatus | list[Snapshot]:
        if rest == ["snapshots"]:
            return [Snapshot(name=n, taken_wall_s=int(time.time()) - ago_s, whole=n != "half")
                    for n, ago_s in self.snapshots.get(name, {}).items()]  # fmt: skip
        if rest in (["backup"], ["disk-move"]):
            return _worked(rest[0], name)
        if name not in self.making:
            raise NotFound("none was begun here")
        return self.making[name]

    def _post_images(
        self, host: str, vms: Any, name: str, rest: Any, body: bytes
    ) -> ImportStatus | UploadStatus:
        if rest == ["upload"]:
            return self._begin(name, parse(UploadWish, body))
        if rest == ["import"]:
            parse(ImageImport, body)
        if name in self.images:
            raise Conflict(f"there is an image '{name}' already")
        self.jobs[name] = ImportStatus(
            name=name, state="running", sentence=f"fetching {name}", done_bytes=40, total_bytes=100
        )
        return self.jobs[name]

    def _delete_images(
        self, host: str, vms: Any, name: str, rest: list[str], body: bytes
    ) -> PoolWish | ImportStatus:
        if rest:
            self.jobs[name] = self.jobs[name].model_copy(
                update={"state": "failed", "sentence": "broken off by wish"}
            )
            return self.jobs[name]
        _take(self.images, name, NotFound(f"there is no image '{name}'"))
        return _done(f"the image {name} is deleted")

    def _get_templates(self, *_: Any) -> list[TemplateInfo]:
        return sorted(self.templates.values(), key=lambda t: t.name)

    def _post_templates(self, host: str, vms: Any, name: str, rest: Any, body: bytes) -> PoolWish:
        w = parse(TemplateWish, body)
        self.templates[w.name] = TemplateInfo(
            name=w.name, image=w.image, memory_mib=w.memory >> 20, vcpus=w.vcpus, disks=1,
            networks=w.networks, note=w.note,
        )  # fmt: skip
        return _done(f"the template {w.name} is made")

    def _delete_templates(self, host: str, vms: Any, name: str, *_: Any) -> PoolWish:
        _take(self.templates, name, NotFound(f"there is no template '{name}'"))
        return _done(f"the template {name} is deleted")


def _take(things: dict[str, Any], name: str, missing: OutlastError) -> None:
    if things.pop(name, None) is None:
        raise missing


def _worked(what: str, vm: str) -> BackupStatus:
    return BackupStatus(vm=vm, state="done", sentence=f"the {what} of {vm} is done")


def _done(sentence: str) -> PoolWish:
    return PoolWish(changed=True, sentence=sentence)
