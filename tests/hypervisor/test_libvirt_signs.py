"""A first sign of life over the network, in real QEMU: what a VM sends counts, what it hears not.

The firmware of one VM asks for an address, over and over; the other one stands still beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import libvirt
import pytest
from driver_kit import until
from private_libvirtd import PrivateLibvirtd

from outlast.hypervisor.guests import NETWORK
from outlast.hypervisor.libvirt_driver import LibvirtDriver, LibvirtOptions

pytestmark = pytest.mark.rack
BRIDGE = "br-signs"
XML = f"""
<domain type='qemu'><name>{{name}}</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='network'/></os>
<devices><interface type='bridge'><source bridge='{BRIDGE}'/><model type='virtio'/>
<rom enabled='{{rom}}'/></interface></devices></domain>"""


@pytest.fixture
def driver(libvirtd: PrivateLibvirtd) -> Iterator[LibvirtDriver]:
    libvirtd.inside("ip", "link", "add", BRIDGE, "type", "bridge")
    libvirtd.inside("ip", "link", "set", BRIDGE, "up")
    conn = libvirt.open(libvirtd.uri)
    driver = LibvirtDriver(libvirtd.uri, LibvirtOptions(root=libvirtd.root))
    try:
        for name, rom in (("asks", "yes"), ("stands", "no")):
            conn.createXML(XML.format(name=name, rom=rom), 0)
        yield driver
    finally:
        driver.close()
        for domain in conn.listAllDomains():
            domain.destroy()
        conn.close()
        libvirtd.inside("ip", "link", "del", BRIDGE)


def test_only_what_a_card_sends_is_a_sign(driver: LibvirtDriver, libvirtd: PrivateLibvirtd) -> None:
    both = {"asks": 1, "stands": 1}
    until(lambda: driver.guests.signs(both) == {"asks": NETWORK}, "a packet")
    conn = libvirt.openReadOnly(libvirtd.uri)
    stands = conn.lookupByName("stands")

    def heard() -> int:
        ((_, stats),) = conn.domainListGetStats([stands], libvirt.VIR_DOMAIN_STATS_INTERFACE)
        return int(stats["net.0.rx.pkts"])

    until(lambda: heard() > 0, "the other one hears it")
    assert driver.guests.signs(both) == {"asks": NETWORK}
    conn.close()
