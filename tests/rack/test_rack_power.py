"""Power, hang and watchdog of emulated hosts: what is off is off, whatever it was doing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from rack_bench import PYTHON, wait_for

from outlast.errors import Conflict, NotFound
from outlast.rack.client import RackClient

pytestmark = pytest.mark.rack

STUCK_WRITER = """
import os
fd = os.open("/srv/pool/stuck", os.O_RDWR | os.O_CREAT)
print("open", flush=True)
while True:
    os.pwrite(fd, b"x" * 4096, 0); os.fdatasync(fd)
"""
DOG = """
import fcntl, os, struct, sys, time
dog = os.open("/dev/watchdog", os.O_WRONLY)
info = fcntl.ioctl(dog, 0x80285700, bytes(40))
assert b"watchdog" in info, info
assert struct.unpack("i", fcntl.ioctl(dog, 0xC0045706, struct.pack("i", 1))) == (1,)
assert struct.unpack("i", fcntl.ioctl(dog, 0x80045707, bytes(4))) == (1,)
try:
    os.open("/dev/watchdog", os.O_WRONLY)
    raise SystemExit("a second opener was let in")
except OSError as error:
    assert error.errno == 16, error
end = time.monotonic() + 1.6
while time.monotonic() < end or sys.argv[1] == "pet":
    fcntl.ioctl(dog, 0x80045705, bytes(4))
    print("petted", flush=True)
    time.sleep(0.1)
if sys.argv[1] == "polite":
    os.write(dog, b"V")
"""


def alive(pid: int) -> bool:
    """False for a process that is gone or a zombie without a living thread."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state not in "ZX" or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except OSError:
        return False


def boot_id(rack: RackClient, host: str) -> str:
    return rack.exec(host, ["cat", "/proc/sys/kernel/random/boot_id"]).stdout.strip()


def test_three_hosts_are_up_in_less_than_five_seconds(standing: RackClient) -> None:
    assert standing.up_took_s < 5  # type: ignore[attr-defined]
    status = standing.status()
    assert list(status["hosts"]) == ["a", "b", "c"]
    assert {h["power"] for h in status["hosts"].values()} == {"on"}
    assert status["hosts"]["b"]["addresses"] == {"mgmt": "10.90.77.2", "storage": "10.91.77.2"}


def test_a_host_is_a_world_of_its_own(rack: RackClient) -> None:
    seen = rack.exec("a", ["sh", "-c", "hostname; ls /proc | grep -c '^[0-9]'; cat /etc/hostname"])
    name, processes, file_name = seen.stdout.split()
    assert name == file_name == "a"
    assert int(processes) < 20
    ids = {h: rack.exec(h, ["cat", "/etc/machine-id"]).stdout.strip() for h in "abc"}
    assert len(set(ids.values())) == 3
    hidden = rack.exec("a", ["ls", str(rack.folder / "b")])
    assert hidden.returncode != 0
    # what a host writes to its root never reaches the machine
    rack.exec("a", ["sh", "-c", "echo x > /etc/outlast-was-here; mkdir -p /opt/outlast-was-here"])
    assert not Path("/etc/outlast-was-here").exists()
    assert not Path("/opt/outlast-was-here").exists()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        assert str(rack.folder) not in line, "a mount of the rack reached the machine"


