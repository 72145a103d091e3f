"""Hosts that are emptied, switched off and trusted no more, while their VMs run on elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from evidence import T_DEAD_S, Story, boots, command, settle, victims, wait_back
from healing import undisturbed

from outlast.rack.lab import POOL, Lab
from outlast.wire import seal

pytestmark = pytest.mark.rack

CAPTURE = """
import socket, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.settimeout(0.2)
end, got = time.monotonic() + float(sys.argv[1]), bytearray()
while time.monotonic() < end:
    try:
        got += wire.recv(1 << 17)
    except TimeoutError:
        pass
open(sys.argv[2], "wb").write(got)
"""
EAR = """
import socket, sys
ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ear.bind(("255.255.255.255", 9))
ear.settimeout(15)
print("listening", flush=True)
sys.stdout.buffer.write(ear.recv(200))
"""
TLS_DATA = b"\x17\x03\x03"  # a TLS record of application data begins so (RFC 8446, 5.1)


@undisturbed
def test_a_host_in_maintenance_is_emptied_and_filled_again(lab: Lab) -> None:
    before, story = boots(lab), Story(lab)
    host = lab.where("vm1")
    there = victims(lab, host)
    said = command(lab, host, "host", "maintain", host, "--why", "new memory")
    assert said.returncode != 0
    assert "--yes" in said.stderr, "nobody was there to ask"
    began = time.monotonic()
    said = command(lab, host, "host", "maintain", host, "--why", "new memory", "--yes")
    assert said.returncode == 0, said.stderr
    print(f"{len(there)} VMs moved in {time.monotonic() - began:.1f} s")
    moves = "VM moves" if len(there) == 1 else "VMs move"
    assert f"{len(there)} {moves} away from {host}" in said.stdout
    lab.wait(lambda: not victims(lab, host), 5, f"{host} is not empty")
    shown = command(lab, host, "host", "list")
    assert "in maintenance: new memory" in shown.stdout
    if "late" not in lab.vms:
        lab.create(["late"], start=True)
    lab.wait_running(["late"])
    assert lab.where("late") != host, "it took a new VM"

    said = command(lab, host, "host", "resume", host, "--bring-back")
    assert said.returncode == 0, said.stderr
    lab.wait(lambda: _at_rest(lab), 60, "not all came back")
    assert set(victims(lab, host)) == set(there)
    settle(lab, before)
    assert boots(lab, before) == before, "a VM has started anew"
    assert "vm-crashed" not in story.codes()
    lab.client().delete("late", force=True, with_disks=True)
    lab.vms.remove("late")


@undisturbed
def test_a_host_is_switched_off_without_an_outage(lab: Lab) -> None:
    before = boots(lab)
    host = lab.where("vm2")
    asked = next(h for h in lab.hosts if h != host)
    said = command(lab, asked, "host", "power-off", host, "--migrate", "all", "--yes")
    assert said.returncode == 0, said.stderr
    lab.wait(lambda: _power(lab, host) == "off", 10, f"{host} is still on")
    settle(lab, lab.vms)
    assert boots(lab) == before, "a VM has started anew"
    _wake(lab, host, asked)
    assert not victims(lab, host), "it is still in maintenance"
    assert command(lab, asked, "host", "resume", host, "--bring-back").returncode == 0
    lab.wait(lambda: _at_rest(lab), 60, "not all came back")
    assert victims(lab, host), "nothing came back"
    assert _power(lab, host) == "on", "an old wish switched it off again"


def _wake(lab: Lab, host: str, asked: str) -> None:
    """A third host hears the packets; then this machine plays the card that does."""
    third = next(h for h in lab.hosts if h not in {host, asked})
    macs = next(h.macs for h in lab.client(asked).status().hosts if h.name == host)
    ear = lab.rack.popen(third, [sys.executable, "-c", EAR], stdout=subprocess.PIPE)
    assert ear.stdout is not None
    assert ear.stdout.readline() == b"listening\n"
    waker = threading.Thread(target=command, args=(lab, asked, "host", "power-on", host))
    waker.start()
    heard, _ = ear.communicate(timeout=20)
    assert heard == b"\xff" * 6 + bytes.fromhex(macs[0].replace(":", "")) * 16
    lab.rack.power(host, "on")
    waker.join(60)
    lab.wait_members(lab.hosts)


@undisturbed
def test_what_was_not_moved_starts_elsewhere_at_once(lab: Lab) -> None:
    host = lab.where("vm3")
    lost = victims(lab, host)
    asked = next(h for h in lab.hosts if h != host)
    before, story = boots(lab, lost), Story(lab)
    said = command(lab, asked, "host", "power-off", host, "--yes")
    assert said.returncode == 0, said.stderr
    wait_back(lab, before)
    told = story.wait("host-leaves", about=host)
    assert "host-silent" not in told, "somebody waited for its silence"
    at = {e.code: e.wall_s for e in reversed(story.entries())}
    took_s = at["lease-taken"] - at["host-leaves"]
    print(f"taken over {took_s:.2f} s after it left, T_dead is {T_DEAD_S:g} s")
    assert took_s < T_DEAD_S
    lab.wait(lambda: _power(lab, host) == "off", 10, f"{host} is still on")


@undisturbed
def test_a_host_is_confirmed_off_and_nobody_waits(lab: Lab) -> None:
    """The machine has no power and a person says so."""
    host = lab.where("vm2")
    lost, story = victims(lab, host), Story(lab)
    before = boots(lab, lost)
    lab.rack.power(host, "off")
    time.sleep(1.5)  # so long is its network beat remembered
    client = lab.client(others_than(lab, host))
    said = client.confirm_off(host, "no power")
    assert said.changed
    wait_back(lab, before)
    story.wait("host-off", about=host)
    told = story.wait("lease-taken", "vm-starts", about=lost[0])
    assert "proof: fenced" in told["lease-taken"][0]
    lab.rack.power(host, "on")
    lab.wait_members(lab.hosts)


def others_than(lab: Lab, host: str) -> str:
    return next(h for h in lab.hosts if h != host)


def test_nothing_of_a_vm_is_readable_on_the_wire(lab: Lab) -> None:
    source = lab.where("vm4")
    target = next(h for h in lab.hosts if h != source)
    secret = _secret(lab, "vm4", source)
    capture = lab.folder / source / "log/wire"
    watcher = threading.Thread(
        target=lab.rack.exec,
        args=(source, ["python3", "-c", CAPTURE, "4", "/var/log/outlast/wire"]),
        kwargs={"timeout_s": 30},
    )
    watcher.start()
    time.sleep(0.5)
    lab.client().migrate("vm4", target)
    watcher.join()
    assert lab.where("vm4") == target
    wire = capture.read_bytes()
    assert len(wire) > 100_000, "the move was not captured"
    assert wire.count(TLS_DATA) > 20
    assert secret not in wire


@undisturbed
def test_a_host_whose_certificates_are_revoked_gets_nothing(lab: Lab) -> None:
    source = lab.where("vm5")
    target = next(h for h in lab.hosts if h != source)
    said = lab.outlast(source, "pool", "revoke", target, "--pool", POOL)
    assert "revoked: host" in said
    assert "revoked: qemu" in said
    lab.wait(lambda: _knows(lab, source) and _knows(lab, target), 15, "it is not known everywhere")
    lab.client(source).migrate("vm5", target)
    lab.wait(lambda: _failed(lab, "vm5") != "", 20, "the move goes on")
    print(_failed(lab, "vm5"))
    assert lab.where("vm5") == source
    lab.outlast(target, "host", "renew")
    certificates = json.loads(
        lab.outlast(source, "pool", "certificates", "--pool", POOL, "--json")
    )["certificates"]
    mine = [c for c in certificates if c["name"] == target]
    assert [c["revoked"] for c in mine] == [True, True, False, False]
    time.sleep(5)  # its agent takes the new one within seconds
    lab.client(source).migrate("vm5", target)
    lab.wait(lambda: lab.where("vm5") == target, 20, "the renewed one is refused")


@undisturbed
def test_a_qemu_with_foreign_certificates_is_refused(lab: Lab, tmp_path: Path) -> None:
    source = lab.where("vm6")
    target = next(h for h in lab.hosts if h != source)
    place = lab.folder / target / "disk/pki/qemu"
    ours = {path.name: path.read_bytes() for path in place.iterdir()}
    other = tmp_path / "other"
    other.mkdir()
    seal.create_authority(other)
    addresses = [str(a) for a in lab.rack.status()["hosts"][target]["addresses"].values()]
    key, cert = seal.issue_host(other, target, "u", addresses, seal.QEMU)
    for role in ("server", "client"):
        (place / f"{role}-key.pem").write_bytes(key)
        (place / f"{role}-cert.pem").write_bytes(cert)
    try:
        lab.client(source).migrate("vm6", target)
        lab.wait(lambda: _failed(lab, "vm6") != "", 30, "the move goes on")
        print(_failed(lab, "vm6"))
        assert lab.where("vm6") == source
    finally:
        for name, data in ours.items():
            (place / name).write_bytes(data)


def _power(lab: Lab, host: str) -> str:
    return str(lab.rack.status()["hosts"][host]["power"])


def _at_rest(lab: Lab) -> bool:
    """No VM has a wish to move."""
    return all(vm.move is None for vm in lab.statuses().values())


def _failed(lab: Lab, vm: str) -> str:
    move = lab.statuses()[vm].move
    return move.failed if move else ""


def _knows(lab: Lab, host: str) -> bool:
    """The host has the pool's newest list of revoked certificates, and so has its QEMU."""
    newest = (lab.pool_dir / "pki/crl.pem").read_bytes()
    etc = lab.folder / host / "disk/etc-outlast/pki/crl.pem"
    qemu = lab.folder / host / "disk/pki/qemu/ca-crl.pem"
    return etc.read_bytes() == newest and qemu.read_bytes() == newest


def _secret(lab: Lab, vm: str, host: str) -> bytes:
    """Something that certainly stands in the VM's memory: a piece of its kernel."""
    kernel = (lab.pool_dir / "images/pulsar.elf").read_bytes()
    at = kernel.index(b"this kernel needs the machine")
    piece = kernel[at : at + 24]
    ((_, pid),) = [place for place in lab.processes()[vm] if place[0] == host]
    found = 0
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, _, last = line.split()[0].partition("-")
            size = int(last, 16) - int(first, 16)
            if "rw-" in line and 8 << 20 <= size <= 9 << 20:
                memory.seek(int(first, 16))
                found += memory.read(size).count(piece)
    assert found, "the test looks for something that is not there"
    return piece


def test_a_host_is_removed_for_good(lab: Lab) -> None:
    """The last test of this pool: it has a host less afterwards."""
    before = boots(lab)
    host = lab.hosts[-1]
    other = others_than(lab, host)
    said = command(lab, other, "host", "remove", host, "--yes")
    assert said.returncode == 0, said.stderr
    assert boots(lab) == before, "a VM noticed"
    assert host not in {h.name for h in lab.client(other).status().hosts}
    lab.hosts.remove(host)
    settle(lab, lab.vms)
