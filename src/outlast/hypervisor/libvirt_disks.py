"""Disks of running VMs through libvirt: snapshots inside qcow2, copies by QEMU's backup job.

What is done how (seen with libvirt 9.0 and QEMU 7.2):
1. libvirt itself makes no snapshots of disks alone inside their files, so QEMU is asked through it:
   one transaction for all disks, which keeps all of them or none. libvirt's own state is not
   touched by that; it notes that somebody spoke with its QEMU, no more.
2. A copy is libvirt's backup in push mode, without checkpoints: nothing of it stays at the VM.
3. A mirror is libvirt's block copy. It is level when libvirt says that it is ready: only then the
   disk may be changed over. The target is a file of ours; the copy is whole, without a base.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import libvirt_qemu

from outlast.errors import Conflict, HypervisorTrouble, NotFound
from outlast.hypervisor.disks import Mirror
from outlast.hypervisor.libvirt_rest import Ask, Resting
from outlast.hypervisor.mover import Progress

ANSWER_S, LONG_S, POLL_S = 10.0, 60.0, 0.2
BUFFER_BYTES = 256 << 10  # that a mirror has on its way at most; QEMU's own default is 16 MiB


class LibvirtDisks:
    """See disks.Disks. ask: carries out something on a VM's domain, in limited time."""

    def __init__(self, ask: Ask, resting: Resting) -> None:
        self._ask = ask
        self.freeze, self.thaw = resting.freeze, resting.thaw
        self._copies: dict[str, LibvirtCopy] = {}  # by VM, the newest of this process
        self._one = threading.Lock()  # begins at a time

    def snapshot(self, name: str, paths: Sequence[str], snapshot: str) -> None:
        def keep(dom: Any) -> None:
            actions = [
                {
                    "type": "blockdev-snapshot-internal-sync",
                    "data": {"device": drive, "name": snapshot},
                }
                for drive in _drives(dom, paths)
            ]
            _qmp(dom, "transaction", {"actions": actions})

        self._ask("snapshot", name, keep, LONG_S)

    def drop_snapshot(self, name: str, paths: Sequence[str], snapshot: str) -> None:
        def drop(dom: Any) -> None:
            for drive in _drives(dom, paths):
                try:
                    _qmp(
                        dom, "blockdev-snapshot-delete-internal-sync",
                        {"device": drive, "name": snapshot},
                    )  # fmt: skip
                except HypervisorTrouble as trouble:
                    if "does not exist" not in trouble.sentence:
                        raise

        self._ask("snapshot", name, drop, LONG_S)

    def backup(self, name: str, targets: Mapping[str, str], rate_bytes_s: int) -> LibvirtCopy:
        copy = LibvirtCopy(self._ask, name)

        def begin(dom: Any) -> None:
            _end_stray(dom)
            files = {path: target for path, (target, _) in _plugged(dom).items()}
            xml = ET.Element("domainbackup", mode="push")
            disks = ET.SubElement(xml, "disks")
            for path, target in files.items():
                disk = ET.SubElement(disks, "disk", name=target)
                if path not in targets:
                    disk.set("backup", "no")
                    continue
                disk.set("type", "file")
                ET.SubElement(disk, "target", file=targets[path])
                ET.SubElement(disk, "driver", type="qcow2")
            _check_all(targets, files)
            dom.backupBegin(ET.tostring(xml, encoding="unicode"), None, 0)
            if rate_bytes_s:
                _limit(dom, rate_bytes_s)

        with self._one:
            former = self._copies.get(name)
            if former is not None and not former.wait(0):
                raise Conflict(f"the disks of '{name}' are being copied", hint="wait for the end")
            self._ask("backup", name, begin, LONG_S)
            copy.begin()
            self._copies[name] = copy
        return copy

    def limit(self, name: str, rate_bytes_s: int) -> None:
        self._ask("limit", name, lambda dom: _limit(dom, rate_bytes_s), LONG_S)

    def files(self, name: str) -> list[str]:
        found: list[str] = []
        self._ask("disks", name, lambda dom: found.extend(_plugged(dom)), ANSWER_S)
        return found

    def mirror(self, name: str, path: str, target: str, kind: str, rate_bytes_s: int) -> None:
        disk = ET.Element("disk", type="file")
        ET.SubElement(disk, "source", file=target)
        ET.SubElement(disk, "driver", type=kind)
        xml = ET.tostring(disk, encoding="unicode")
        flags = (
            libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        )
        limit = {"buf-size": BUFFER_BYTES, **({"bandwidth": rate_bytes_s} if rate_bytes_s else {})}

        def begin(dom: Any) -> None:
            dom.blockCopy(_target(dom, path), xml, limit, flags)

        self._ask("copy", name, begin, LONG_S)

    def mirrored(self, name: str, path: str) -> Mirror | None:
        found: list[Mirror] = []

        def look(dom: Any) -> None:
            now, mirror = dom.blockJobInfo(_target(dom, path), 0), _mirror(dom, path)
            if now and mirror is not None:
                level = mirror.get("ready") == "yes" and now["cur"] == now["end"]
                found.append(Mirror(int(now["cur"]), int(now["end"]), level))

        self._ask("copy", name, look, ANSWER_S)
        return found[0] if found else None

    def give_up(self, name: str, path: str) -> None:
        def end(dom: Any) -> None:
            if _mirror(dom, path) is not None:
                dom.blockJobAbort(_target(dom, path), 0)

        self._ask("copy", name, end, LONG_S)

    def hold(self, name: str) -> None:
        self._ask("hold", name, lambda dom: dom.suspend(), LONG_S)

    def go_on(self, name: str) -> None:
        def resume(dom: Any) -> None:
            if dom.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
                dom.resume()

        self._ask("resume", name, resume, LONG_S)

    def pivot(self, name: str, path: str, target: str) -> None:
        def change_over(dom: Any) -> None:
            if dom.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
                raise HypervisorTrouble(f"'{name}' does not stand still")
            dom.blockJobAbort(_target(dom, path), libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
            if target not in _plugged(dom):
                raise HypervisorTrouble(f"QEMU did not take {target} for the disk of '{name}'")

        self._ask("pivot", name, change_over, LONG_S)


class LibvirtCopy:
    """See disks.Copy."""

    def __init__(self, ask: Ask, name: str) -> None:
        self._ask, self._name = ask, name
        self._ended, self._given_up = threading.Event(), threading.Event()
        self._trouble = ""
        self._progress = Progress()

    def begin(self) -> None:
        threading.Thread(target=self._watch, name=f"backup {self._name}", daemon=True).start()

    def wait(self, limit_s: float) -> bool:
        return self._ended.wait(limit_s)

    @property
    def trouble(self) -> str:
        return self._trouble

    def progress(self) -> Progress:
        return self._progress

    def abort(self) -> None:
        self._given_up.set()

    def _watch(self) -> None:
        try:
            while not self._look():
                if self._given_up.wait(POLL_S):
                    self._ask("backup", self._name, lambda dom: dom.abortJob(), ANSWER_S)
                    self._trouble = "it was given up"
                    return
        except (HypervisorTrouble, NotFound) as error:
            self._trouble = f"the VM or its hypervisor went away meanwhile: {error.sentence}"
        finally:
            self._ended.set()

    def _look(self) -> bool:
        """True when it has ended."""
        ended: list[bool] = []

        def look(dom: Any) -> None:
            now = dom.jobStats()
            if now.get("type", 0) != libvirt.VIR_DOMAIN_JOB_NONE:
                done, all_ = int(now.get("disk_processed", 0)), int(now.get("disk_total", 0))
                self._progress = Progress(done, all_ - done, all_)
                return
            ended.append(True)
            last = dom.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
            if last.get("operation") != libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP:
                self._trouble = "libvirt does not say how it ended"
            elif not last.get("success"):
                self._trouble = str(last.get("errmsg") or "a disk could not be copied")

        self._ask("backup", self._name, look, ANSWER_S)
        return bool(ended)


def _qmp(dom: Any, command: str, arguments: Mapping[str, object]) -> Any:
    """Raises HypervisorTrouble with QEMU's words."""
    text = json.dumps({"execute": command, "arguments": arguments})
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(dom, text, 0))
    if "error" in answer:
        raise HypervisorTrouble(str(answer["error"].get("desc")), hint="see the log of QEMU")
    return answer.get("return")


