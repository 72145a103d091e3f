"""`outlast vm adopt`: domains of a host's libvirt, down to their disks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command_line import Outlast
from memory_service import MemoryService

from outlast.agent.server import Server
from outlast.agent.server_thread import ServerThread
from outlast.equipment import Repository
from outlast.images import qemu_img
from outlast.mounts.registry import add
from outlast.pool.facts import Answering
from outlast.storage.posix import PosixRegister

XML = """<domain type='kvm'><name>{name}</name><memory unit='GiB'>1</memory><vcpu>2</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='{path}'/>
<target dev='vda' bus='virtio'/></disk>
<interface type='{net}'><source {net}='{where}'/></interface></devices></domain>"""


def xml(
    path: Path, kind: str = "qcow2", *, name: str = "web", net: str = "bridge", where: str = "br0"
) -> str:
    return XML.format(name=name, path=path, kind=kind, net=net, where=where)


@pytest.fixture
def host(outlast: Outlast, pool: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    service = MemoryService(pool)
    service.register = PosixRegister(pool, "1")  # type: ignore[assignment]
    thread = ServerThread(Server(service, tmp_path / "run/agent.sock"))
    thread.start()
    yield service
    thread.stop()


def test_a_domain_on_the_pools_storage_is_taken_where_it_is(
    outlast: Outlast, pool: Path, host: MemoryService, tmp_path: Path
) -> None:
    disk = pool / "images/web.qcow2"
    qemu_img.create(disk, 1 << 20)
    assert "no domains but the pool's" in outlast("vm", "adopt").out
    host.foreigners.xml["web"] = xml(disk)
    row = outlast("vm", "adopt").out.splitlines()[1].split()
    assert row == ["web", "1024", "MiB", "2", "1", "yes"]
    said = outlast("vm", "adopt", "web")
    assert said.code == 0, said.err
    kept = tmp_path / "var/adopted/web.xml"
    assert said.out.startswith(f"web is adopted; libvirt's definition of 'web' is kept in {kept}")
    assert "new hardware addresses" in said.out
    assert kept.read_text() == xml(disk)
    assert host.foreigners.names() == []
    held = host.read_vm("web")
    assert held is not None
    spec = held.value.spec
    assert (spec.memory_mib, spec.vcpus, spec.networks) == (1024, 2, ("br0",))
    assert [(d.path, d.format) for d in spec.disks] == [(str(disk), "qcow2")]
    assert outlast("vm", "adopt", "web").code == 3


def test_one_elsewhere_is_copied_first(
    outlast: Outlast, pool: Path, host: MemoryService, tmp_path: Path
) -> None:
    disk = tmp_path / "old.img"
    disk.write_bytes(b"the old disk" * 50000)
    host.foreigners.xml["Old_Web"] = xml(disk, "raw", name="Old_Web", net="network", where="x")
    assert outlast("vm", "adopt").out.splitlines()[1].split()[5:] == [
        "with", "--copy", "--network", "BRIDGE",
    ]  # fmt: skip
    at = ("--pool", str(pool), "--limit", "none")
    for words, told in (
        ((), "is no usable VM name|is not a usable VM name"),
        (("--as", "web"), "a network card is on the network x"),
        (("--as", "web", "--network", "br0"), "is not on the pool's storage"),
    ):
        said = outlast("vm", "adopt", "Old_Web", *words, *at)
        assert said.code in {2, 4}
        assert any(one in said.err for one in told.split("|")), said.err
        assert host.foreigners.names() == ["Old_Web"]
    words = ("--as", "web", "--network", "br0", "--copy")
    said = outlast("vm", "adopt", "Old_Web", *words, *at)
    assert said.code == 0, said.err
    copied = pool / "images/web.qcow2"
    compare = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, copied]
    assert "identical" in subprocess.run(compare, capture_output=True, text=True).stdout
    assert [path.name for path in (pool / "images").rglob(".*")] == []


def test_a_domain_on_another_storage_of_the_pool_is_taken_where_it_is(
    outlast: Outlast, pool: Path, host: MemoryService, tmp_path: Path
) -> None:
    fast = tmp_path / "fast"
    fast.mkdir()
    disk = fast / "web.qcow2"
    qemu_img.create(disk, 1 << 20)
    host.foreigners.xml["web"] = xml(disk)
    assert "--copy" in outlast("vm", "adopt").out
    add(host.register, Repository("fast", "dir", path=str(fast)), pool)
    said = outlast("vm", "adopt", "web")
    assert (said.code, "the storage fast is not known here yet" in said.err) == (4, True)
    assert host.foreigners.names() == ["web"]
    host.answering["fast"] = Answering(1 << 60)
    said = outlast("vm", "adopt", "web")
    assert said.code == 0, said.err
    held = host.read_vm("web")
    assert held is not None
    assert [(d.path, d.repository) for d in held.value.spec.disks] == [(str(disk), "fast")]


def test_what_cannot_be_adopted_stays_with_libvirt(
    outlast: Outlast, pool: Path, host: MemoryService
) -> None:
    disk, named = pool / "images/web.qcow2", pool / "images/web.img"
    qemu_img.create(disk, 1 << 20)
    qemu_img.create(named, 1 << 20)

    def refused(text: str, words: str, name: str = "web") -> None:
        host.foreigners.xml["web"] = text
        said = outlast("vm", "adopt", "web", "--as", name)
        assert (said.code, words in said.err) == (4, True), said.err
        assert host.foreigners.xml["web"] == text

    host.foreigners.notes["web"] = "it runs: shut it down first"
    refused(xml(disk), "it runs: shut it down first")
    host.foreigners.notes.clear()
    refused(xml(disk).replace("<devices>", "<devices><tpm/>"), "it has a TPM")
    refused(xml(named), "is qcow2, which its name does not say")
    refused(xml(pool / "secret", "raw"), "is not on the pool's storage")
    host.foreigners.xml["other"] = xml(disk, name="other")
    refused(xml(disk), "the domain 'other' has the same disk")
    del host.foreigners.xml["other"]
    assert outlast("vm", "create", "taken", "--memory", "1GiB").code == 0
    refused(xml(disk), "there is a VM 'taken' already", name="taken")


def test_a_domain_that_runs_while_it_is_copied_is_not_adopted(
    outlast: Outlast, pool: Path, host: MemoryService, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    disk = tmp_path / "old.img"
    disk.write_bytes(b"x" * (1 << 20))
    host.foreigners.xml["web"] = xml(disk, "raw")
    convert = qemu_img.convert

    def meanwhile(*args: object) -> None:
        convert(*args)  # type: ignore[arg-type]
        disk.write_bytes(b"y" * (1 << 20))

    monkeypatch.setattr(qemu_img, "convert", meanwhile)
    said = outlast("vm", "adopt", "web", "--copy", "--pool", str(pool), "--limit", "none")
    assert (said.code, "changed while they were copied" in said.err) == (4, True)
    assert host.foreigners.names() == ["web"]
    assert list((pool / "images").iterdir()) == []
