"""A pool without a shared file system: etcd on its three hosts, disks on block devices.

Each host runs a member of etcd on its storage network, and has its own directory of the pool. The
devices are the machine's, so all hosts have the same ones, as on a SAN.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from evidence import BACK_S, FENCE_S, Lives, Story

sys.path.insert(0, str(Path(__file__).parents[2] / "contract"))

from etcd_process import make_pki

from outlast.rack.guest import build
from outlast.rack.lab import DISK, KERNEL, MEMORY, MEMORY_OF_HOST, Lab
from outlast.wire.shapes import VmCreate, make
from outlast.wire.sizes import parse_size

pytestmark = [pytest.mark.rack, pytest.mark.slow]

DIR = "/var/lib/outlast/pool"  # of each host, on its own disk
PKI = "/etc/outlast/etcd"
ETCD = """
setsid etcd --name {name} --data-dir /root/etcd --initial-cluster {all} \
 --listen-client-urls https://{ip}:2379 --advertise-client-urls https://{ip}:2379 \
 --listen-peer-urls https://{ip}:2380 --initial-advertise-peer-urls https://{ip}:2380 \
 --client-cert-auth --trusted-ca-file {pki}/ca.pem --cert-file {pki}/cert.pem \
 --key-file {pki}/cert.key --peer-client-cert-auth --peer-trusted-ca-file {pki}/ca.pem \
 --peer-cert-file {pki}/cert.pem --peer-key-file {pki}/cert.key \
 --heartbeat-interval 50 --election-timeout 500 </dev/null >/var/log/outlast/etcd.log 2>&1 &
"""


class EtcdLab(Lab):
    """A lab whose hosts share block devices and an etcd, but no file system."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.devices: list[str] = []

    def start(self) -> None:
        self.rack.down(purge=True)
        self.rack.up(hosts=3, storage="bind", leashed=True)
        hosts = self.rack.status()["hosts"]
        self.hosts = list(hosts)
        ips = {host: str(state["addresses"]["storage"]) for host, state in hosts.items()}
        kernel = build.build(self.folder / "guest")
        make_pki(self.folder / "etcd-pki", *ips.values())
        every = ",".join(f"{host}=https://{ip}:2380" for host, ip in ips.items())
        for host, ip in ips.items():
            disk = self.folder / host / "disk"
            shutil.copytree(self.folder / "etcd-pki", disk / "etc-outlast/etcd")
            command = ETCD.format(name=host, ip=ip, all=every, pki=PKI)
            self.rack.exec(host, ["sh", "-c", command])
        there = [word for ip in ips.values() for word in ("--etcd", f"https://{ip}:2379")]
        timing = ["--lab", "--watchdog", "required"]
        self.wait(lambda: self._made(there, timing), 20, "etcd does not start")
        for host, state in hosts.items():
            argv = ["--name", host, "--address", str(state["addresses"]["mgmt"]), "--no-wait"]
            where = [] if host == self.hosts[0] else there
            self.outlast(
                host, "host", "join", DIR, *where, *argv,
                "--memory", MEMORY_OF_HOST, "--accelerator", "tcg",
            )  # fmt: skip
            shutil.copy(kernel, self.folder / host / "disk/var-outlast/pool/images" / KERNEL)
        self.wait_members(self.hosts)

    def _made(self, there: list[str], timing: list[str]) -> bool:
        self.outlast(self.hosts[0], "pool", "init", DIR, "--name", "demo", *timing, *there)
        return True

    def give(self, vm: str) -> None:
        """Every host gets one block device more; a new VM has it as its disk."""
        file = self.folder / "pool/images" / f"{vm}.raw"  # where the ledger looks for it
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(parse_size(DISK)))
        device = subprocess.run(
            ["losetup", "-f", "--show", file], capture_output=True, text=True, check=True
        ).stdout.strip()
        self.devices.append(device)
        number = Path(device).stat().st_rdev
        for host in self.hosts:
            self.rack.exec(host, ["mknod", f"/dev/{vm}", "b", str(number >> 8), str(number & 255)])
        self.client().create(make(
            VmCreate, name=vm, memory=MEMORY, disks=[{"path": f"/dev/{vm}"}], use_existing=True,
            kernel=f"{DIR}/images/{KERNEL}", cmdline="ms=100", serial_log=f"{DIR}/logs/{vm}.log",
        ))  # fmt: skip
        self.vms.append(vm)
        self.client().start(vm)

    def end(self) -> None:
        super().end()
        for device in self.devices:
            subprocess.run(["losetup", "-d", device], check=True)
        self.devices.clear()

    def log(self, vm: str) -> str:
        """Of all hosts: each keeps its own."""
        paths = (self.folder / h / f"disk/var-outlast/pool/logs/{vm}.log" for h in self.hosts)
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdLab]:
    with EtcdLab(tmp_path_factory.mktemp("etcd")) as lab:
        lab.start()
        lab.give("vm1")
        yield lab


