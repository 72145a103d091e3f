"""The driver for real VMs: QEMU through libvirt, transient domains only.

Beyond the port's promises (driver.py):
1. A VM is the pool's when its domain carries our metadata element or this driver started it;
   all others are never touched and only named by `foreign()`.
2. `kill` does not wait for QEMU's leave: it sends SIGKILL to the process whose pid file and
   command line both name the VM, then lets libvirt clean up.
3. It never opens a VM's disk or its folder: storage may be stuck, and this process must not be.
4. Time limits are in LibvirtOptions; libvirt_link.py tells what happens when they pass.

Which process is where: `root` is the file system through which /proc and libvirt's own files are
seen; "/" for the libvirtd of this host. Pids in LocalVm are those of that /proc.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import libvirt

from outlast.errors import Conflict, HypervisorTrouble, NotFound
from outlast.hypervisor import libvirt_words as words
from outlast.hypervisor.domain_xml import DomainOptions, domain_xml
from outlast.hypervisor.driver import Console, DriverEvent, check_room
from outlast.hypervisor.hardware_xml import more_memory
from outlast.hypervisor.libvirt_ceph import has_key, lend_key, lend_key_quietly
from outlast.hypervisor.libvirt_console import LibvirtConsole
from outlast.hypervisor.libvirt_cpu import LibvirtProcessors
from outlast.hypervisor.libvirt_disks import LibvirtDisks
from outlast.hypervisor.libvirt_foreign import LibvirtForeigners
from outlast.hypervisor.libvirt_guests import LibvirtGuests
from outlast.hypervisor.libvirt_ledger import Callback, Known, Ledger
from outlast.hypervisor.libvirt_link import Happening, Link
from outlast.hypervisor.libvirt_move import LibvirtDeparture, check_moves, mark_of, unmark
from outlast.hypervisor.libvirt_rest import Resting
from outlast.hypervisor.libvirt_tpm import link_tpm
from outlast.hypervisor.mover import Way
from outlast.hypervisor.qemu_process import QemuProcesses
from outlast.hypervisor.socket_console import SocketConsole
from outlast.model import HostResources, LocalVm, VmSpec, VmState

log = logging.getLogger(__name__)

T = TypeVar("T")
_Found = list[tuple[Known, VmState, str]]
_Ours = list[tuple[Known, VmState]]
_GONE = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)


@dataclass(frozen=True, slots=True)
class LibvirtOptions:
    domain: DomainOptions = field(default_factory=DomainOptions)
    root: Path = Path("/")
    reserve_mib: int = 512  # memory that VMs never get
    memory_mib: int = 0  # pretend to have this much; 0 = ask the host
    vcpus: int = 0  # virtual processors this host may carry; 0 = processors * vcpus_per_cpu
    vcpus_per_cpu: int = 4
    connect_s: float = 5
    answer_s: float = 10
    start_s: float = 60
    kill_s: float = 30
    marks: Path | None = None  # a folder that survives this process but no boot; None: nothing does


class LibvirtDriver:
    """See driver.Driver. Safe to use from many threads; ready or not, it connects by itself."""

    def __init__(self, uri: str, options: LibvirtOptions | None = None) -> None:
        self._options = options or LibvirtOptions()
        self._processes = QemuProcesses(self._options.root)
        self._lock = threading.Lock()
        self._ledger = Ledger()
        self._starting: set[str] = set()
        self._departures: dict[str, LibvirtDeparture] = {}
        self._lent_to: Any = None
        self._ledger.subscribe(self._heard)
        self._link = Link(
            uri, self._look, self._ledger.arrived, self._ledger.audited, self._happened
        )
        self.processors = LibvirtProcessors(self._link, self._options.domain, self._options.start_s)
        self.disks = LibvirtDisks(
            self._on_domain, Resting(self._on_domain_alone, self._options.marks)
        )
        self.foreigners = LibvirtForeigners(self._ask)
        self.guests = LibvirtGuests(self._link, lambda name: self._console(name, gently=True))
        if not self._link.wait(self._options.connect_s):
            log.warning("libvirt at %s does not answer yet; it is tried again and again", uri)

    # ---- the port ------------------------------------------------------------------------

    def list(self) -> list[LocalVm]:
        found = self._ask("list", self._survey)
        vms = [
            self._processes.measured(
                LocalVm(
                    known.name,
                    state,
                    why,
                    incoming=known.incoming,
                    vcpus=known.vcpus,
                    memory_mib=known.memory_mib,
                )
            )
            for known, state, why in found
            if known.ours
        ]
        with self._lock:
            waiting = self._starting - {vm.name for vm in vms}
        vms += [LocalVm(name, VmState.STARTING) for name in waiting]
        return sorted(vms, key=lambda vm: vm.name)

    def foreign(self) -> tuple[str, ...]:
        """Names of running domains that are not the pool's."""
        found = self._ask("list", self._survey)
        return tuple(sorted(known.name for known, _, _ in found if not known.ours))

    def start(self, spec: VmSpec) -> None:
        link_tpm(self._options.root, spec)
        ceph_key = has_key(self._options.root, spec.disks)
        xml = domain_xml(
            spec,
            replace(self._options.domain, cpu=self.processors.shown, ceph_key=ceph_key),
        )
        try:
            self._link.ask_alone(
                "start", lambda conn: self._start(conn, spec, xml, ceph_key), self._options.start_s
            )
        except libvirt.libvirtError as error:
            raise HypervisorTrouble(f"'{spec.name}' cannot start: {error}") from error

    def resize(self, name: str, vcpus: int = 0, memory_mib: int = 0) -> None:
        free_mib = self.resources().free_mib if memory_mib else 0

        def resize(dom: Any) -> None:
            known = self._recognise(dom)
            if vcpus and vcpus != known.vcpus:
                dom.setVcpusFlags(vcpus, libvirt.VIR_DOMAIN_AFFECT_LIVE)
                known.vcpus = vcpus
            more_mib = memory_mib - known.memory_mib
            if memory_mib and more_mib > 0:
                check_room(name, more_mib, free_mib)
                dom.attachDeviceFlags(more_memory(more_mib), libvirt.VIR_DOMAIN_AFFECT_LIVE)
                known.memory_mib = memory_mib

        self._on_domain("resize", name, resize)

    def shutdown(self, name: str) -> None:
        self._on_domain("shutdown", name, lambda dom: dom.shutdown())

    def resume(self, name: str) -> None:
        def resume(dom: Any) -> None:
            if dom.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
                dom.resume()
            self._goes_on(dom, self._recognise(dom))

        self._on_domain("resume", name, resume)

    def depart(self, name: str, way: Way) -> LibvirtDeparture:
        """See mover.Mover."""
        self._on_domain("move", name, check_moves)
        departure = LibvirtDeparture(self._link.uri, self._ledger, name, way)
        with self._lock:
            self._departures[name] = departure
        departure.begin()
        return departure

    def _heard(self, event: DriverEvent) -> None:
        with self._lock:
            departure = self._departures.get(event.name)
        if departure is not None:
            departure.hear(event)

    def kill(self, name: str) -> None:
        try:
            self._on_domain("kill", name, self._kill, self._options.kill_s)
        except NotFound:
            return

    def resources(self) -> HostResources:
        found = self._ask("resources", self._survey)
        memory_mib, cpus = self._ask("resources", lambda conn: conn.getInfo()[1:3])
        o = self._options
        memory_mib = (o.memory_mib or memory_mib) - o.reserve_mib
        vcpus = o.vcpus or cpus * o.vcpus_per_cpu
        return HostResources(
            memory_mib=memory_mib,
            vcpus=vcpus,
            free_mib=max(0, memory_mib - sum(known.memory_mib for known, _, _ in found)),
            free_vcpus=max(0, vcpus - sum(known.vcpus for known, _, _ in found)),
            accelerator=o.domain.accelerator,
            cores=max(1, o.vcpus // o.vcpus_per_cpu) if o.vcpus else cpus,
        )

    def subscribe(self, callback: Callback) -> None:
        self._ledger.subscribe(callback)

    def open_console(self, name: str) -> Console:
        return self._console(name)

    def _console(self, name: str, *, gently: bool = False) -> LibvirtConsole:
        def opened(_: Any) -> LibvirtConsole:
            own = libvirt.open(self._link.uri)  # a stream waits for long: never on the shared one
            return LibvirtConsole(own, self._find(own, name), name, gently=gently)

        try:
            return self._ask("console", opened)
        except libvirt.libvirtError as error:
            raise HypervisorTrouble(f"no console of '{name}': {error}") from error

    def open_screen(self, name: str) -> Console:
        flags = libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH  # who may see it is the agent's to say

        def opened(conn: Any) -> socket.socket:
            return socket.socket(fileno=self._find(conn, name).openGraphicsFD(0, flags))

        try:
            return SocketConsole(f"the screen of '{name}'", self._ask("screen", opened))
        except libvirt.libvirtError as error:
            raise HypervisorTrouble(
                f"no screen of '{name}': {error}", hint="was it made with --graphics none?"
            ) from error

    def close(self) -> None:
        self._link.close()

    # ---- asking libvirt ------------------------------------------------------------------

    def warm(self) -> None:
        """Have libvirt learn now what the emulator can do, so that the first start need not wait.

        It waits for libvirt to appear. Never raises: a start asks again by itself.
        """
        self._link.wait(self._options.start_s)
        with contextlib.suppress(HypervisorTrouble):
            self.processors.own()

    def _ask(self, what: str, call: Callable[[Any], T], limit_s: float = 0) -> T:
        return self._link.ask(what, call, limit_s or self._options.answer_s)

    def _on_domain(
        self, what: str, name: str, act: Callable[[Any], None], limit_s: float = 0
    ) -> None:
        with self._in_words(what, name):
            self._ask(what, lambda conn: act(self._find(conn, name)), limit_s)

    def _on_domain_alone(
        self, what: str, name: str, act: Callable[[Any], None], limit_s: float
    ) -> None:
        """For what may take long: it keeps nobody else from asking."""
        with self._in_words(what, name):
            self._link.ask_alone(what, lambda conn: act(self._find(conn, name)), limit_s)

    @contextlib.contextmanager
    def _in_words(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except libvirt.libvirtError as error:
            if error.get_error_code() in _GONE:
                raise NotFound(f"'{name}' does not run here") from error
            raise HypervisorTrouble(f"{what} of '{name}' failed: {error}") from error

    def _find(self, conn: Any, name: str) -> Any:
        """The running domain of a VM.

        Raises NotFound, Conflict for a domain that is not the pool's, libvirtError.
        """
        try:
            dom = conn.lookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise NotFound(f"'{name}' does not run here") from error
            raise
        if not self._recognise(dom).ours:
            raise Conflict(
                f"the domain '{name}' of this host is not one of the pool's VMs",
                hint="it is left alone; see `virsh dumpxml`",
            )
        return dom

    def _survey(self, conn: Any) -> _Found:
        """All running domains, in one question that libvirtd answers without asking any QEMU."""
        rows = conn.getAllDomainStats(
            libvirt.VIR_DOMAIN_STATS_STATE, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
        )
        found: _Found = []
        for dom, stats in rows:
            try:
                known = self._recognise(dom)
            except libvirt.libvirtError as error:
                if error.get_error_code() in _GONE:
                    continue  # it ended between two questions
                raise
            state, why = words.state(stats.get("state.state", 0), stats.get("state.reason", 0))
            if state is VmState.RUNNING:
                self._goes_on(dom, known)
            found.append((known, state, why))
        return found

    def _recognise(self, dom: Any) -> Known:
        """What we know of a domain; asks libvirt once per domain and remembers."""
        uuid, domain_id = dom.UUIDString(), dom.ID()
        known = self._ledger.get(uuid)
        if known is not None and known.domain_id == domain_id:
            return known
        ours, move = mark_of(dom)
        if known is None or not known.ours or move:
            info = dom.info()
            fresh = Known(uuid, dom.name(), ours, domain_id, info[1] // 1024, info[3])
            known = self._ledger.put(fresh)
            known.memory_mib, known.vcpus = fresh.memory_mib, fresh.vcpus
        known.domain_id, known.incoming = domain_id, move
        return known

    def _goes_on(self, dom: Any, known: Known) -> None:
        """It runs: a copy that went on is a copy no more."""
        if known.incoming:
            known.incoming = ""
            unmark(dom, known.name)

    # ---- starting and killing ------------------------------------------------------------

    def _start(self, conn: Any, spec: VmSpec, xml: str, ceph_key: bool) -> None:
        """Start it, one attempt at a time: a caller that gave up may have left one behind."""
        with self._lock:
            if spec.name in self._starting:
                raise HypervisorTrouble(f"a start of '{spec.name}' is still under way")
            self._starting.add(spec.name)
        try:
            self._create(conn, spec, xml, ceph_key)
        finally:
            with self._lock:
                self._starting.discard(spec.name)

    def _create(self, conn: Any, spec: VmSpec, xml: str, ceph_key: bool) -> None:
        if self._runs(conn, spec):
            return
        self._ledger.expect(spec)
        if ceph_key:
            lend_key(conn, self._options.root)
        mark = self._processes.log_mark(spec.name)
        try:
            conn.createXML(xml, 0)
        except libvirt.libvirtError as error:
            if error.get_error_domain() in (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE):
                raise
            if self._runs(conn, spec):  # another caller was faster
                return
            gained = self._processes.log_since(spec.name, mark)
            raise words.start_trouble(spec.name, str(error), gained) from error

    def _runs(self, conn: Any, spec: VmSpec) -> bool:
        """True when exactly this VM runs; Conflict when its uuid belongs to another domain."""
        try:
            dom = conn.lookupByUUIDString(spec.uuid)
            if dom.name() == spec.name:
                return bool(dom.isActive())
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return False
            raise
        raise Conflict(
            f"'{spec.name}' cannot start: its uuid belongs to '{dom.name()}'",
            hint="another domain of this host uses it: `virsh list --all --uuid`",
        )

    def _kill(self, dom: Any) -> None:
        uuid, name = dom.UUIDString(), dom.name()
        self._ledger.kills(uuid)
        self._processes.kill(name, uuid)
        dom.destroy()

    # ---- the keeper's thread -------------------------------------------------------------

    def _look(self, conn: Any) -> _Ours:
        if conn is not self._lent_to:  # a new libvirtd knows no keys, and VMs may arrive
            lend_key_quietly(conn, self._options.root)
            self._lent_to = conn
        return [(known, state) for known, state, _ in self._survey(conn) if known.ours]

    def _happened(self, item: Happening) -> None:
        known = self._ledger.get(item.uuid)
        if known is None and item.event == words.STARTED:  # somebody else started it
            try:
                known = self._link.ask("look", lambda _: self._recognise(item.domain), 10)
            except (libvirt.libvirtError, HypervisorTrouble) as error:
                log.debug("a domain that started could not be looked at: %s", error)
        if known is not None and known.ours:
            self._ledger.happened(known, item)
