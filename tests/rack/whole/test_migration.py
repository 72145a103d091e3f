"""Live migration on real parts, and everything that can break while it is under way.

    OUTLAST_MOVES=200 OUTLAST_SEED=7 pytest tests/rack/whole/test_migration.py

After each fault everything is healed, and then: one QEMU of the VM, on the host of its lease; no
copy that stands still; a disk that proves one writer and no lost acknowledged write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice

import pytest
from chaos import lease_chain
from evidence import BACK_S, Story, boots, command, settle, unsound
from healing import restore, undisturbed

from outlast.errors import OutlastError
from outlast.rack.lab import Lab
from outlast.wire.console import connect, pump

pytestmark = pytest.mark.rack

MOVES = int(os.environ.get("OUTLAST_MOVES", "20"))
SEED = int(os.environ.get("OUTLAST_SEED", time.time_ns() % 1_000_000))
ONLY = os.environ.get("OUTLAST_FAULTS", "")  # words: only faults that have one of them
BACK_AND_FORTH = int(os.environ.get("OUTLAST_BACK_AND_FORTH", "6"))
WHOLE_S = 1.5  # about as long as a whole move takes here
SERVICES = ("outlast-agent", "outlast-guard", "outlast-pulse", "libvirtd")


def others(lab: Lab, host: str) -> list[str]:
    return [h for h in lab.hosts if h != host]


def at_rest(lab: Lab, vm: str, version: int) -> bool:
    """No wish to move it is open, and it runs, as an agent says that knows of the wish."""
    status = lab.statuses()[vm]
    if status.definition < version:
        return False
    return status.state == "running" and (status.move is None or bool(status.move.failed))


def rest(lab: Lab, vm: str, version: int) -> None:
    try:
        lab.wait(lambda: at_rest(lab, vm, version), BACK_S, f"{vm} does not come to rest")
    except OutlastError:
        print(lab.statuses()[vm], lab.processes().get(vm))
        raise


def alone(lab: Lab, vm: str) -> bool:
    """One QEMU, on the host of its lease."""
    places = [host for host, _ in lab.processes().get(vm, [])]
    return places == [lab.statuses()[vm].host]


@undisturbed
def test_a_vm_moves_without_a_stop(lab: Lab) -> None:
    before, story = boots(lab), Story(lab)
    source = lab.where("vm1")
    target = others(lab, source)[0]
    said = command(lab, target, "vm", "migrate", "vm1", "--to", target)
    assert said.returncode == 0, said.stderr
    assert f"it runs on {target}" in said.stdout
    lab.wait(lambda: alone(lab, "vm1"), 5, "two QEMUs of vm1")
    assert lab.where("vm1") == target
    settle(lab, ["vm1"])
    assert boots(lab) == before, "a VM has started anew"
    told = story.wait("order-given", "move-begins", "lease-given", "vm-moved", about="vm1")
    assert "vm-crashed" not in told


@undisturbed
def test_a_screen_ends_with_the_move_and_is_found_again(lab: Lab) -> None:
    """Through the agent of a third host, encrypted, wherever the VM is."""
    source = lab.where("vm1")
    target, third = others(lab, source)
    at = lab.client(third).target

    async def look() -> str:
        async with asyncio.timeout(30), connect(at, "vm1", "screen") as screen:
            assert (await screen.receive_bytes()).startswith(b"RFB 003.008")
            lab.client(third).migrate("vm1", target)
            return await pump(screen, asyncio.Queue(), lambda _: None)

    assert "the screen has ended" in asyncio.run(look())
    lab.wait(lambda: lab.where("vm1") == target, BACK_S, "vm1 does not move")
    known = lab.client(third)
    lab.wait(lambda: known.vm("vm1").host == target, BACK_S, f"{third} does not hear of it")

    async def greet() -> bytes:
        async with asyncio.timeout(30), connect(at, "vm1", "screen") as screen:
            return await screen.receive_bytes()

    assert asyncio.run(greet()).startswith(b"RFB 003.008")


@undisturbed
def test_back_and_forth_under_a_memory_writer(lab: Lab) -> None:
    """It rewrites 2 MiB twenty times a second, and looks that nothing of it got lost."""
    if "writer" not in lab.vms:
        lab.create(["writer"], cmdline="ms=100 dirty=2", memory="16MiB")
    lab.wait_running(["writer"])
    settle(lab, ["writer"])
    for _ in range(BACK_AND_FORTH):
        target = others(lab, lab.where("writer"))[0]
        wish = lab.client().migrate("writer", target)
        rest(lab, "writer", wish.version)
        assert lab.where("writer") == target, lab.statuses()["writer"].sentence
    settle(lab, ["writer"])
    assert lab.boots("writer") == 1
    assert "MEMORY" not in lab.log("writer"), "something of its memory got lost"
    assert not unsound(lab)
    lab.client().delete("writer", force=True, with_disks=True)
    lab.vms.remove("writer")


@undisturbed
def test_wishes_that_come_to_nothing_say_why(lab: Lab) -> None:
    here = lab.where("vm1")
    for arguments, words in (
        (("vm1", "--to", here), "is on"),
        (("vm1", "--to", "nobody"), "no host 'nobody'"),
        (("nothing",), "no VM 'nothing'"),
    ):
        said = command(lab, here, "vm", "migrate", *arguments)
        assert said.returncode != 0
        assert words in said.stderr
    assert lab.where("vm1") == here


def kill(lab: Lab, host: str, service: str) -> None:
    os.kill(lab.rack.service_pid(host, service), signal.SIGKILL)


def kill_qemu(lab: Lab, vm: str, host: str) -> None:
    for place, pid in lab.processes().get(vm, []):
        if place == host:
            os.kill(pid, signal.SIGKILL)


Fault = Callable[[Lab, str, str, str], object]  # lab, vm, source, target
FAULTS: dict[str, Fault] = {
    "QEMU of the source killed": lambda lab, vm, a, b: kill_qemu(lab, vm, a),
    "QEMU of the target killed": lambda lab, vm, a, b: kill_qemu(lab, vm, b),
    **{f"{s} of the source killed": lambda lab, vm, a, b, s=s: kill(lab, a, s) for s in SERVICES},
    **{f"{s} of the target killed": lambda lab, vm, a, b, s=s: kill(lab, b, s) for s in SERVICES},
    "network between them cut": lambda lab, vm, a, b: lab.rack.cut(a, b),
    "source frozen": lambda lab, vm, a, b: lab.rack.freeze(a),
    "target frozen": lambda lab, vm, a, b: lab.rack.freeze(b),
    "storage of the source stalled": lambda lab, vm, a, b: lab.rack.storage("stall", a),
    "storage of the target stalled": lambda lab, vm, a, b: lab.rack.storage("stall", b),
    "source without power": lambda lab, vm, a, b: lab.rack.power(a, "off"),
    "target without power": lambda lab, vm, a, b: lab.rack.power(b, "off"),
    "wish taken back": lambda lab, vm, a, b: lab.client().stay(vm),
}


@pytest.mark.slow
@pytest.mark.timeout(120 + 40 * MOVES)
def test_whatever_breaks_on_the_way(lab: Lab) -> None:
    chance = random.Random(SEED)
    names = [f for f in FAULTS if not ONLY or any(w in f for w in ONLY.split(","))]
    chance.shuffle(names)
    outcomes: dict[str, int] = {}
    for number, name in enumerate(islice(cycle(names), MOVES)):
        vm = lab.vms[number % len(lab.vms)]
        source = lab.where(vm)
        target = chance.choice(others(lab, source))
        after_s = chance.uniform(0, WHOLE_S)
        story = Story(lab)
        what = f"OUTLAST_SEED={SEED}, move {number}: {name}, {vm} {source} to {target}"
        what += f" after {after_s:.2f} s"
        before = lab.boots(vm)
        wish = lab.client().migrate(vm, target)
        time.sleep(after_s)
        with contextlib.suppress(OutlastError, ProcessLookupError):
            FAULTS[name](lab, vm, source, target)
        time.sleep(chance.choice((0.5, 1.0, 4.0)))
        restore(lab)
        rest(lab, vm, wish.version)
        lab.wait(lambda vm=vm: alone(lab, vm), 15, f"{what}: not one QEMU of {vm}")
        settle(lab, [vm])
        where = lab.where(vm)
        outcome = "moved" if where == target else "stayed" if where == source else "elsewhere"
        outcome += ", started anew" if lab.boots(vm) > before else ""
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        print(f"{what}: {outcome}")
        bad = [*lease_chain(lab.pool_dir / "reg", vm), *unsound(lab).values()]
        if bad:
            print("\n".join(f"{e.wall_s:.2f} {e.host} {e.sentence}" for e in story.entries()))
        assert not bad, what
    print(outcomes)


@undisturbed
def test_vms_see_what_all_hosts_have_and_move_over_many_connections(lab: Lab) -> None:
    host = lab.where("vm2")
    target = next(h for h in lab.hosts if h != host)
    story = Story(lab)
    lab.outlast(host, "pool", "set", "--cpu", "baseline", "--move-connections", "4")
    try:
        story.wait("cpu-baseline")
        assert "qemu64" in _seen_by(lab, "vm2", host), "what runs keeps what it saw"
        lab.client().kill("vm2")
        lab.wait(lambda: lab.statuses()["vm2"].state == "stopped", 20, "vm2 runs still")
        lab.client().start("vm2")
        lab.wait_running(["vm2"])
        host = lab.where("vm2")
        target = next(h for h in lab.hosts if h != host)
        shown = _seen_by(lab, "vm2", host)
        assert "qemu64" not in shown
        assert "<feature policy='require'" in shown
        most = _streams(lab, target, lambda: lab.client().migrate("vm2", target))
        lab.wait(lambda: lab.where("vm2") == target, 20, "vm2 does not move")
        assert most >= 4, f"{most} connections"
    finally:
        lab.outlast(target, "pool", "set", "--cpu", "auto", "--move-connections", "1")


def _seen_by(lab: Lab, vm: str, host: str) -> str:
    done = lab.rack.exec(host, ["virsh", "dumpxml", vm])
    return done.stdout[done.stdout.index("<cpu ") : done.stdout.index("</cpu>")]


def _streams(lab: Lab, target: str, act: Callable[[], object]) -> int:
    """The most connections to the target's QEMU that were seen at once meanwhile."""
    look = "import subprocess as s,time\nfor _ in range(300):\n"
    look += " print(s.run(['ss','-Htn','sport >= :49152'],capture_output=1,text=1).stdout.count("
    look += "chr(10)),flush=True);time.sleep(.01)"
    watcher = lab.rack.popen(target, [sys.executable, "-c", look], stdout=subprocess.PIPE)
    time.sleep(0.3)
    act()
    counts, _ = watcher.communicate(timeout=60)
    return max(int(count) for count in counts.split())
