"""The guard as a process: what it kills, how fast, and what survives its own death."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))
from guard_kit import T1, T2, confirm, open_term
from guard_process import MS, ProcessGuard, until, why_not

from outlast.guard.client import GuardClient, GuardGone

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
S = 1000 * MS


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[ProcessGuard]:
    bench = ProcessGuard(tmp_path)
    yield bench
    bench.clean()


class Beats:
    """Confirms the term every 50 ms, whatever happens to the guard, until stopped."""

    def __init__(self, bench: ProcessGuard, term: str) -> None:
        self.bench, self.term, self.good, self.refused = bench, term, 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()

    def _beat(self) -> None:
        client = GuardClient(self.bench.socket, timeout_s=1)
        while not self._stop.wait(0.05):
            now = self.bench.reading()
            try:
                said = client.confirm(self.term, now.boot_ns, now.raw_ns)
            except GuardGone:
                continue
            self.good += said["ok"] is True
            self.refused += said["ok"] is not True
        client.disconnect()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


# -- killing -------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "count"), [("", 10), ("deaf", 3), ("bomb", 2)])
def test_the_deadline_empties_the_subtree(bench: ProcessGuard, how: str, count: int) -> None:
    opened = open_term(bench, T1, fence_ns=3 * S)
    for number in range(count):
        bench.boot(f"vm{number}", how)
        opened = confirm(bench, T1)
    if how == "bomb":
        until(lambda: all(len(bench.pids(f"vm{n}")) == 21 for n in range(count)), "it grew")
    pids = [pid for n in range(count) for pid in bench.pids(f"vm{n}")]
    assert len(pids) >= count
    deadline_ns = int(str(opened["deadline_ns"]))
    until(bench.empty, "the subtree is empty")
    assert bench.reading().boot_ns > deadline_ns
    late_ms = (bench.reading().boot_ns - deadline_ns) / MS
    print(f"\n{count} VMs ({how or 'sleep'}): empty {late_ms:.1f} ms after the deadline")
    assert late_ms < 500
    assert all(bench.alive(f"vm{n}") == 0 for n in range(count))
    assert not any(Path(f"/proc/{pid}").exists() and not zombie(pid) for pid in pids)
    until(lambda: bench.ask("status")["state"] == "closed", "the guard says closed")


def test_kill_of_one_deaf_vm_leaves_the_others(bench: ProcessGuard) -> None:
    open_term(bench, T1, fence_ns=20 * S)
    bench.boot("deaf", "deaf")
    bench.boot("bomb", "bomb")
    bench.boot("web")
    for vm in ("deaf", "bomb"):
        said = bench.ask("kill", vm=vm)
        assert said == {"ok": True, "populated": False}
        assert bench.alive(vm) == 0
    assert bench.alive("web") == 1
    assert bench.ask("kill", vm="nobody") == {"ok": True, "populated": False}


def test_a_dead_leader_with_a_living_thread_is_alive(bench: ProcessGuard) -> None:
    """What a killed QEMU on dead storage looks like: state Z, no command line, one thread left."""
    open_term(bench, T1, fence_ns=20 * S)
    bench.boot("ghost", "ghost")
    pid = bench.vms[0][1].pid
    until(lambda: zombie(pid), "the leader is gone")
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 2
    for _ in range(2):
        assert bench.ask("status")["empty"] is False
        bench.restart()
    assert bench.ask("kill", vm="ghost")["ok"]
    assert bench.ask("status")["empty"] is True


def test_a_process_that_left_its_cgroup_still_dies(bench: ProcessGuard) -> None:
    """libvirt's own cgroup code may move a QEMU away: the pidfd remembers it."""
    opened = open_term(bench, T1, fence_ns=2 * S)
    bench.boot("web")
    pid = bench.vms[0][1].pid
    (bench.subtree.parent / "cgroup.procs").write_text(str(pid))
    said = bench.ask("status")
    assert (said["empty"], said["vms"]) == (False, {"web": {"populated": True}})
    assert "outside of their cgroup: web" in str(said["problems"])
    bench.restart()
    assert bench.ask("status")["empty"] is False
    until(lambda: bench.reading().boot_ns > int(str(opened["deadline_ns"])), "the deadline")
    until(lambda: bench.alive("web") == 0, "it dies")
    until(lambda: bench.ask("status")["state"] == "closed", "closed")


