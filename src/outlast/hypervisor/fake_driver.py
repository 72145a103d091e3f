"""A driver whose VMs are small real processes: no libvirt, no QEMU, but a real disk and a real end.

For tests and demonstrations of everything above the hypervisor. Keeps the port's promises
(driver.py) with real kill -9, real disk errors and VMs that outlive the driver: what runs is noted
in `run_dir` and found again by the next FakeDriver there. fake_vm.py is the process.

`check_disk` reads the signatures on a disk and finds every double run.

It does not isolate anything: a fake VM is a plain process of the same user.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import Conflict, HypervisorTrouble, NotFound
from outlast.hypervisor import fake_vm
from outlast.hypervisor.driver import (
    KILLED,
    Console,
    DriverEvent,
    EventKind,
    LibvirtGone,
    check_room,
)
from outlast.hypervisor.fake_console import connect
from outlast.hypervisor.fake_guests import FakeGuests
from outlast.hypervisor.libvirt_words import start_trouble
from outlast.hypervisor.qemu_process import boot_ns, started_ticks
from outlast.hypervisor.socket_console import SocketConsole
from outlast.model import HostResources, LocalVm, VmSpec, VmState

START_S = 20.0
DIE_S = 5.0
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class FakeOptions:
    memory_mib: int = 4096
    vcpus: int = 8
    interval_ms: int = 100
    lock: bool = False  # lock disks as QEMU does; off, so that a double run is not hidden
    command: tuple[str, ...] = (sys.executable, "-I", "-S", fake_vm.__file__)


@dataclass(slots=True)
class _Vm:
    name: str
    uuid: str
    boot: str
    pid: int
    ticks: int  # start of the process: with the pid it names it for good
    memory_mib: int
    vcpus: int
    vcpus_max: int = 0
    memory_max_mib: int = 0
    pidfd: int = -1
    control: socket.socket | None = None
    process: subprocess.Popen[bytes] | None = None
    paused: str = ""
    spoke: bool = False
    killed: bool = False
    greeted: bool = False  # its first word is how it is, not news
    rest: bytes = b""


class FakeDriver:
    """See driver.Driver."""

    def __init__(self, run_dir: Path, options: FakeOptions | None = None) -> None:
        self._run = run_dir
        self._options = options or FakeOptions()
        self._run.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._vms: dict[str, _Vm] = {}
        self._starting: set[str] = set()
        self._callbacks: tuple[Callable[[DriverEvent], None], ...] = ()
        self._closing = False
        self.guests = FakeGuests(self._spoke)
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        for note in sorted(self._run.glob("*.json")):
            self._find_again(note)
        self._watcher = threading.Thread(target=self._watch, name="fake-vms", daemon=True)
        self._watcher.start()

    # ---- the port ------------------------------------------------------------------------

    def list(self) -> list[LocalVm]:
        with self._lock:
            vms = [
                LocalVm(
                    vm.name,
                    VmState.PAUSED if vm.paused else VmState.RUNNING,
                    vm.paused,
                    pid=vm.pid,
                    started_ns=vm.ticks * TICK_NS,
                    vcpus=vm.vcpus,
                    memory_mib=vm.memory_mib,
                )
                for vm in self._vms.values()
            ]
            vms += [LocalVm(name, VmState.STARTING) for name in self._starting]
        return sorted(vms, key=lambda vm: vm.name)

    def start(self, spec: VmSpec) -> None:
        with self._lock:
            if running := self._vms.get(spec.name):
                if running.uuid == spec.uuid:
                    return
                raise Conflict(f"another VM named '{spec.name}' runs here")
            if any(vm.uuid == spec.uuid for vm in self._vms.values()):
                raise Conflict(f"the uuid of '{spec.name}' is in use by another VM here")
            if spec.name in self._starting:
                raise HypervisorTrouble(f"a start of '{spec.name}' is still under way")
            self._starting.add(spec.name)
        try:
            vm = self._spawn(spec)
        finally:
            with self._lock:
                self._starting.discard(spec.name)
        with self._lock:
            self._vms[vm.name] = vm
            self._emit(vm.name, EventKind.STARTED, "")
            self._attend(vm)

    def shutdown(self, name: str) -> None:
        self._say(name, b"shutdown\n")

    def resume(self, name: str) -> None:
        self._say(name, b"resume\n")

    def resize(self, name: str, vcpus: int = 0, memory_mib: int = 0) -> None:
        free_mib = self.resources().free_mib
        with self._lock:
            vm = self._vms.get(name)
            if vm is None:
                raise NotFound(f"'{name}' does not run here")
            if vcpus > max(vm.vcpus, vm.vcpus_max):
                raise HypervisorTrouble(f"'{name}' cannot have {vcpus} processors")
            if memory_mib > max(vm.memory_mib, vm.memory_max_mib):
                raise HypervisorTrouble(f"'{name}' cannot have {memory_mib} MiB")
            vm.vcpus = vcpus or vm.vcpus
            if memory_mib > vm.memory_mib:
                check_room(name, memory_mib - vm.memory_mib, free_mib)
                vm.memory_mib = memory_mib
            self._keep(vm)

    def kill(self, name: str) -> None:
        with self._lock:
            vm = self._vms.get(name)
            if vm is None:
                return
            vm.killed = True
            signal.pidfd_send_signal(vm.pidfd, signal.SIGKILL)
            waiting = os.dup(vm.pidfd)
        try:
            if not select.select([waiting], [], [], DIE_S)[0]:
                raise HypervisorTrouble(f"'{name}' does not die", hint="its storage may be stuck")
        finally:
            os.close(waiting)
        with self._lock:
            self._over(vm)

    def resources(self) -> HostResources:
        o = self._options
        with self._lock:
            used_mib = sum(vm.memory_mib for vm in self._vms.values())
            used_vcpus = sum(vm.vcpus for vm in self._vms.values())
        return HostResources(
            o.memory_mib, o.vcpus, max(0, o.memory_mib - used_mib), max(0, o.vcpus - used_vcpus)
        )

    def subscribe(self, callback: Callable[[DriverEvent], None]) -> None:
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

    def open_console(self, name: str) -> Console:
        with self._lock:
            if name not in self._vms:
                raise NotFound(f"'{name}' does not run here")
        return SocketConsole(f"the console of '{name}'", connect(self._run / f"{name}.con"))

    def open_screen(self, name: str) -> Console:
        with self._lock:
            if name not in self._vms:
                raise NotFound(f"'{name}' does not run here")
        raise HypervisorTrouble(f"'{name}' has no screen: it is pretended")

    def close(self) -> None:
        self._closing = True
        os.write(self._wake_out, b"x")
        self._watcher.join(5)

    # ---- processes -----------------------------------------------------------------------

    def _spawn(self, spec: VmSpec) -> _Vm:
        boot = secrets.token_hex(4)
        (self._run / f"{spec.name}.end").unlink(missing_ok=True)
        o = self._options
        argv = [*o.command, "-name", f"guest={spec.name}", "-uuid", spec.uuid]
        argv += ["-run", str(self._run), "-boot", boot, "-interval", str(o.interval_ms)]
        argv += [word for disk in spec.disks for word in ("-drive", disk.path)]
        argv += ["-log", spec.serial_log] if spec.serial_log else []
        argv += ["-lock"] if o.lock else []
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise HypervisorTrouble(f"'{spec.name}' cannot start: {error}") from error
        self._await_up(spec, process)
        ticks = started_ticks(process.pid)
        vm = _Vm(spec.name, spec.uuid, boot, process.pid, ticks, spec.memory_mib, spec.vcpus)
        vm.process = process
        vm.vcpus_max, vm.memory_max_mib = spec.vcpus_max, spec.memory_max_mib
        self._keep(vm)
        self._open(vm)
        return vm

    def _keep(self, vm: _Vm) -> None:
        """Note it for the next driver here."""
        kept = ["name", "uuid", "boot", "pid", "ticks", "memory_mib", "vcpus"]
        kept += ["vcpus_max", "memory_max_mib"]
        path = self._run / f"{vm.name}.json"
        path.with_suffix(".new").write_text(json.dumps({name: getattr(vm, name) for name in kept}))
        path.with_suffix(".new").replace(path)

    def _await_up(self, spec: VmSpec, process: subprocess.Popen[bytes]) -> None:
        """Wait for the process's first word; raise what it says instead."""
        assert process.stdout is not None and process.stderr is not None
        with process.stdout as out, process.stderr as err:
            if not select.select([out], [], [], START_S)[0]:
                process.kill()
                raise LibvirtGone(f"'{spec.name}' has not come up for {START_S:g} s")
            if out.readline() == b"up\n":
                return
            sentence = err.read(4096).decode("utf-8", "replace").strip()
            process.wait()
        raise start_trouble(spec.name, sentence or f"it ended with {process.returncode}")

    def _open(self, vm: _Vm) -> None:
        """Take hold of a process; it may be over already, then the watcher will see that."""
        vm.pidfd = os.pidfd_open(vm.pid)
        try:
            vm.control = connect(self._run / f"{vm.name}.ctl")
        except LibvirtGone:
            vm.control = None

    def _find_again(self, note: Path) -> None:
        try:
            vm = _Vm(**json.loads(note.read_text()))
            alive = vm.ticks == started_ticks(vm.pid)
            if alive:
                self._open(vm)
        except (OSError, ValueError, TypeError):
            alive = False
        if not alive:
            note.unlink(missing_ok=True)
            return
        self._vms[vm.name] = vm
        self._attend(vm)

    # ---- the watcher's thread ------------------------------------------------------------

    def _attend(self, vm: _Vm) -> None:
        self._selector.register(vm.pidfd, selectors.EVENT_READ, vm)
        if vm.control is not None:
            self._selector.register(vm.control, selectors.EVENT_READ, vm)
        os.write(self._wake_out, b"x")

    def _watch(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select():
                vm: _Vm | None = key.data
                if vm is None:
                    os.read(self._wake_in, 512)
                    continue
                with self._lock:
                    if self._vms.get(vm.name) is not vm:
                        continue
                    if key.fileobj is vm.control:
                        self._hear(vm)
                    else:
                        self._over(vm)
        with self._lock:
            for vm in self._vms.values():
                self._let_go(vm)

    def _hear(self, vm: _Vm) -> None:
        assert vm.control is not None
        try:
            data = vm.control.recv(4096)
        except OSError:
            data = b""
        if not data:  # its end follows on the pidfd
            self._selector.unregister(vm.control)
            vm.control.close()
            vm.control = None
            return
        *lines, vm.rest = (vm.rest + data).split(b"\n")
        for line in lines:
            word, _, reason = line.decode("utf-8", "replace").partition(" ")
            if not vm.greeted:
                vm.greeted, vm.paused = True, reason
            elif word == "spoke":
                vm.spoke = True
            elif word == "io-error":
                self._emit(vm.name, EventKind.IO_ERROR, reason)
            elif word == "paused" and not vm.paused:
                vm.paused = reason
                self._emit(vm.name, EventKind.PAUSED, f"disk error: {reason}")
            elif word == "running" and vm.paused:
                vm.paused = ""
                self._emit(vm.name, EventKind.RESUMED, "")

    def _over(self, vm: _Vm) -> None:
        """The process is gone: forget it and say so. Once; the lock is held."""
        if self._vms.get(vm.name) is not vm:
            return
        if vm.control is not None:
            self._hear(vm)  # its last words come first
        del self._vms[vm.name]
        self._let_go(vm)
        (self._run / f"{vm.name}.json").unlink(missing_ok=True)
        if vm.process is not None:
            vm.process.wait()
        try:
            clean = (self._run / f"{vm.name}.end").read_text() == vm.boot
        except OSError:
            clean = False
        if vm.killed:
            self._emit(vm.name, EventKind.STOPPED, KILLED)
        elif clean:
            self._emit(vm.name, EventKind.STOPPED, "the system inside shut down")
        else:
            self._emit(vm.name, EventKind.CRASHED, "its process ended unexpectedly")

    def _let_go(self, vm: _Vm) -> None:
        self._selector.unregister(vm.pidfd)
        os.close(vm.pidfd)
        if vm.control is not None:
            self._selector.unregister(vm.control)
            vm.control.close()

    def _spoke(self, name: str) -> bool:
        with self._lock:
            return name in self._vms and self._vms[name].spoke

    def _say(self, name: str, word: bytes) -> None:
        with self._lock:
            vm = self._vms.get(name)
            if vm is None:
                raise NotFound(f"'{name}' does not run here")
            if vm.control is not None:
                vm.control.sendall(word)

    def _emit(self, name: str, kind: EventKind, detail: str) -> None:
        for callback in self._callbacks:
            callback(DriverEvent(name, kind, detail, boot_ns()))


def check_disk(path: Path) -> list[str]:
    """Read the signatures on a disk: one sentence for each break, none for an honest history."""
    problems: list[str] = []
    before, ended, last_boot, last_seq = "0" * 16, set[str](), "", 0
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        words = line.strip(b"\0").decode("ascii", "replace").split()
        if len(words) != 5 or words[0] != "OUTLAST":
            continue
        boot, seq, previous, digest = words[1], int(words[2]), words[3], words[4]
        where = f"record {seq} of boot {boot} (line {number})"
        if fake_vm.record(boot, seq, previous)[1] != digest:
            problems.append(f"{where} is damaged")
            continue
        if boot != last_boot:
            if boot in ended:
                problems.append(f"{where} comes after another boot had begun: two ran at once")
            ended.add(last_boot)
        elif seq != last_seq + 1:
            problems.append(f"{where} follows record {last_seq}")
        if previous != before:
            problems.append(f"{where} does not continue the record before it")
        before, last_boot, last_seq = digest, boot, seq
    return problems
