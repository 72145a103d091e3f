"""The proving guests under a real QEMU: they boot, sign, notice, and the ledger judges them right.

QEMU runs directly here, with TCG and without libvirt; every wait has a deadline and no test sleeps.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outlast.errors import NotFound
from outlast.rack import ledger
from outlast.rack.guest import build
from outlast.rack.guest.record import RING_FIRST, SECTOR
from outlast.rack.ledger import Fault

pytestmark = pytest.mark.rack

PATIENCE_S = 30.0
NO_LOCKS = "file.locking=off"


def wait_for(what: Callable[[], object], sentence: str, timeout_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end_s, f"{sentence} did not happen within {timeout_s:g} s"
        time.sleep(0.005)


class Machine:
    """One QEMU with its serial log, its monitor and a socket for typing."""

    def __init__(self, folder: Path, name: str, *options: str, typed: bool = False) -> None:
        self.log_path, self._monitor = folder / f"{name}.log", folder / f"{name}.qmp"
        self._typing = folder / f"{name}.tty"
        self._terminal: socket.socket | None = None
        kind = f"socket,path={self._typing},server=on,wait=off" if typed else "null"
        self.started_s = time.monotonic()
        self.process = subprocess.Popen(
            [
                "qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-display", "none",
                "-nodefaults", "-no-user-config", "-no-reboot",
                "-qmp", f"unix:{self._monitor},server=on,wait=off",
                "-chardev", f"{kind},id=com,logfile={self.log_path},logappend=on",
                "-serial", "chardev:com", *options,
            ],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def log(self) -> str:
        if not self.log_path.exists():
            return ""
        return self.log_path.read_bytes().decode(errors="replace")  # line ends as they are

    def see(self, text: str, times: int = 1) -> None:
        wait_for(lambda: self.log.count(text) >= times or self.process.poll() is not None, text)
        assert self.log.count(text) >= times, f"QEMU ended before {text!r}: {self.log[-300:]!r}"

    def wait_writes(self, count: int) -> None:
        """Until the log has so many more acknowledged writes."""
        self.see("\nW ", self.log.count("\nW ") + count)

    def command(self, name: str, **arguments: object) -> None:
        """One command to the monitor, as soon as that listens."""
        wait_for(self._monitor.exists, "a monitor coming up")
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(PATIENCE_S)
            monitor.connect(str(self._monitor))
            lines = monitor.makefile("rw")
            for word, more in (("qmp_capabilities", {}), (name, arguments)):
                lines.write(json.dumps({"execute": word, "arguments": more}) + "\n")
                lines.flush()
                while not {"return", "error"} & (answer := json.loads(lines.readline())).keys():
                    pass
                assert "return" in answer, answer

    def type(self, text: str) -> None:
        """The line stays open: QEMU drops what it has not read yet when it is hung up."""
        if self._terminal is None:
            self._terminal = socket.socket(socket.AF_UNIX)
            self._terminal.connect(str(self._typing))
        self._terminal.sendall(text.encode())

    def ended(self) -> int:
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self._terminal:
            self._terminal.close()


class Bench:
    """Builds machines, and ends them all."""

    def __init__(self, folder: Path, kernel: Path) -> None:
        self.folder, self.kernel = folder, kernel
        self.machines: list[Machine] = []

    def disk(self, name: str = "disk", slots: int = 4096) -> Path:
        path = self.folder / f"{name}.raw"
        path.write_bytes(bytes((RING_FIRST + slots) * SECTOR))
        return path

    def machine(self, name: str, *options: str, typed: bool = False) -> Machine:
        self.machines.append(Machine(self.folder, name, *options, typed=typed))
        return self.machines[-1]

    def pulsar(
        self,
        name: str,
        disk: Path | None,
        words: str = "ms=20",
        drive: str = "",
        typed: bool = False,
        more: tuple[str, ...] = (),
    ) -> Machine:
        options = ["-m", "8", "-kernel", str(self.kernel), "-append", words]
        if disk:
            options += virtio_disk(disk, drive)
        return self.machine(name, *options, *more, typed=typed)

    def judge(self, disk: Path, *machines: Machine) -> ledger.Verdict:
        return ledger.judge([disk.read_bytes()], [m.log for m in machines])


def virtio_disk(disk: Path, drive: str = "") -> list[str]:
    more = f",{drive}" if drive else ""
    return [
        "-drive", f"file={disk},format=raw,if=none,id=disk,cache=writethrough{more}",
        "-device", "virtio-blk-pci,drive=disk",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.build(tmp_path_factory.mktemp("guest"))


@pytest.fixture
def bench(tmp_path: Path, kernel: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, kernel)
    yield bench
    for machine in bench.machines:
        machine.kill()


# --- pulsar -------------------------------------------------------------------------------------


def test_first_line_and_first_write_come_soon(bench: Bench) -> None:
    machine = bench.pulsar("web", bench.disk(), "ms=100")
    machine.see("BOOT ")
    line_s = time.monotonic() - machine.started_s
    machine.see("\nW ")
    write_s = time.monotonic() - machine.started_s
    print(f"first line after {line_s:.3f} s, first write after {write_s:.3f} s")
    assert machine.log.startswith("BOOT "), "the first line is the one that failover waits for"
    assert line_s < 10


def test_the_chain_runs_on_over_a_kill_and_a_new_boot(bench: Bench) -> None:
    disk = bench.disk()
    first = bench.pulsar("web", disk)
    first.wait_writes(25)
    first.kill()
    second = bench.pulsar("web", disk)  # the same log: logs are appended to
    second.see("BOOT ", 2)
    second.wait_writes(25)
    second.kill()
    verdict = bench.judge(disk, second)
    assert verdict.problems == ()
    assert [b.number for b in verdict.boots] == [1, 2]
    assert verdict.boots[0].last_seq + 1 == verdict.boots[1].first_seq
    assert verdict.acknowledged >= 50
    assert ledger.summary({"web": verdict}).startswith("1 VM, 2 boots, ")


def test_the_wall_clock_is_right_to_the_second(bench: Bench) -> None:
    disk = bench.disk()
    machine = bench.pulsar("web", disk)
    machine.wait_writes(5)
    now_us = time.time() * 1e6
    machine.kill()
    assert abs(bench.judge(disk).boots[0].last_wall_us - now_us) < 3e6


def test_two_machines_on_one_disk_are_found_by_guests_and_ledger(bench: Bench) -> None:
    disk = bench.disk()
    first = bench.pulsar("one", disk, drive=NO_LOCKS)
    first.wait_writes(10)
    second = bench.pulsar("two", disk, drive=NO_LOCKS)
    second.wait_writes(10)
    wait_for(lambda: "FOREIGN" in first.log + second.log, "a foreign write being seen")
    first.wait_writes(5)
    second.wait_writes(5)
    first.kill()
    second.kill()
    verdict = bench.judge(disk, first, second)
    assert {Fault.FOREIGN, Fault.WRITERS, Fault.LOST} <= {p.fault for p in verdict.problems}
    assert "TWO WRITERS" in ledger.summary({"web": verdict})
    assert not bench.judge(disk).sound, "the disk alone must tell, too"


def test_the_image_lock_keeps_a_second_machine_off(bench: Bench) -> None:
    disk = bench.disk()
    bench.pulsar("one", disk).wait_writes(1)
    assert bench.pulsar("two", disk).ended() != 0


def test_a_ring_written_round_several_times_is_sound(bench: Bench) -> None:
    disk = bench.disk(slots=16)
    for boot in (1, 2, 3):
        machine = bench.pulsar("web", disk, "ms=5")
        machine.see("BOOT ", boot)
        machine.wait_writes(40)
        machine.kill()
    verdict = bench.judge(disk, machine)
    assert verdict.problems == ()
    assert (verdict.records, len(verdict.boots)) == (16, 3)
    assert verdict.boots[-1].last_seq >= 119


def test_a_write_that_fails_is_told_and_tried_again(bench: Bench) -> None:
    disk = bench.disk()
    fault = f"driver=blkdebug,node-name=disk,image.driver=file,image.filename={disk}"
    fault += ",inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.once=on"
    fault += f",inject-error.0.sector={RING_FIRST + 3},inject-error.0.errno=5"
    machine = bench.machine(
        "web", "-m", "8", "-kernel", str(bench.kernel), "-append", "ms=20", "-blockdev", fault,
        "-device", "virtio-blk-pci,drive=disk,werror=report",
    )  # fmt: skip
    machine.wait_writes(8)
    machine.kill()
    verdict = bench.judge(disk, machine)
    assert verdict.problems == ()
    assert verdict.io_errors == 1


def test_the_power_button_turns_it_off(bench: Bench) -> None:
    disk = bench.disk()
    machine = bench.pulsar("web", disk, "ms=100")
    machine.wait_writes(2)
    start_s = time.monotonic()
    machine.command("system_powerdown")
    assert machine.ended() == 0
    print(f"off {1000 * (time.monotonic() - start_s):.0f} ms after the button")
    machine.see("\nPOWEROFF ")
    assert bench.judge(disk, machine).sound


def test_the_power_button_works_without_a_disk(bench: Bench) -> None:
    machine = bench.pulsar("web", None, "ms=20")
    machine.see("\nT ", 3)
    machine.command("system_powerdown")
    assert machine.ended() == 0


def test_echo_gives_back_what_is_typed(bench: Bench) -> None:
    machine = bench.pulsar("web", bench.disk(), "lines=10 ms=100 echo", typed=True)
    machine.see("\nW ")
    machine.type("hello out there\r")
    machine.see("hello out there\r\n")
    machine.type("\x18")
    machine.see("CRASH ")
    assert machine.ended() == 0  # the reset of -no-reboot


def test_without_echo_typing_does_nothing(bench: Bench) -> None:
    machine = bench.pulsar("web", bench.disk(), typed=True)
    machine.see("\nW ")
    machine.type("hello\x18\x04")
    machine.wait_writes(4)
    assert "hello" not in machine.log
    assert machine.process.poll() is None


def test_a_console_that_is_open_and_not_read_does_not_stop_the_writes(bench: Bench) -> None:
    disk = bench.disk()
    machine = bench.pulsar("web", disk, typed=True)
    machine.see("\nW ")
    machine.type("x")  # connects, and never reads: a few hundred bytes fill the line
    wait_for(lambda: bench.judge(disk).records > 60, "writing on with a full console")
    machine.kill()
    assert bench.judge(disk, machine).problems == ()


def test_lines_are_printed_for_the_first_and_every_nth_write(bench: Bench) -> None:
    disk = bench.disk()
    machine = bench.pulsar("web", disk, "ms=10 lines=10")
    machine.see("\nW ", 3)
    machine.kill()
    numbers = [int(line.split()[2]) for line in machine.log.splitlines() if line.startswith("W ")]
    assert numbers[:3] == [0, 10, 20]
    assert bench.judge(disk, machine).acknowledged >= 21


def test_a_memory_load_larger_than_the_memory_harms_nothing(bench: Bench) -> None:
    disk = bench.disk()
    machine = bench.pulsar("web", disk, "ms=20 dirty=4000")
    machine.wait_writes(20)
    machine.kill()
    assert bench.judge(disk, machine).problems == ()


def test_a_saved_state_that_runs_twice_is_found(bench: Bench) -> None:
    """What a migration gone wrong would leave: two copies of one boot, one after the other."""
    disk = bench.disk()
    machine = bench.pulsar("web", disk)
    machine.wait_writes(10)
    machine.command("stop")
    older = disk.read_bytes()
    log = machine.log
    machine.command("cont")
    machine.wait_writes(10)
    machine.kill()
    disk.write_bytes(older)
    assert ledger.judge([disk.read_bytes()], [log]).sound
    assert bench.judge(disk, machine).lost >= 10


def test_a_migrated_copy_beside_its_source_is_found(bench: Bench) -> None:
    """Both copies have the boot id and the memory of one boot; their counters tell them apart."""
    disk, way = bench.disk(), f"unix:{bench.folder / 'way'}"
    source = bench.pulsar("source", disk, drive=NO_LOCKS)
    source.wait_writes(5)
    copy = bench.pulsar("copy", disk, drive=NO_LOCKS, more=("-incoming", way))
    wait_for((bench.folder / "way").exists, "the destination listening")
    source.command("migrate", uri=way)
    copy.see("\nW ", 10)
    moved = bench.judge(disk, source, copy)
    assert (moved.problems, len(moved.boots)) == ((), 1)
    source.command("cont")
    source.wait_writes(5)
    copy.wait_writes(5)
    source.kill()
    copy.kill()
    verdict = bench.judge(disk, source, copy)
    assert verdict.two_writers
    assert verdict.lost > 0


def test_machines_started_at_the_same_instant_have_their_own_boot_ids(bench: Bench) -> None:
    machines = [bench.pulsar(f"vm{i}", None) for i in range(4)]
    for machine in machines:
        machine.see("BOOT ")
    ids = {machine.log.split()[1] for machine in machines}
    assert len(ids) == len(machines)


# --- sentinel -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_sentinel_continues_the_chain_of_pulsar_and_offers_a_shell(bench: Bench) -> None:
    try:
        demo = build.build_demo(bench.folder / "demo")
    except NotFound as missing:
        pytest.skip(f"{missing.sentence} ({missing.hint})")
    disk = bench.disk()
    first = bench.pulsar("pulsar", disk)
    first.wait_writes(5)
    first.kill()
    second = bench.machine(
        "sentinel", "-m", "96", "-kernel", str(demo.kernel), "-initrd", str(demo.initrd),
        "-append", "console=ttyS0 quiet lines=10 ms=50", *virtio_disk(disk), typed=True,
    )  # fmt: skip
    second.see("BOOT ")
    print(f"sentinel: first line after {time.monotonic() - second.started_s:.1f} s")
    second.see("# ")
    second.type("echo $((6 * 7))-is-it\n")
    second.see("42-is-it")
    second.see("W ", 3)
    second.command("system_powerdown")
    assert second.ended() == 0
    verdict = bench.judge(disk, first, second)
    assert verdict.problems == ()
    assert [b.number for b in verdict.boots] == [1, 2]
    assert "POWEROFF " in second.log