@pytest.fixture
def lab(pool: EtcdLab) -> Iterator[EtcdLab]:
    pool.wait_running(["vm1"])
    pool.wait(lambda: pool.boots("vm1") >= 1, 20, "vm1 does not come up")
    yield pool
    assert pool.verdict("vm1").sound


def test_a_vm_moves(lab: EtcdLab) -> None:
    """With certificates of an authority that the hosts have from etcd."""
    source, boots = lab.where("vm1"), lab.boots("vm1")
    target = next(host for host in lab.hosts if host != source)
    lab.client().migrate("vm1", target)
    lab.wait(lambda: lab.where("vm1") == target, 30, "vm1 does not move")
    lab.wait_running(["vm1"])
    assert lab.boots("vm1") == boots
    said = lab.client(source)
    lab.wait(
        lambda: (target, "vm-moved") in {(e.host, e.code) for e in said.timeline(0, 5000)},
        15, f"{source} does not hear what {target} tells",
    )  # fmt: skip


def test_without_a_majority_of_etcd_nothing_ends(lab: EtcdLab) -> None:
    """As all losing the storage: the hosts give each other time, and it all goes on after that."""
    story, before, boots = Story(lab), lab.processes()["vm1"], lab.boots("vm1")
    for host in lab.hosts[:2]:
        lab.rack.exec(host, ["pkill", "-STOP", "-x", "etcd"])
    lab.wait(
        lambda: told(lab, "time-given") >= set(lab.hosts), 20, "not each host is given more time"
    )
    time.sleep(3 * FENCE_S)  # longer than any host could go on alone
    assert lab.processes()["vm1"] == before
    for host in lab.hosts[:2]:
        lab.rack.exec(host, ["pkill", "-CONT", "-x", "etcd"])
    lab.wait(
        lambda: told(lab, "storage-back") >= set(lab.hosts), 20, "not each host has etcd again"
    )
    lab.wait_members(lab.hosts)
    assert lab.processes()["vm1"] == before
    assert lab.boots("vm1") == boots
    assert "view-changed" not in story.codes()


def test_a_host_loses_etcd_and_its_vm_starts_elsewhere(lab: EtcdLab) -> None:
    victim, story, boots = lab.where("vm1"), Story(lab), lab.boots("vm1")
    with Lives(lab) as lives:
        lab.rack.isolate(victim, "storage")
        took_s = lab.wait(
            lambda: lab.boots("vm1") > boots and lab.where("vm1") not in ("", victim),
            BACK_S, "vm1 does not come back",
        )  # fmt: skip
        assert not lives.overlaps()
    print(f"back after {took_s:.2f} s")
    story.wait("host-silent", "view-changed", "lease-taken")
    lab.rack.heal()
    lab.wait_members(lab.hosts)


def told(lab: EtcdLab, code: str) -> set[str]:
    """Which hosts said it, by their own files: the pool's journal needs etcd."""
    found = set()
    for host in lab.hosts:
        path = lab.folder / host / "disk/var-outlast/journal.jsonl"
        lines = path.read_text().splitlines()
        if any(json.loads(line)["code"] == code for line in lines if line):
            found.add(host)
    return found
