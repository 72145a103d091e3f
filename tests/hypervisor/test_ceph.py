"""VMs whose disks are images of a real Ceph, reached with a key that QEMU cannot read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ceph_process import CephProcess, why_not
from driver_kit import ENDS, Ground, until
from private_libvirtd import PrivateLibvirtd
from tiny_guest import write_disk

from outlast.errors import HypervisorTrouble
from outlast.hypervisor.libvirt_ceph import KEYRING
from outlast.model import Disk, VmSpec, VmState

pytestmark = [pytest.mark.rack, pytest.mark.usefixtures("ceph")]


@pytest.fixture(scope="module")
def ceph(
    libvirtd: PrivateLibvirtd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CephProcess]:
    if reason := why_not():
        pytest.skip(reason)
    etc, folder = tmp_path_factory.mktemp("etc"), tmp_path_factory.mktemp("ceph")
    libvirtd.inside("mkdir", "-p", "/etc/ceph")
    libvirtd.inside("mount", "--bind", str(etc), "/etc/ceph")
    made = CephProcess(libvirtd.inside, etc, folder)
    made.pool("vms")
    system = folder / "system"
    write_disk(system, writes=True, size=32 << 20)
    made.rbd("import", str(system), "vms/web")
    yield made


def web(ground: Ground) -> VmSpec:
    log = ground.folder / "serial"
    return ground.spec("web", disks=(Disk("rbd:vms/web"),), serial_log=str(log))


def started(ground: Ground) -> bool:
    try:
        ground.driver.start(web(ground))
    except HypervisorTrouble:
        return False
    return True


def ticks(ground: Ground) -> int:
    said = (ground.folder / "serial").read_text()
    assert "disk error" not in said
    return said.count("tick")


def test_a_vm_runs_from_an_image_and_again_after_it_was_killed(
    libvirtd: PrivateLibvirtd, ceph: CephProcess, ground: Ground
) -> None:
    caps = ("mon", "profile rbd", "osd", "profile rbd pool=vms")
    ceph.ceph("auth", "get-or-create", "client.outlast", *caps, "-o", KEYRING)
    key = ceph.ceph("auth", "print-key", "client.outlast").strip()
    libvirtd.crash()
    libvirtd.start()  # it knows no key any more
    until(lambda: started(ground), "a start")
    until(lambda: ticks(ground) > 2, "it writes")
    (vm,) = ground.driver.list()
    argv = (libvirtd.root / f"proc/{vm.pid}/cmdline").read_text()
    assert vm.state is VmState.RUNNING and '"driver":"rbd"' in argv and key not in argv
    assert '"user":"outlast"' in argv
    assert ceph.rbd("lock", "ls", "vms/web"), "the image lets nobody else write"

    ground.driver.kill("web")
    ground.await_kind("web", *ENDS)
    before = ticks(ground)
    ground.driver.start(web(ground))
    until(lambda: ticks(ground) > before + 1, "it writes again, once Ceph has given up the dead")


def test_a_keyring_without_a_key_is_told(libvirtd: PrivateLibvirtd, ground: Ground) -> None:
    (libvirtd.root / KEYRING.lstrip("/")).write_text("[client.outlast]\n")
    with pytest.raises(HypervisorTrouble, match="holds no key of client") as trouble:
        ground.driver.start(web(ground))
    assert "ceph auth get" in trouble.value.hint
