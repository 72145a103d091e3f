"""First signs of life of systems in VMs, through libvirt; see guests.Guests.signs.

Rules:
1. The serial console is held open while nothing came, without force: who has it keeps it, and who
   opens it takes it from here. It is not taken back.
2. Packets are counted by libvirt as the VM sees them: what its card sent is sent, not received.
3. A guest agent is asked last, a few VMs at a time: one that hangs costs its time limit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import libvirt

from outlast.errors import OutlastError
from outlast.hypervisor.guests import AGENT, CONSOLE, NETWORK
from outlast.hypervisor.libvirt_console import LibvirtConsole
from outlast.hypervisor.libvirt_link import Link

LIMIT_S = 8.0
ASKED_MAX = 3  # agents in one look


@dataclass(slots=True)
class _Watched:
    started_ns: int
    console: LibvirtConsole | None
    sign: str = ""


class LibvirtSigns:
    """listen: opens the console of a VM, unless somebody has it. ping: asks a VM's agent."""

    def __init__(
        self, link: Link, listen: Callable[[str], LibvirtConsole], ping: Callable[[Any], object]
    ) -> None:
        self._link, self._listen, self._ping = link, listen, ping
        self._watched: dict[str, _Watched] = {}

    def look(self, vms: Mapping[str, int]) -> Mapping[str, str]:
        """Raises HypervisorTrouble."""
        for name, watched in list(self._watched.items()):
            if vms.get(name) != watched.started_ns:
                self._let_go(watched)
                del self._watched[name]
        for name in vms.keys() - self._watched.keys():
            console: LibvirtConsole | None = None
            with contextlib.suppress(OutlastError):  # somebody has it, or the VM is gone
                console = self._listen(name)
            self._watched[name] = _Watched(vms[name], console)
        for watched in self._watched.values():
            if watched.console is not None and watched.console.heard and not watched.sign:
                watched.sign = CONSOLE
        silent = sorted(name for name, watched in self._watched.items() if not watched.sign)
        if silent:
            found = self._link.ask_alone("signs", lambda conn: self._ask(conn, silent), LIMIT_S)
            for name, sign in found.items():
                self._watched[name].sign = sign
        for watched in self._watched.values():
            if watched.sign:
                self._let_go(watched)
        return {name: watched.sign for name, watched in self._watched.items() if watched.sign}

    def _let_go(self, watched: _Watched) -> None:
        if watched.console is not None:
            watched.console.close()
            watched.console = None

    def _ask(self, conn: Any, names: Collection[str]) -> dict[str, str]:
        found, domains = {}, {}
        for name in names:
            with contextlib.suppress(libvirt.libvirtError):  # it has just ended
                domains[name] = conn.lookupByName(name)
        if not domains:
            return {}
        rows = conn.domainListGetStats(list(domains.values()), libvirt.VIR_DOMAIN_STATS_INTERFACE)
        for domain, stats in rows:
            if any(stats.get(f"net.{n}.tx.pkts") for n in range(stats.get("net.count", 0))):
                found[domain.name()] = NETWORK
        for name in [name for name in domains if name not in found][:ASKED_MAX]:
            with contextlib.suppress(libvirt.libvirtError):
                self._ping(domains[name])
                found[name] = AGENT
        return found
