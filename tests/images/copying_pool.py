"""A pool in which things are made, and what must be so whenever that was broken off."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import image_files as make
import pytest
from image_shop import Shop as Web

from outlast.agent.backups import Backups
from outlast.agent.casting import Casting
from outlast.agent.disk_moves import DiskMoves
from outlast.agent.service import Borrowed
from outlast.agent.wishes import Wishes
from outlast.equipment import Repository
from outlast.images import qemu_img, work
from outlast.images.backups import all_of
from outlast.images.clean import clean, found
from outlast.images.clones import Source, Wanted, of_template
from outlast.images.library import Library
from outlast.images.making import make_vm
from outlast.images.pace import silent
from outlast.images.templates import Templates
from outlast.images.uploads import Uploads
from outlast.model import Disk, Lease, LocalVm, VmRecord, VmSpec, VmState
from outlast.pool.facts import Held
from outlast.storage.posix import PosixRegister
from outlast.storage.records import vm_from, vm_to
from outlast.storage.register import Swap
from outlast.wire.disks import BackupWish, DiskMoveWish
from outlast.wire.templates import TemplateOfVm


class OfRunning:
    """Disks of VMs that run, as far as a copy asks for it; it has ended when it has begun."""

    trouble = ""

    def freeze(self, _vm: str) -> bool:
        return False

    def backup(self, _vm: str, targets: Mapping[str, str], rate: int) -> OfRunning:
        for path, target in targets.items():
            qemu_img.convert(Path(path), "qcow2", Path(target), "qcow2", rate, lambda _: None)
        return self

    def wait(self, _limit_s: float) -> bool:
        return True


class OneHost:
    """The service of a host that runs `old` or has it stopped, as far as a copy asks for it."""

    def __init__(self, shop: Shop, runs: bool) -> None:
        self.pool_dir, self._shop, self._runs = str(shop.dir), shop, runs
        self.disks = OfRunning()
        here = {"old": LocalVm("old", VmState.RUNNING)} if runs else {}
        facts = SimpleNamespace(
            registers_ready=True, local_ready=True, local=here, holds=lambda lease: lease.held,
            me=SimpleNamespace(slot=1), view=SimpleNamespace(master=1), leases={},
            vms={"old": self.read_vm("old")}, without=lambda _: "",
        )  # fmt: skip
        self.picture = SimpleNamespace(me=SimpleNamespace(host="a"), facts=facts)

    def read_vm(self, name: str) -> Held[VmRecord] | None:
        record = self._shop.vm(name)
        return Held(self._shop.version(name), record, 0) if record else None

    def write_vm(self, expected: int, record: VmRecord) -> Swap:
        return self._shop.register().swap(f"vm/{record.spec.name}", expected, vm_to(record))

    def agreed(self, _ask: object) -> list[Repository]:
        return [Repository("second", "dir", path=str(self._shop.second))]

    def occupied(self, _kind: str, _vm: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def read_lease(self, vm: str) -> Held[Lease] | None:
        return Held(1, Lease(vm, 1), 0) if self._runs else None

    @contextlib.contextmanager
    def borrow(self, vm: str, _why: str) -> Iterator[Borrowed]:
        record = self._shop.vm(vm)
        assert record is not None
        yield Borrowed(record, tuple)


class Shop:
    """A pool with the image `base`, its template `golden` and its linked clone `old`; elsewhere a
    backup of `old`, and a web server that has the file of `base`."""

    def __init__(self, pool_dir: Path, outside: Path) -> None:
        self.dir, self.outside, self.backups = pool_dir, outside, outside / "backups"
        self.second = outside / "second"  # another storage repository
        for folder in (self.backups, self.second):
            folder.mkdir()
        self.whole: set[tuple[int, int, int]] = set()  # files that were compared already
        for name in ("reg", "tmp"):
            (pool_dir / name).mkdir()
        self.disk = make.raw(outside / "disk.img")
        self.library, self.templates = Library(pool_dir), Templates(pool_dir)
        self.uploads = Uploads(pool_dir)
        self.library.take("base", str(self.disk), rate_bytes_s=0)
        self.templates.create("golden", "base", 64, 1)
        self.deploy("old")
        self.backup(outside / "vault")
        self.web = Web()
        self.web.data = self.disk.read_bytes()

    # ---- what is done

    def take(self) -> None:
        self.library.take("new", str(self.disk), rate_bytes_s=0)

    def fetch(self) -> None:
        sha256 = hashlib.sha256(self.web.data).hexdigest()
        self.library.take("new", self.web.url(), sha256=sha256, rate_bytes_s=0)

    def upload(self) -> None:
        data = self.disk.read_bytes()
        got = self.uploads.begin("new", len(data), hashlib.sha256(data).hexdigest()).got_bytes
        for at in range(got, len(data), 400_000):
            self.uploads.append("new", at, data[at : at + 400_000])
        self.uploads.take("new", 0, silent)

    def remove_image(self) -> None:
        self.library.remove("new")

    def template(self) -> None:
        self.templates.create("new", "base", 64, 1)

    def remove_template(self) -> None:
        self.templates.remove("new")

    def deploy(self, name: str = "new") -> None:
        self.make(name, of_template(self.dir, self.templates.get("golden")), Wanted())

    def clone(self) -> None:
        whole = Wanted(linked=False, rate_bytes_s=0)
        self.make("new", of_template(self.dir, self.templates.get("golden")), whole)

    def restore(self) -> None:
        (saved,) = all_of(self.outside / "vault", "old")
        sizes = tuple(disk.virtual_bytes for disk in saved.disks)
        source = Source(saved.files, sizes, lambda: None)
        self.make("new", source, Wanted(linked=False, rate_bytes_s=0))

    def make(self, name: str, source: Source, wanted: Wanted) -> None:
        def create(paths: list[str]) -> None:
            disks = tuple(Disk(str(self.dir / path), "qcow2") for path in paths)
            record = VmRecord(VmSpec(name, f"u-{name}", 64, 1, disks))
            assert self.register().swap(f"vm/{name}", self.version(name), vm_to(record)).ok

        make_vm(self.dir, name, source, wanted, create)

    def export(self) -> None:
        self.library.export("base", self.outside / "out.vmdk", "vmdk", rate_bytes_s=0)

    def backup(self, folder: Path | None = None, runs: bool = False) -> None:
        where = folder or self.backups
        where.mkdir(exist_ok=True)
        backups = Backups(OneHost(self, runs), lambda: 0.0)  # type: ignore[arg-type]
        backups.begin("old", BackupWish(folder=str(where), rate_bytes_s=0))
        ended(backups)

    def backup_of_running(self) -> None:
        self.backup(runs=True)

    def cast(self, runs: bool = False) -> None:
        casting = Casting(OneHost(self, runs), lambda: 0.0)  # type: ignore[arg-type]
        casting.begin("old", TemplateOfVm(name="new", rate_bytes_s=0))
        ended(casting)

    def cast_of_running(self) -> None:
        self.cast(runs=True)

    def move(self) -> None:
        host: Any = OneHost(self, runs=False)
        moves = DiskMoves(host, Wishes(host))
        moves.look()
        moves.begin("old", DiskMoveWish(to="second", rate_bytes_s=0))
        ended(moves)

    def bring_back(self) -> None:
        old = self.vm("old")
        assert old is not None
        home = self.dir / "images/old.qcow2"
        shutil.move(old.spec.disks[0].path, home)
        back = replace(old, spec=replace(old.spec, disks=(Disk(str(home), "qcow2"),)))
        assert self.register().swap("vm/old", self.version("old"), vm_to(back)).ok

    # ---- what is there then

    def register(self) -> PosixRegister:
        return PosixRegister(self.dir, "test")

    def version(self, name: str) -> int:
        return self.register().read(f"vm/{name}")[0]

    def vm(self, name: str) -> VmRecord | None:
        value = self.register().read(f"vm/{name}")[1]
        record = vm_from(value) if value else None
        return None if record is None or record.deleted else record

    def has_image(self) -> bool:
        return "new" in {image.name for image in self.library.all()}

    def has_template(self) -> bool:
        return "new" in {template.name for template in self.templates.all()}

    def has_no_image(self) -> bool:
        return not self.has_image()

    def has_no_folder(self) -> bool:
        return not (self.templates.folder / "new").exists()

    def has_vm(self) -> bool:
        return self.vm("new") is not None

    def has_backup(self) -> bool:
        return bool(all_of(self.backups, "old"))

    def has_moved(self) -> bool:
        old = self.vm("old")
        return old is not None and old.spec.disks[0].repository == "second"

    def has_file(self) -> bool:
        return (self.outside / "out.vmdk").exists()

    def check(self) -> None:
        """All that can be seen is whole, and what was there before still is."""
        images = {image.name: self.library.files(image) for image in self.library.all()}
        templates = {one.name: self.templates.files(one) for one in self.templates.all()}
        assert (set(images) - {"new"}, set(templates) - {"new"}) == ({"base"}, {"golden"})
        old, new = self.vm("old"), self.vm("new")
        assert old is not None
        vms = [Path(disk.path) for vm in (old, new) if vm for disk in vm.spec.disks]
        strays = {path for path in self.second.iterdir() if path not in vms}
        assert strays == set() or old.disk_move is not None
        exports = [self.outside / "out.vmdk"] if self.has_file() else []
        exports += [file for saved in all_of(self.backups, "old") for file in saved.files]
        for path in chain(*images.values(), *templates.values(), vms, exports):
            seen = path.stat()
            state = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
            if state not in self.whole:
                assert make.same_disk(self.disk, "raw", path, path.suffix[1:]), path
                self.whole.add(state)

    # ---- as if it had not been

    def forget(self) -> None:
        if (vm := self.vm("new")) is not None:
            gone = vm_to(replace(vm, deleted=True))
            assert self.register().swap("vm/new", self.version("new"), gone).ok
            Path(vm.spec.disks[0].path).unlink()
        if self.has_moved():
            self.bring_back()
        if self.has_image():
            self.remove_image()
        if self.has_template():
            self.remove_template()
        (self.outside / "out.vmdk").unlink(missing_ok=True)
        for saved in all_of(self.backups, "old"):
            work.discard(saved.folder)


def ended(copies: Backups | Casting | DiskMoves) -> None:
    """The copy of `old` is whole."""
    while (status := copies.status("old")).state == "running":
        time.sleep(0.01)
    assert status.state == "done", status.sentence


Act = Callable[[Shop], None]
Seen = Callable[[Shop], bool]


def dies(act: Callable[[], object]) -> bool:
    """Do it in a child; False: it came to its end."""
    child = os.fork()
    if not child:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}, "it failed by itself"
    return code != 0


def again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, act: Act, after: Seen
) -> None:  # fmt: skip
    """A second try does it, and what the first one left is gone."""
    shop.check()
    with monkeypatch.context() as later:
        later.setattr(work, "STILL_S", -1.0)  # a minute later
        if not after(shop):
            act(shop)
        clean(shop.dir)
        work.clean(shop.backups)  # as the next backup does
    assert after(shop)
    shop.check()
    assert found(shop.dir, [shop.backups]) == []
