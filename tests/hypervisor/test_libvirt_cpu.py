"""Processors in a real libvirt's words: what a host has, what several have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from private_libvirtd import PrivateLibvirtd

from outlast.errors import HypervisorTrouble
from outlast.hypervisor.domain_xml import DomainOptions, domain_xml
from outlast.hypervisor.libvirt_driver import LibvirtDriver, LibvirtOptions
from outlast.model import VmSpec


@pytest.fixture
def driver(libvirtd: PrivateLibvirtd) -> Iterator[LibvirtDriver]:
    made = LibvirtDriver(libvirtd.uri, LibvirtOptions(domain=DomainOptions("tcg")))
    yield made
    made.close()


def features(cpu: str) -> dict[str, str]:
    found = ET.fromstring(cpu).iter("feature")
    return {f.get("name", ""): f.get("policy", "") for f in found}


def without(cpu: str, feature: str) -> str:
    """The same processor, older by one feature."""
    root = ET.fromstring(cpu)
    for known in list(root.iter("feature")):
        if known.get("name") == feature:
            root.remove(known)
    ET.SubElement(root, "feature", name=feature, policy="disable")
    return ET.tostring(root, encoding="unicode")


def test_what_a_host_has(driver: LibvirtDriver) -> None:
    own = driver.processors.own()
    assert driver.processors.own() is own
    root = ET.fromstring(own)
    assert (root.tag, root.get("mode")) == ("cpu", "custom")
    assert root.findtext("model")
    assert "\n" not in own


def test_what_hosts_have_in_common(driver: LibvirtDriver) -> None:
    own = driver.processors.own()
    alone = driver.processors.baseline([own])
    feature = next(n for n, p in features(alone).items() if p == "require" and n != "hypervisor")
    common = driver.processors.baseline([own, without(own, feature)])
    assert features(alone)[feature] == "require"
    assert features(common).get(feature) != "require"
    assert driver.processors.baseline([without(own, feature), own]) == common


def test_a_vm_sees_what_the_pool_has_in_common(driver: LibvirtDriver) -> None:
    common = driver.processors.baseline([driver.processors.own()])
    spec = VmSpec("web", "00000000-0000-4000-8000-000000000001", 16, 1)
    for accelerator in ("tcg", "kvm"):
        options = replace(DomainOptions(), accelerator=accelerator, cpu=common)
        shown = [ET.tostring(c) for c in ET.fromstring(domain_xml(spec, options)).findall("cpu")]
        assert len(shown) == 1
        assert features(shown[0].decode()) == features(common)


@pytest.mark.parametrize("bad", ["<cpu/>", "nonsense", "<cpu><model>no-such</model></cpu>"])
def test_processors_that_are_none(driver: LibvirtDriver, bad: str) -> None:
    with pytest.raises(HypervisorTrouble, match="nothing in common"):
        driver.processors.baseline([bad])
