"""The domains of a host's libvirt that are not the pool's; see adoption.Foreigners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libvirt

from outlast.errors import HypervisorTrouble, NotFound
from outlast.hypervisor.adoption import Definition
from outlast.hypervisor.domain_xml import NAMESPACE


class LibvirtForeigners:
    """ask: carries out something on a connection, in limited time."""

    def __init__(self, ask: Callable[[str, Callable[[Any], Any]], Any]) -> None:
        self._ask = ask

    def names(self) -> list[str]:
        def names(conn: Any) -> list[str]:
            return sorted(str(dom.name()) for dom in conn.listAllDomains() if not _ours(dom))

        found: list[str] = self._do("list of domains", names)
        return found

    def definition(self, name: str) -> Definition:
        def definition(conn: Any) -> Definition:
            dom = conn.lookupByName(name)
            note = ""
            if _ours(dom):
                note = "it is a VM of the pool already"
            elif dom.isActive():
                note = "it runs: shut it down first, so that its disks are at rest"
            elif not dom.isPersistent():
                note = "it is about to vanish"
            elif dom.hasManagedSaveImage(0):
                note = "its memory was saved: start it and shut it down first"
            elif dom.snapshotNum(0):
                note = "it has snapshots, which would be lost: remove them first"
            return Definition(str(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)), note)

        found: Definition = self._do(f"domain '{name}'", definition)
        return found

    def undefine(self, name: str) -> None:
        self._do(f"domain '{name}'", lambda conn: conn.lookupByName(name).undefine())

    def define(self, xml: str) -> None:
        self._do("definition", lambda conn: conn.defineXML(xml) and None)

    def _do(self, what: str, act: Callable[[Any], Any]) -> Any:
        try:
            return self._ask(what, act)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise NotFound(
                    f"there is no {what} on this host", hint="virsh list --all"
                ) from error
            raise HypervisorTrouble(f"the {what}: {error}") from error


def _ours(dom: Any) -> bool:
    return f'"{NAMESPACE}"' in dom.XMLDesc() or f"'{NAMESPACE}'" in dom.XMLDesc()
