"""Live migration through libvirt, peer to peer: the source's daemon speaks with the target's.

What libvirt promises and what not (seen with 9.0 and QEMU 7.2, docs/decisions/0007):
1. With the flag PAUSED the target's machine stands still when the call returns. After any error
   the source goes on by itself, even when the target is complete.
2. The call may block for as long as storage or network do: it has a thread and a connection of its
   own. Nothing else waits for it.
3. TLS of QEMU's stream is a flag that is always set. A daemon without certificates refuses.
4. The copy's XML carries the id of its move (`incoming_xml`), so that whoever finds it later knows
   which one it is; the mark goes away once it runs.
5. Some VMs stay until they are stopped: those with a TPM (libvirt_tpm.py), and emulated ones that
   were given memory while they ran, of whose modules a move would lose writes
   (guard/emulator.py, padded).
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from outlast.errors import HypervisorTrouble
from outlast.hypervisor.domain_xml import NAMESPACE
from outlast.hypervisor.driver import DriverEvent, EventKind
from outlast.hypervisor.libvirt_ledger import Ledger
from outlast.hypervisor.mover import Progress, Way

FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_TLS
    | libvirt.VIR_MIGRATE_PAUSED
    | libvirt.VIR_MIGRATE_AUTO_CONVERGE
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
)
MARK = f"{{{NAMESPACE}}}vm"
_PROGRESS = {
    "done_bytes": libvirt.VIR_DOMAIN_JOB_DATA_PROCESSED,
    "left_bytes": libvirt.VIR_DOMAIN_JOB_DATA_REMAINING,
    "total_bytes": libvirt.VIR_DOMAIN_JOB_DATA_TOTAL,
    "rate_bytes_s": libvirt.VIR_DOMAIN_JOB_MEMORY_BPS,
    "downtime_ms": libvirt.VIR_DOMAIN_JOB_DOWNTIME,
}


def check_moves(dom: Any) -> None:
    """Rule 5, for the running domain itself. Raises HypervisorTrouble, libvirtError."""
    domain = ET.fromstring(dom.XMLDesc())  # noqa: S314 - libvirt's own words
    if domain.find("devices/tpm") is not None:
        why = "has a TPM, whose state does not move while it runs"
    elif domain.get("type") == "qemu" and domain.find("devices/memory[@model='dimm']") is not None:
        why = "was given memory while it ran, which only a host with KVM can move"
    else:
        return
    raise HypervisorTrouble(f"'{dom.name()}' {why}", hint="stop it, and start it elsewhere")


class LibvirtDeparture:
    """See mover.Departure. `begin` once, from any thread."""

    def __init__(self, uri: str, ledger: Ledger, name: str, way: Way) -> None:
        self._uri, self._ledger = uri, ledger
        self._name, self._way = name, way
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._stopped = self._went_on = False
        self._epoch = ledger.epoch
        self._trouble = ""
        self._dom: Any = None

    def begin(self) -> None:
        threading.Thread(target=self._run, name=f"move {self._name}", daemon=True).start()

    def hear(self, event: DriverEvent) -> None:
        """An event of this VM, in libvirt's order."""
        with self._lock:
            if event.kind is EventKind.PAUSED:
                self._stopped = True
            elif event.kind is EventKind.RESUMED and self._stopped:
                self._went_on = True

    def wait(self, limit_s: float) -> bool:
        return self._ended.wait(limit_s)

    @property
    def trouble(self) -> str:
        return self._trouble

    @property
    def still(self) -> bool:
        with self._lock:
            seen = self._stopped and not self._went_on
        return seen and self._ledger.epoch == self._epoch

    def progress(self) -> Progress:
        dom = self._dom
        stats: dict[str, Any] = {}
        if dom is not None and not self._ended.is_set():
            with contextlib.suppress(libvirt.libvirtError):
                stats = dom.jobStats()
        dirty = stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, 0)
        page = stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, 4096)
        known = {name: int(stats.get(key, 0)) for name, key in _PROGRESS.items()}
        return Progress(**known, dirty_bytes_s=int(dirty) * int(page))

    def abort(self) -> None:
        with contextlib.suppress(libvirt.libvirtError, AttributeError):
            self._dom.abortJob()

    def _run(self) -> None:
        try:
            conn = libvirt.open(self._uri)
            try:
                self._dom = conn.lookupByName(self._name)
                uri = f"qemu+unix:///system?socket={self._way.socket}"
                many = libvirt.VIR_MIGRATE_PARALLEL if self._way.connections > 1 else 0
                self._dom.migrateToURI3(uri, self._parameters(self._dom), FLAGS | many)
            finally:
                self._dom = None
                conn.close()
        except libvirt.libvirtError as error:
            self._trouble = str(error)
        except BaseException as error:  # whoever waits must hear of it
            self._trouble = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._ended.set()

    def _parameters(self, dom: Any) -> dict[str, object]:
        way = self._way
        xml = dom.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)
        address = f"[{way.address}]" if ":" in way.address else way.address
        parameters: dict[str, object] = {
            libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{address}",
            libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: way.address,
            libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION: way.address,
            libvirt.VIR_MIGRATE_PARAM_DEST_XML: incoming_xml(xml, way.id),
        }
        if way.mib_s:
            parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = way.mib_s
        if way.connections > 1:
            parameters[libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS] = way.connections
        return parameters


def incoming_xml(xml: str, move: str) -> str:
    """The domain as its copy has it: the same, marked with the id of the move."""
    domain = ET.fromstring(xml)  # noqa: S314 - libvirt's own words
    mark = domain.find(f"metadata/{MARK}")
    if mark is not None:
        mark.set("move", move)
    return ET.tostring(domain, encoding="unicode")


def mark_of(dom: Any) -> tuple[bool, str]:
    """Whether a domain is the pool's, and the id of the move whose copy it is or was."""
    try:
        text = dom.metadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return False, ""
        raise
    return True, ET.fromstring(text).get("move", "")  # noqa: S314 - libvirt's own words


def unmark(dom: Any, name: str) -> None:
    """The copy runs: it is a VM as any other from now on. What fails is tried at the next look."""
    element = ET.Element("vm", name=name)
    with contextlib.suppress(libvirt.libvirtError):
        dom.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            ET.tostring(element, encoding="unicode"), "outlast", NAMESPACE,
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )  # fmt: skip
