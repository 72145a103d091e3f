"""What is still on a host that is being emptied (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from outlast.wire.shapes import VmStatus
from outlast.words import plural


def on(host: str, vms: Iterable[VmStatus]) -> list[VmStatus]:
    """VMs that it has, and that are not down there."""
    return [vm for vm in vms if vm.host == host and vm.state != "stopped"]


def stuck(vms: Iterable[VmStatus]) -> list[VmStatus]:
    """Those whose move failed: the pool tries again, or somebody has to do something."""
    return [vm for vm in vms if vm.move is not None and vm.move.failed]


def told(host: str, here: list[VmStatus]) -> str:
    return f"{plural(len(here), 'VM is', 'VMs are')} still on {host}"