def _drives(dom: Any, paths: Sequence[str]) -> list[str]:
    """QEMU's names of the disks with these files. Raises HypervisorTrouble.

    By the devices they are plugged into: QEMU tells the file of an overlay in words of its own.
    """
    named = {}
    for device in _qmp(dom, "query-block", {}):
        for part in str(device.get("qdev")).split("/"):
            named[part] = str((device.get("inserted") or {}).get("node-name"))
    known = {file: named.get(alias, "") for file, (_, alias) in _plugged(dom).items()}
    _check_all(paths, {file: name for file, name in known.items() if name})
    return [known[path] for path in paths]


def _plugged(dom: Any) -> dict[str, tuple[str, str]]:
    """File -> target (vda) and alias (virtio-disk0) of all disks."""
    found = {}
    for disk in ET.fromstring(dom.XMLDesc()).iter("disk"):  # noqa: S314 - libvirt's own words
        source, target, alias = disk.find("source"), disk.find("target"), disk.find("alias")
        if source is not None and target is not None and alias is not None:
            names = (target.get("dev", ""), alias.get("name", ""))
            found[source.get("file", "") or source.get("dev", "")] = names
    return found


def _target(dom: Any, path: str) -> str:
    """Where a disk is plugged in. Raises HypervisorTrouble."""
    known = _plugged(dom)
    _check_all([path], {file: target for file, (target, _) in known.items()})
    return known[path][0]


