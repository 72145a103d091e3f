"""The systems inside VMs, asked through libvirt; see guests.Guests.

Each question has a connection of its own: a system that does not answer keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import libvirt
import libvirt_qemu

from outlast.errors import HypervisorTrouble
from outlast.hypervisor.libvirt_console import LibvirtConsole
from outlast.hypervisor.libvirt_link import Link
from outlast.hypervisor.libvirt_signs import LibvirtSigns

T = TypeVar("T")

AGENT_S = 2  # it answers within milliseconds, or it is not there
LIMIT_S = 8.0
PING = '{"execute": "guest-ping"}'
SOURCES = (
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
)


class LibvirtGuests:
    def __init__(self, link: Link, listen: Callable[[str], LibvirtConsole]) -> None:
        self._link = link
        self._signs = LibvirtSigns(link, listen, _ping)

    def answers(self, name: str) -> bool:
        return self._on(name, _ping) or False

    def signs(self, vms: Mapping[str, int]) -> Mapping[str, str]:
        return self._signs.look(vms)

    def addresses(self, name: str) -> tuple[str, ...]:
        return self._on(name, _addresses) or ()

    def _on(self, name: str, act: Callable[[Any], T]) -> T | None:
        try:
            return self._link.ask_alone("guest", lambda conn: act(conn.lookupByName(name)), LIMIT_S)
        except (libvirt.libvirtError, HypervisorTrouble):
            return None


def _ping(dom: Any) -> bool:
    """True, or libvirtError."""
    libvirt_qemu.qemuAgentCommand(dom, PING, AGENT_S, 0)
    return True


def _addresses(dom: Any) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for source in SOURCES:
        try:
            cards = dom.interfaceAddresses(source)
        except libvirt.libvirtError:
            continue  # this source is not there
        for card, known in cards.items():
            if card != "lo":
                found.update(dict.fromkeys(one["addr"] for one in known["addrs"] or ()))
    return tuple(found)
