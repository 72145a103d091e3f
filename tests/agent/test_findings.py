"""What a host measures of itself: loads, VMs that answer, networks and disks it lacks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from outlast.agent import loads
from outlast.agent.answering import Answering
from outlast.agent.disk_reach import LIMIT_S, DiskReach
from outlast.agent.findings import Findings
from outlast.agent.loads import TAU_S, Loads, Reading
from outlast.model import (
    BlockState,
    Disk,
    GuardState,
    HostResources,
    Lease,
    LocalVm,
    VmRecord,
    VmSpec,
    VmState,
)
from outlast.network.links import LinkTrouble
from outlast.network.plan import Link
from outlast.pool.facts import Facts, GuardFacts, Held, Me, Sample
from outlast.report import Lack
from outlast.settings import S


class Systems:
    """The port Guests, for systems that do what the test says."""

    def __init__(self) -> None:
        self.agents: set[str] = set()
        self.at: dict[str, tuple[str, ...]] = {}

    def answers(self, name: str) -> bool:
        return name in self.agents

    def addresses(self, name: str) -> tuple[str, ...]:
        return self.at.get(name, ())

    def signs(self, vms: Mapping[str, int]) -> Mapping[str, str]:
        return {}


class Cards:
    """The links of a host; with `trouble` nobody knows them."""

    def __init__(self, *links: Link) -> None:
        self.links = {link.name: link for link in links}
        self.trouble = False

    def read(self) -> Mapping[str, Link]:
        if self.trouble:
            raise LinkTrouble("'ip' does not end")
        return self.links

    def carry_out(self, steps: object) -> None:
        raise AssertionError("findings change nothing")


def spec(vm: str, *disks: Path, networks: tuple[str, ...] = ()) -> VmSpec:
    return VmSpec(vm, "u", 512, 1, tuple(Disk(str(d)) for d in disks), networks=networks)


def facts(*records: VmRecord, via: str = "start", started_ns: int = 7) -> Facts:
    """Host a runs all of them."""
    names = [r.spec.name for r in records]
    return Facts(
        Me(1, "a", "u"), "t", BlockState.MEMBER, Sample(1, 0, True, 0, 0), {},
        GuardFacts(GuardState.OPEN, "t", S, frozenset()), None, -1, {}, {},
        {r.spec.name: Held(1, r, 0) for r in records},
        {vm: Held(1, Lease(vm, 1, "t", via), 0) for vm in names}, {}, True,
        {vm: LocalVm(vm, VmState.RUNNING, started_ns=started_ns) for vm in names}, True,
        HostResources(8192, 8, 4096, 8),
    )  # fmt: skip


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


# ---- loads


def test_a_load_is_an_average_that_forgets() -> None:
    known = Loads()
    known.hear(0, Reading(0, 1000), {})
    assert (known.busy_mcores, known.used_mib) == (0, 1000), "one look at a counter tells nothing"
    known.hear(10, Reading(40 * S, 1000), {})
    assert known.busy_mcores == 4000
    known.hear(10 + TAU_S, Reading(40 * S, 4000), {})
    assert known.busy_mcores == pytest.approx(4000 / 2.718, abs=2)
    assert 1000 < known.used_mib < 4000
    for second in range(100, 2000, 10):
        known.hear(second, Reading(40 * S, 4000), {})
    assert (known.busy_mcores, known.used_mib) == (1, 4000), "idle is not unknown"
    known.hear(2010, None, {})
    assert known.used_mib == 4000, "what cannot be read changes nothing"


def test_a_vm_that_was_started_anew_begins_anew() -> None:
    known = Loads()

    def look(at_s: float, cpu_ns: int, started_ns: int = 1) -> int:
        vm = LocalVm("web", VmState.RUNNING, started_ns=started_ns, cpu_ns=cpu_ns)
        known.hear(at_s, None, {"web": vm})
        return known.vms.get("web", 0)

    assert look(0, 100 * S) == 0
    assert look(10, 120 * S) == 2000
    assert look(20, 5 * S, started_ns=2) == 0
    assert look(30, 6 * S, started_ns=2) == 100
    known.hear(40, None, {})
    assert known.vms == {}


def test_the_machine_itself_is_read(tmp_path: Path) -> None:
    now = loads.read()
    assert now is not None
    assert now.busy_ns > 0 and now.used_mib > 0
    (tmp_path / "stat").write_text("cpu  100 10 20 5000 300 1 2 3 50 4\ncpu0 1\n")
    (tmp_path / "meminfo").write_text("MemTotal: 2097152 kB\nMemAvailable:  524288 kB\n")
    assert loads.read(tmp_path) == Reading(136 * loads.TICK_NS, 1536)
    (tmp_path / "meminfo").write_text("MemTotal: 2097152 kB\n")
    assert loads.read(tmp_path) is None


# ---- who answers


@pytest.mark.parametrize("ready", ["agent", "tcp:PORT", "tcp:127.0.0.1:PORT", "delay:30"])
def test_a_vm_is_ready_once_it_has_answered(ready: str, port: int) -> None:
    systems = Systems()
    asking, silent = Answering(systems), facts(VmRecord(spec("db"), ready="agent"))
    asking.look(10 * S, silent)
    assert asking.answered == {}
    systems.agents.add("db")
    systems.at["db"] = ("127.0.0.1",)
    told = facts(VmRecord(spec("db"), ready=ready.replace("PORT", str(port))))
    asking.look(31 * S, told)
    assert asking.answered == {"db": 7}
    systems.agents.clear()
    asking.look(32 * S, told)
    assert asking.answered == {"db": 7}, "asked no more"
    asking.look(33 * S, replace(told, local={"db": replace(told.local["db"], started_ns=40 * S)}))
    assert (asking.answered == {}) == (ready in {"agent", "delay:30"}), "another process"
    asking.close()


def test_what_is_silent_is_not_ready_and_holds_up_nobody(port: int) -> None:
    systems = Systems()
    systems.at["db"] = ("127.0.0.1",)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed = gone.getsockname()[1]
    told = facts(
        VmRecord(spec("db"), ready=f"tcp:{closed}"), VmRecord(spec("app"), ready="delay:60"),
        VmRecord(spec("web"), ready=f"tcp:127.0.0.1:{port}"), VmRecord(spec("log")),
    )  # fmt: skip
    asking = Answering(systems)
    asking.look(59 * S, told)
    assert asking.answered.keys() == {"web"}
    asking.look(59 * S, facts(*(held.value for held in told.vms.values()), via="migration"))
    assert asking.answered.keys() == {"web", "app"}, "it ran before it came"
    asking.close()


# ---- what is missing


def test_disks_outside_of_the_pools_directory_are_looked_for(tmp_path: Path) -> None:
    here, gone = tmp_path / "fast" / "web.raw", tmp_path / "fast" / "db.raw"
    here.parent.mkdir()
    here.write_bytes(b"")
    pool_dir = tmp_path / "pool"
    reach = DiskReach(pool_dir)
    disks = [str(here), str(gone), str(pool_dir / "images" / "never-looked-for.raw")]
    reach.look(0, disks)
    settle("disks in")
    assert reach.look(1, disks) == (Lack("storage", str(gone), "No such file or directory"),)
    gone.write_bytes(b"")
    settle("disks in")
    reach.look(2, disks)
    settle("disks in")
    assert reach.look(3, disks) == ()


def test_a_storage_that_hangs_is_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    monkeypatch.setattr("outlast.agent.disk_reach._wrong", lambda _: str(not free.wait(20) or ""))
    disk = str(tmp_path / "web.raw")
    reach = DiskReach(tmp_path / "pool")
    assert reach.look(0, [disk]) == ()
    assert reach.look(LIMIT_S - 1, [disk]) == ()
    assert reach.look(LIMIT_S, [disk]) == (Lack("storage", disk, f"{tmp_path} does not answer"),)
    free.set()
    settle("disks in")
    assert reach.look(LIMIT_S + 1, [disk]) == ()


def test_networks_that_do_not_stand_here_are_named(tmp_path: Path) -> None:
    cards = Cards(Link("br0", "bridge"), Link("br1", "bridge", up=False), Link("eth0"))
    found = Findings(Systems(), cards, tmp_path)
    told = facts(VmRecord(spec("web", networks=("br0", "br1", "eth0", "br9", "lan"))))
    found.step(100 * S, told, {"br0": "", "lan": "its card eth9 is not there"})
    lacks = {lack.missing: lack.detail for lack in found.found.lacks}
    assert lacks == {
        "br1": "it is down", "br9": "there is no such bridge", "eth0": "there is no such bridge",
        "lan": "its card eth9 is not there",
    }  # fmt: skip
    assert found.found.used_mib > 0
    cards.trouble = True
    found.step(200 * S, told, {})
    assert found.found.lacks == (), "not knowing is not lacking"
    found.close()


def settle(thread_name: str) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(thread_name):
            thread.join(10)