def _mirror(dom: Any, path: str) -> ET.Element | None:
    """What libvirt says of the mirror of a disk."""
    for disk in ET.fromstring(dom.XMLDesc()).iter("disk"):  # noqa: S314 - libvirt's own words
        source = disk.find("source")
        if source is not None and source.get("file") == path:
            return disk.find("mirror")
    return None


def _check_all(paths: Sequence[str] | Mapping[str, str], known: Mapping[str, str]) -> None:
    missing = [path for path in paths if path not in known]
    if missing:
        raise HypervisorTrouble(
            f"the running VM does not have the disk {missing[0]}",
            hint="its definition changed since its last start: restart it first",
        )


def _end_stray(dom: Any) -> None:
    """End the copy that a process before this one began and did not live to see the end of: it
    goes into a hidden folder that nobody wants. Raises Conflict for somebody else's copy."""
    until = time.monotonic() + LONG_S / 2
    while dom.jobStats().get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP:
        with contextlib.suppress(libvirt.libvirtError):  # it has just ended by itself
            said = ET.fromstring(dom.backupGetXMLDesc())  # noqa: S314 - libvirt's own words
            for target in said.iter("target"):
                file = target.get("file", "")
                if "/." not in file:
                    hint = f"wait for it, or: virsh domjobabort {dom.name()}"
                    raise Conflict(f"its disks are being copied to {file} already", hint=hint)
            dom.abortJob()
        if time.monotonic() > until:
            raise HypervisorTrouble("an earlier copy of its disks does not end")
        time.sleep(POLL_S)


def _limit(dom: Any, rate_bytes_s: int) -> None:
    """Limit the copies under way: libvirt does that for mirrors, not for backups."""
    for job in _qmp(dom, "query-block-jobs", {}):
        if job.get("type") in {"backup", "mirror"}:
            with contextlib.suppress(HypervisorTrouble):  # it was so short that it has ended
                _qmp(dom, "block-job-set-speed", {"device": job["device"], "speed": rate_bytes_s})
