"""The shared file system of the rack: coherent, exact between hosts, and breakable on purpose."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from rack_bench import PYTHON, wait_for

from outlast.rack.client import RackClient

pytestmark = pytest.mark.rack

RACE = """
import errno, json, os, sys
me, kind, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.makedirs("/srv/pool/race", exist_ok=True)
mine = f"/srv/pool/race/{kind}-{me}"
open(mine, "w").write(me)
print("ready", flush=True); sys.stdin.readline()
wins, other = [], []
for r in range(rounds):
    name = f"/srv/pool/race/{kind}.{r}"
    try:
        if kind == "link": os.link(mine, name)
        else: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        wins.append(r)
    except FileExistsError: pass
    except OSError as error: other.append(error.errno)
print(json.dumps([wins, other]), flush=True)
"""
BEAT = """
import mmap, os, sys, time
fd = os.open("/srv/pool/hb", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
block = mmap.mmap(-1, 4096)
print("open", flush=True)
for line in sys.stdin:
    block[:8] = int(line).to_bytes(8, "little")
    try:
        os.pwrite(fd, block, 0); os.fdatasync(fd)
        print("done", line, end="", flush=True)
    except OSError as error:
        print("error", error.errno, flush=True)
"""
WATCH = """
import mmap, os, sys, time
fd = os.open("/srv/pool/hb", os.O_RDONLY | os.O_DIRECT)
block = mmap.mmap(-1, 4096)
for line in sys.stdin:
    os.preadv(fd, [block], 0)
    print(int.from_bytes(block[:8], "little"), flush=True)
"""
LOCK = """
import fcntl, os, struct, sys
command = 38 if sys.argv[1:] == ["wait"] else 37  # F_OFD_SETLKW, F_OFD_SETLK as QEMU does
fd = os.open("/srv/pool/disk", os.O_RDWR | os.O_CREAT)
lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 100, 1, 0)
for line in sys.stdin:
    try:
        fcntl.fcntl(fd, command, lock)
        print("locked", flush=True)
    except OSError as error:
        print("refused", flush=True)
