"""What processor VMs see, by libvirt's own knowledge of models and features.

Rules:
1. A host's processor is libvirt's `host-model`: what the emulator can give VMs here.
2. The baseline of several is what all of them have, without what cannot move (invtsc and the like).
   A VM that sees the baseline can go to each of them; libvirt checks that again before each move.
3. Texts are libvirt's XML of a `<cpu>` element; they go through the pool's registers unchanged.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import libvirt

from outlast.errors import HypervisorTrouble
from outlast.hypervisor.domain_xml import MACHINE_TYPES, DomainOptions
from outlast.hypervisor.libvirt_link import Link

ARCH = "x86_64"
FLAGS = libvirt.VIR_CONNECT_BASELINE_CPU_MIGRATABLE


class LibvirtProcessors:
    """See driver.Processors. domain: how this host runs VMs."""

    def __init__(self, link: Link, domain: DomainOptions, limit_s: float) -> None:
        self._link, self._domain, self._limit_s = link, domain, limit_s
        self._lock = threading.Lock()
        self._own = ""
        self.shown = ""  # to VMs that are started now; "" = what domain_xml.py chooses

    @property
    def accelerator(self) -> str:
        return self._domain.accelerator

    def own(self) -> str:
        with self._lock:
            if not self._own:
                kind = MACHINE_TYPES[self.accelerator]
                try:
                    text = self._link.ask_alone(
                        "capabilities",
                        lambda c: c.getDomainCapabilities(self._domain.emulator, ARCH, None, kind),
                        self._limit_s,
                    )
                except libvirt.libvirtError as error:
                    raise HypervisorTrouble(f"this processor is not known: {error}") from error
                self._own = _host_model(text)
            return self._own

    def baseline(self, cpus: Sequence[str]) -> str:
        kind = MACHINE_TYPES[self.accelerator]
        try:
            text: str = self._link.ask_alone(
                "baseline",
                lambda c: c.baselineHypervisorCPU(
                    self._domain.emulator, ARCH, None, kind, list(cpus), FLAGS
                ),
                self._limit_s,
            )
        except libvirt.libvirtError as error:
            raise HypervisorTrouble(f"these processors have nothing in common: {error}") from error
        return _plain(ET.fromstring(text))  # noqa: S314 - libvirt's own words

    def use(self, cpu: str) -> None:
        self.shown = cpu


def _host_model(capabilities: str) -> str:
    root = ET.fromstring(capabilities)  # noqa: S314 - libvirt's own words
    mode = root.find("cpu/mode[@name='host-model']")
    if mode is None or mode.get("supported") != "yes":
        raise HypervisorTrouble("libvirt has no model for this processor")
    cpu = ET.Element("cpu", mode="custom", match="exact")
    cpu.extend(mode)
    return _plain(cpu)


def _plain(cpu: ET.Element) -> str:
    """Without white space, so that equal processors have equal texts."""
    for element in cpu.iter():
        element.text = (element.text or "").strip() or None
        element.tail = None
    return ET.tostring(cpu, encoding="unicode")