# -- death and return of the guard ----------------------------------------------------------


def test_kill_9_at_random_moments_loses_nothing(bench: ProcessGuard) -> None:
    chance = random.Random(7)
    open_term(bench, T1, fence_ns=20 * S)  # longer than a busy machine needs for a start
    for number in range(3):
        bench.boot(f"vm{number}")
    beats = Beats(bench, T1)
    try:
        for _ in range(20):
            time.sleep(chance.random() * 0.1)
            bench.restart()
            said = bench.ask("status")
            assert (said["state"], said["term"]) == ("open", T1)
    finally:
        beats.stop()
    assert beats.refused == 0
    assert beats.good > 5
    assert [bench.alive(f"vm{n}") for n in range(3)] == [1, 1, 1]
    bench.boot("more")


def test_kill_9_around_the_deadline_never_overruns(bench: ProcessGuard) -> None:
    """The guard is away at D in most rounds; whoever comes next must close at once."""
    chance = random.Random(8)
    for number in range(6):
        term = f"{number + 16:032x}"
        opened = open_term(bench, term, fence_ns=1500 * MS)
        assert opened["ok"], opened
        bench.boot("web")
        deadline_ns = int(str(confirm(bench, term)["deadline_ns"]))
        until(lambda: bench.reading().boot_ns > deadline_ns - 300 * MS, "nearly there")  # noqa: B023
        time.sleep(chance.random() * 0.4)
        bench.restart()
        back_ns = bench.reading().boot_ns
        until(lambda: bench.alive("web") == 0, "the VM dies")
        late_ms = (bench.reading().boot_ns - max(deadline_ns, back_ns)) / MS
        assert late_ms < 300, f"{late_ms} ms after guard and deadline were both there"
        until(lambda: bench.ask("status")["state"] == "closed", "closed")
        assert not confirm(bench, term)["ok"]


def test_a_state_of_another_boot_or_garbage_is_no_state(bench: ProcessGuard) -> None:
    open_term(bench, T1, fence_ns=20 * S)
    file = bench.run / "guard.state"
    good = json.loads(file.read_text())
    for text in (json.dumps({**good, "boot_id": "another"}), "{", "[]", '{"outlast_guard": 1}'):
        bench.kill9()
        file.write_text(text)
        bench.launch()
        assert bench.ask("status")["state"] == "idle", text
        assert not confirm(bench, T1)["ok"]
    assert "cannot be believed" in str(bench.ask("status")["problems"])


def test_vms_without_any_state_are_killed(bench: ProcessGuard) -> None:
    open_term(bench, T1, fence_ns=20 * S)
    bench.boot("web", "deaf")
    bench.kill9()
    (bench.run / "guard.state").unlink()
    bench.launch()
    until(lambda: bench.alive("web") == 0, "the VM nobody answers for is gone")
    until(lambda: bench.ask("status")["empty"], "empty")
    assert open_term(bench, T2)["ok"]


def test_a_full_run_folder_is_said_and_a_closed_term_stays_closed(bench: ProcessGuard) -> None:
    open_term(bench, T1, fence_ns=20 * S)
    (bench.run / "guard.new").mkdir()  # as good as no space: the state cannot be written
    assert bench.ask("close", term=T1, reason="leave")["ok"]
    assert "cannot be saved" in str(bench.ask("status")["problems"])
    assert not (bench.run / "guard.state").exists()
    bench.restart()
    assert bench.ask("status")["state"] == "idle"
    assert not confirm(bench, T1)["ok"]
    (bench.run / "guard.new").rmdir()


def test_there_is_only_one_guard(bench: ProcessGuard) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "outlast.guard"], capture_output=True, text=True, timeout=20,
        env={**os.environ, "OUTLAST_RUN": str(bench.run), "OUTLAST_ETC": str(bench.etc),
             "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )  # fmt: skip
    assert second.returncode == 4
    assert "another guard runs on this host" in second.stderr
    third = subprocess.run(
        [sys.executable, "-m", "outlast.guard"], capture_output=True, text=True, timeout=20,
        env={**os.environ, "OUTLAST_RUN": str(bench.run / "other"),
             "OUTLAST_ETC": str(bench.etc), "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )  # fmt: skip
    assert third.returncode == 4
    assert "another guard owns the cgroup" in third.stderr
    assert bench.answers()