"""
# a lock goes with the last close, which the kernel reports a moment after its process has ended
HOLDER = "until qemu-io -t none -f qcow2 /srv/pool/t.qcow2; do :; done"


class Talk:
    """A program in a host that answers one line to each line."""

    def __init__(self, rack: RackClient, host: str, program: str, *arguments: str) -> None:
        self.process = rack.popen(
            host, [*PYTHON, program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        self.send(line)
        return self.hear()

    def close(self) -> None:
        self.process.communicate()


def held(rack: RackClient, host: str) -> int:
    return int(rack.status()["hosts"][host]["storage"]["held"])


def test_what_one_host_writes_all_others_read(rack: RackClient) -> None:
    rack.exec("a", ["sh", "-c", "mkdir -p /srv/pool/d; echo one > /srv/pool/d/x"])
    assert rack.exec("b", ["cat", "/srv/pool/d/x"]).stdout == "one\n"
    rack.exec("b", ["sh", "-c", "echo two >> /srv/pool/d/x; mv /srv/pool/d/x /srv/pool/d/y"])
    seen = rack.exec("c", ["sh", "-c", "ls /srv/pool/d; cat /srv/pool/d/y; ln -s y /srv/pool/d/z; "
                           "chmod 600 /srv/pool/d/y; truncate -s 3 /srv/pool/d/y"])  # fmt: skip
    assert seen.stdout.split() == ["y", "one", "two"]
    seen = rack.exec("a", ["sh", "-c", "stat -c '%a %s' /srv/pool/d/y; readlink /srv/pool/d/z; "
                           "rm -r /srv/pool/d; ls /srv/pool/d"])  # fmt: skip
    assert seen.stdout.split() == ["600", "3", "y"]
    kind = rack.exec("a", ["sh", "-c", "grep ' /srv/pool ' /proc/mounts"]).stdout.split()[2]
    assert kind == "fuse.glusterfs", "libvirt takes a mount for shared by this name only"


def test_direct_writes_are_seen_at_once_and_appends_are_whole(rack: RackClient) -> None:
    beat = Talk(rack, "a", BEAT)
    assert beat.hear() == "open"
    beat.ask("1")
    watchers = [Talk(rack, host, WATCH) for host in "bc"]
    for n in range(2, 60):
        assert beat.ask(str(n)) == f"done {n}"
        assert [int(w.ask("")) for w in watchers] == [n, n]
    for talk in (beat, *watchers):
        talk.close()
    line = "open('/srv/pool/log', 'ab', 0).write(b'%s' * 100 + b'\\n')"
    code = "for _ in range(50): " + line
    writers = [rack.popen(h, [*PYTHON, code % h]) for h in "abc"]
    assert [w.wait(20) for w in writers] == [0, 0, 0]
    lines = (rack.folder / "pool/log").read_text().split()
    assert len(lines) == 150
    assert {len(set(found)) for found in lines} == {1}


@pytest.mark.parametrize("kind", ["link", "excl"])
def test_a_name_has_one_winner(rack: RackClient, kind: str) -> None:
    rounds = 500
    racers = [Talk(rack, "ab"[i % 2], RACE, str(i), kind, str(rounds)) for i in range(4)]
    assert [r.hear() for r in racers] == ["ready"] * 4
    for racer in racers:
        racer.send("")
    results = [json.loads(r.hear()) for r in racers]
    for racer in racers:
        racer.close()
    assert [other for _, other in results] == [[], [], [], []]
    wins = sorted(w for won, _ in results for w in won)
    assert wins == list(range(rounds))
    assert sum(bool(won) for won, _ in results) > 1, "no race took place"


def test_a_stall_blocks_and_heals_without_loss(rack: RackClient) -> None:
    beat = Talk(rack, "a", BEAT)
    assert beat.hear() == "open"
    assert beat.ask("1") == "done 1"
    rack.storage("stall", "a", path="/hb$")
    beat.send("2")
    wait_for("a held write", lambda: held(rack, "a") == 1)
    assert rack.exec("a", ["sh", "-c", "echo fine > /srv/pool/other"]).returncode == 0
    assert rack.exec("b", ["sh", "-c", "echo fine > /srv/pool/hb2"]).returncode == 0
    rack.storage("heal", "a")
    assert beat.hear() == "done 2"
    rack.storage("fail", "a", ops=["write", "fsync"])
    assert beat.ask("3") == "error 5"
    rack.storage("fail", "a", errno="ENOSPC")
    assert beat.ask("4") == "error 28"
    rack.storage("slow", "a", ms=200, ops=["fsync"])
    start = time.monotonic()
    assert beat.ask("5") == "done 5"
    assert time.monotonic() - start > 0.2
    rack.storage("heal", "a")
    assert beat.ask("6") == "done 6"
    beat.close()


def test_a_killed_process_does_not_wait_for_stuck_storage(rack: RackClient) -> None:
    beat = Talk(rack, "a", BEAT)
    assert beat.hear() == "open"
    rack.storage("stall", "a")
    beat.send("1")
    wait_for("a held write", lambda: held(rack, "a") >= 1)
    beat.process.kill()  # nsenter; its child is the one that is stuck
    stuck = [p for p in rack.pids("a") if b"fdatasync" in Path(f"/proc/{p}/cmdline").read_bytes()]
    for pid in stuck:
        subprocess.run(["kill", "-9", str(pid)], check=True)
    wait_for("it is gone", lambda: not set(stuck) & set(rack.pids("a")), 2)
    beat.close()


def test_a_lost_reply_is_not_done_twice(rack: RackClient) -> None:
    rack.exec("a", ["sh", "-c", "echo x > /srv/pool/source"])
    rack.storage("lose-replies", "a", ops=["link"])
    linker = rack.popen("a", ["ln", "/srv/pool/source", "/srv/pool/target"], stderr=subprocess.PIPE)
    wait_for("the server linked it", (rack.folder / "pool/target").exists)
    rack.storage("heal", "a")
    assert linker.communicate(timeout=5)[1] == b""
    assert linker.returncode == 0


def test_a_cut_network_is_healed_by_reconnecting(rack: RackClient) -> None:
    beat = Talk(rack, "b", BEAT)
    assert beat.hear() == "open"
    assert beat.ask("1") == "done 1"
    rack.isolate("b", net="storage")
    beat.send("2")
    wait_for("a broken connection",
             lambda: not rack.status()["hosts"]["b"]["storage"]["connected"], 5)  # fmt: skip
    rack.heal()
    start = time.monotonic()
    assert beat.hear() == "done 2"
    assert time.monotonic() - start < 3
    beat.close()


def test_open_files_and_locks_outlive_the_server(rack: RackClient) -> None:
    beat, lock = Talk(rack, "a", BEAT), Talk(rack, "a", LOCK)
    rival = Talk(rack, "b", LOCK)
    assert beat.hear() == "open"
    assert lock.ask("") == "locked"
    assert rival.ask("") == "refused"
    assert rack.storage("stall")["server"] == "stalled"
    beat.send("7")
    wait_for("an unanswered write", lambda: rack.status()["hosts"]["a"]["storage"]["waiting"])
    assert rack.storage("stop")["server"] == "stopped"
    assert rack.storage("heal")["server"] == "running"
    assert beat.hear() == "done 7"
    assert rival.ask("") == "refused", "the lock was claimed again"
    for talk in (beat, lock, rival):
        talk.close()


def test_locks_of_a_host_without_power_lapse(rack: RackClient) -> None:
    lock, rival = Talk(rack, "a", LOCK), Talk(rack, "b", LOCK)
    assert lock.ask("") == "locked"
    assert rival.ask("") == "refused"
    rack.power("a", "off")
    start = time.monotonic()
    assert rival.ask("") == "refused"
    wait_for("the lease has lapsed", lambda: rival.ask("") == "locked", 5)
    assert 0.5 < time.monotonic() - start < 3.5
    rival.close()
    lock.process.communicate()


def test_who_waits_for_a_lock_gets_it_unless_killed(rack: RackClient) -> None:
    holder, killed = Talk(rack, "a", LOCK), Talk(rack, "b", LOCK, "wait")
    patient = Talk(rack, "c", LOCK, "wait")
    assert holder.ask("") == "locked"
    for waiting, host in ((killed, "b"), (patient, "c")):
        waiting.send("")
        wait_for("it waits", lambda h=host: rack.status()["hosts"][h]["storage"]["waiting"])
    pids = [p for p in rack.pids("b") if b"F_OFD" in Path(f"/proc/{p}/cmdline").read_bytes()]
    subprocess.run(["kill", "-9", *map(str, pids)], check=True)
    wait_for("the killed one is gone", lambda: not set(pids) & set(rack.pids("b")), 2)
    holder.close()
    assert patient.hear() == "locked"
    patient.close()
    killed.close()


def test_qemu_locks_its_image_between_hosts(rack: RackClient) -> None:
    rack.exec("a", ["qemu-img", "create", "-q", "-f", "qcow2", "/srv/pool/t.qcow2", "64M"])
    write = ["qemu-io", "-t", "none", "-f", "qcow2", "-c", "write -P 7 0 1M", "-c", "flush"]
    done = rack.exec("a", [*write, "/srv/pool/t.qcow2"])
    assert "wrote 1048576/1048576" in done.stdout, done
    read = ["qemu-io", "-t", "none", "-f", "qcow2", "-c", "read -P 7 0 1M", "/srv/pool/t.qcow2"]
    holder = rack.popen("a", ["sh", "-c", HOLDER], stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write(b"read -P 7 0 1M\n")
    holder.stdin.flush()
    assert b"1048576" in holder.stdout.readline(), "it is open and has read"
    refused = rack.exec("b", read)
    assert "lock" in refused.stderr, refused
    holder.communicate(b"quit\n")

    def readable() -> bool:
        seen = rack.exec("b", read).stdout
        return "read 1048576/1048576" in seen and "failed" not in seen

    wait_for("the lock goes and b reads what a wrote", readable, 5)