def test_a_power_cut_kills_everything_even_stuck_in_storage(rack: RackClient) -> None:
    writer = rack.popen("a", [*PYTHON, STUCK_WRITER], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    # a subgroup as the guard makes it for VMs
    made = rack.exec(
        "a",
        ["sh", "-c", "mkdir -p /sys/fs/cgroup/vms/web && "
         "(echo 0 > /sys/fs/cgroup/vms/web/cgroup.procs; setsid sleep 600 >/dev/null 2>&1 &)"],
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    group = Path(rack._ask("door", host="a")["procs"]).parent
    wait_for("a sleeper in a subgroup", lambda: (group / "vms/web/cgroup.procs").read_text())
    rack.storage("stall", "a")
    wait_for("a stuck request", lambda: rack.status()["hosts"]["a"]["storage"]["held"])
    pids, first = rack.pids("a"), rack.status()["hosts"]["a"]["pid"]
    assert len(pids) >= 4
    rack.freeze("a")
    took = rack.power("a", "off")
    # the host's PID 1 may still wait, without any resource, for the machine to reap an orphan
    assert {p for p in pids if alive(p)} <= {first}
    wait_for("nothing is left of it", lambda: not any(map(alive, pids)), 5)
    assert took["total_ms"] < 2000
    assert not group.exists()
    assert writer.wait(5) != 0
    assert rack.status()["hosts"]["a"]["power"] == "off"
    with pytest.raises(Conflict, match="off"):
        rack.exec("a", ["true"])


def test_peers_of_a_host_without_power_see_silence(rack: RackClient) -> None:
    server = rack.popen(
        "b",
        [*PYTHON, "import socket, time\ns = socket.create_server(('0.0.0.0', 5002))\n"
         "print('up', flush=True)\nc, _ = s.accept()\ntime.sleep(600)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    assert server.stdout.readline() == b"up\n"
    with rack.dial("b", 5002) as sock:
        rack.power("b", "off")
        sock.settimeout(0.5)
        with pytest.raises(socket.timeout):
            sock.recv(1)
    server.wait(5)


def test_reset_keeps_the_disk_and_nothing_else(rack: RackClient) -> None:
    before = boot_id(rack, "c")
    rack.exec("c", ["sh", "-c", "echo kept > /etc/outlast/note; echo gone > /run/note; "
                    "echo gone > /etc/note; echo kept > /var/lib/outlast/note"])  # fmt: skip
    rack.power("c", "reset")
    assert boot_id(rack, "c") != before
    files = "/etc/outlast/note /var/lib/outlast/note /run/note /etc/note"
    left = rack.exec("c", ["sh", "-c", f"ls {files} 2>/dev/null"]).stdout.split()
    assert left == ["/etc/outlast/note", "/var/lib/outlast/note"]
    with pytest.raises(Conflict):
        rack.power("c", "on")


def test_a_frozen_host_stands_still_and_goes_on(rack: RackClient) -> None:
    ticker = rack.popen(
        "a", [*PYTHON, "import time\nwhile True: print(1, flush=True); time.sleep(0.01)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert ticker.stdout is not None
    ticker.stdout.read(2)
    assert rack.freeze("a")
    assert rack.status()["hosts"]["a"]["power"] == "frozen"
    with pytest.raises(Conflict, match="frozen"):
        rack.exec("a", ["true"])
    os.set_blocking(ticker.stdout.fileno(), False)
    ticker.stdout.read()  # what was printed before
    time.sleep(0.3)  # the absence of ticks cannot be waited for
    assert ticker.stdout.read() is None
    assert rack.thaw("a")
    wait_for("more ticks", ticker.stdout.read, 2)
    ticker.kill()
    ticker.wait()
    ticker.stdout.close()


def test_the_watchdog_resets_a_frozen_host_and_its_patience_can_end_politely(
    rack: RackClient,
) -> None:
    before = boot_id(rack, "a")
    polite = rack.exec("a", [*PYTHON, DOG, "polite"], timeout_s=20)
    assert polite.returncode == 0, polite.stderr
    dog = rack.status()["hosts"]["a"]["watchdog"]
    assert (dog["armed"], dog["fired"]) == (False, 0)
    petting = rack.popen("a", [*PYTHON, DOG, "pet"], stdout=subprocess.PIPE)
    assert petting.stdout is not None
    petting.stdout.readline()
    assert rack.status()["hosts"]["a"]["watchdog"]["armed"]
    rack.freeze("a")
    start = time.monotonic()
    wait_for("the watchdog", lambda: rack.status()["hosts"]["a"]["watchdog"]["fired"] == 1, 5)
    assert 0.5 < time.monotonic() - start < 2.5
    wait_for("a reboot", lambda: rack.status()["hosts"]["a"]["power"] == "on", 10)
    wait_for("a new boot", lambda: boot_id(rack, "a") != before)
    assert not rack.status()["hosts"]["a"]["watchdog"]["armed"]
    petting.wait(5)
    petting.stdout.close()


def test_services_run_while_their_condition_holds_and_come_back(rack: RackClient) -> None:
    first = rack.service_pid("b", "libvirtd")
    subprocess.run(["kill", "-9", str(first)], check=True)

    def again() -> bool:
        try:
            return rack.service_pid("b", "libvirtd") != first
        except NotFound:
            return False

    wait_for("libvirtd started again", again, 5)
    wait_for("it answers", lambda: rack.exec("b", ["virsh", "list"]).returncode == 0)
    with pytest.raises(NotFound, match="outlast-guard"):
        rack.service_pid("b", "outlast-guard")
    rack.exec("b", ["sh", "-c", "echo '{}' > /etc/outlast/host.json"])
    try:
        guard = lambda: rack.status()["hosts"]["b"]["services"]["outlast-guard"]  # noqa: E731
        wait_for("the guard was started", lambda: guard()["starts"])
    finally:
        rack.exec("b", ["rm", "/etc/outlast/host.json"])
    state = json.loads((rack.folder / "b/run/rack/services.json").read_text())
    assert state["libvirtd"]["starts"] >= 2
