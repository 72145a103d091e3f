"""Calls between hosts over networks for VMs: who is told to be deaf; frames on real bridges."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "pool"))

from build import SETTINGS, story

from outlast.agent.host_paths import HostPaths
from outlast.agent.network_reach import DEAF_S, NetworkReach, to_be_heard
from outlast.equipment import Network
from outlast.errors import InvalidInput
from outlast.model import SlotRecord
from outlast.network.plan import Link
from outlast.network.registry import check
from outlast.pool.journal import Note
from outlast.settings import PRESETS, S

LAN = Network("lan", "eth1")


class Air:
    """Calls that arrive as the test wants."""

    def __init__(self) -> None:
        self.now_s, self.voices, self.others = 0.0, {"b"}, {"b": True, "c": True}
        self.told: list[Note] = []
        self.broken = False
        self.called = self.ended = 0

    def call(self) -> None:
        if self.broken:
            raise OSError("down")
        self.called += 1

    def heard(self) -> set[str]:
        return set(self.voices)

    def close(self) -> None:
        self.ended += 1

    def reach(self) -> NetworkReach:
        return NetworkReach(
            "a", lambda _: self, lambda _: self.others, self.told.append, lambda: self.now_s
        )

    def after(self, reach: NetworkReach, seconds: float, *standing: Network) -> list[str]:
        self.now_s += seconds
        reach.step(standing)
        return [note.code for note in self.told]


def test_who_is_not_heard_for_a_while_is_told_once_and_so_is_its_end() -> None:
    air = Air()
    reach = air.reach()
    assert air.after(reach, 0, LAN) == []
    assert air.after(reach, DEAF_S - 1, LAN) == []
    assert air.after(reach, 1, LAN) == air.after(reach, 99, LAN) == ["network-deaf"]
    assert "a does not hear c on the network lan with packets of 1500" in air.told[0].sentence
    air.voices.add("c")
    assert air.after(reach, 1, LAN) == ["network-deaf", "network-heard"]
    assert air.after(reach, 1, LAN) == ["network-deaf", "network-heard"]


def test_nobody_is_blamed_for_what_is_not_there_or_not_a_member() -> None:
    air = Air()
    reach = air.reach()
    air.after(reach, 0, LAN)
    air.broken = True
    assert air.after(reach, 2 * DEAF_S, LAN) == [], "it could not be tried here"
    air.broken = False
    assert air.after(reach, 1, LAN) == [], "its time begins anew"
    assert air.after(reach, 2 * DEAF_S) == []
    air.others = {"b": True}
    assert air.after(reach, 2 * DEAF_S, LAN) == air.after(reach, 2 * DEAF_S, LAN) == []
    assert air.ended == 2


def test_a_host_whose_beats_do_not_arrive_either_is_no_trouble_of_a_network() -> None:
    """One cause, one note: that two hosts do not hear each other is told by the pool."""
    air = Air()
    reach = air.reach()
    air.after(reach, 0, LAN)
    air.others["c"] = False
    assert air.after(reach, 2 * DEAF_S, LAN) == []
    air.others["c"] = True
    assert air.after(reach, DEAF_S - 1, LAN) == [], "its time begins anew"
    assert air.after(reach, 1, LAN) == ["network-deaf"]
    air.others["c"] = False
    assert air.after(reach, 9, LAN) == ["network-deaf"] and reach.deaf == {"lan": ("c",)}


def test_who_is_to_be_heard() -> None:
    """Members of this version that run VMs, and whether their beats arrive: those of c do not."""
    timing, facts = PRESETS["standard"], story(5).facts
    assert max(one.link_lost_ns for one in PRESETS.values()) < DEAF_S * S
    slots = {n: replace(record, version="2") for n, record in facts.slots.items()}
    slots[4] = replace(slots[4], version="1")
    slots[5] = replace(slots[5], no_vms=True)
    links = {2: 0, 3: timing.link_lost_ns}
    facts = replace(facts, slots=slots, links=links)
    assert to_be_heard(facts, timing, "2") == {"b": True, "c": False}
    assert to_be_heard(replace(facts, links={}), timing, "2") == {"b": False, "c": False}
    assert to_be_heard(None, timing, "2") == to_be_heard(replace(facts, view=None), timing, "2")


# one host: calls all the time, and says whom it hears
HOST = """
import sys, time
from outlast.network.frames import Frames
frames = Frames("lan", int(sys.argv[2]), "pool", sys.argv[1])
while True:
    frames.call()
    for host in sorted(frames.heard()):
        print(host, flush=True)
    time.sleep(0.02)
"""


CARDS = {
    f"eth{n}": Link(f"eth{n}", mtu=mtu, addresses=(f"10.{n}.0.1",))
    for n, mtu in enumerate((1500, 9000, 1400))
}


class Ways:
    """Hosts a to e: b as a is, c with one address for all, d too small to move VMs to, e gone.

    a's heartbeats are on eth0 and eth1, moves on eth1, management on eth2.
    """

    def __init__(self) -> None:
        records = {
            n: SlotRecord(
                n, host, "u", 1, True, tuple(f"10.{net}.0.{n}:7790" for net in (0, 1)),
                f"10.2.0.{n}:7791", migration_address=f"10.1.0.{n}",
            ) for n, host in enumerate("abcde", 1)
        }  # fmt: skip
        alone = ("10.0.0.3:7790",)
        records[3] = replace(records[3], addresses=alone, api="10.0.0.3:7791", migration_address="")
        records[4] = replace(records[4], no_vms=True)
        self.seen = replace(story(4).facts, slots=records), SETTINGS
        self.ago_ns = {(n, net): 0 for n in (2, 3, 4) for net in (0, 1)}

    def snapshot(self) -> dict[str, Any]:
        links: dict[str, Any] = {str(n): {"networks": {}} for n, _ in self.ago_ns}
        for (n, net), ago_ns in self.ago_ns.items():
            links[str(n)]["networks"][str(net)] = ago_ns
        return {"links": links}

    def found(self, links: Mapping[str, Link] = CARDS) -> dict[tuple[str, int], str]:
        """Name and size of each way; hosts and where they are asked there, if anybody waits."""
        paths = HostPaths(lambda: self.seen, self.snapshot)
        return {
            (way.name, way.mtu): " ".join(
                f"{host}={paths.addresses(way)[host] if beats else '-'}"
                for host, beats in paths.to_be_heard(way).items()
            ) for way in paths.networks(links)
        }  # fmt: skip


def test_each_address_of_a_member_is_asked_once_by_what_goes_over_it() -> None:
    ways = Ways()
    assert ways.found() == {
        ("for heartbeats", 1500): "b=10.0.0.2 d=10.0.0.4",
        ("for heartbeats 2 and moves", 9000): "b=10.1.0.2",
        ("for heartbeats 2", 9000): "d=10.1.0.4",
        ("for management", 1400): "b=10.2.0.2 d=10.2.0.4",
        ("for heartbeats, management and moves", 1400): "c=10.0.0.3",
    }
    assert ways.found({"eth1": CARDS["eth1"]}) == {
        ("for heartbeats 2 and moves", 9000): "b=10.1.0.2",
        ("for heartbeats 2", 9000): "d=10.1.0.4",
        ("for moves", 9000): "c=10.0.0.3",
    }, "an address of this host is on no link of its own"
    assert HostPaths(lambda: None, ways.snapshot).networks(CARDS) == []
    assert HostPaths(lambda: ways.seen, lambda: None).networks(CARDS) == []
    for name, _ in ways.found():
        with pytest.raises(InvalidInput):
            check(Network(name))


def test_where_no_heartbeats_come_other_notes_say_so() -> None:
    ways = Ways()
    ways.ago_ns[2, 1] = ways.ago_ns[4, 0] = ways.ago_ns[4, 1] = 60 * S
    del ways.ago_ns[3, 0], ways.ago_ns[3, 1]
    assert ways.found() == {
        ("for heartbeats", 1500): "b=10.0.0.2 d=-",
        ("for heartbeats 2 and moves", 9000): "b=-",
        ("for heartbeats 2", 9000): "d=-",
        ("for management", 1400): "b=10.2.0.2 d=-",
        ("for heartbeats, management and moves", 1400): "c=-",
    }


# pings a host, and says each time whom it has heard
PINGS = """
import sys, time
from outlast.network.echo import Pings
pings = Pings(lambda: {"b": "10.99.1.2"}, int(sys.argv[1]))
while True:
    pings.call()
    time.sleep(0.05)
    print(*pings.heard(), flush=True)
"""


@pytest.mark.rack
def test_packets_that_are_too_large_for_the_way_are_not_answered(
    wired: list[subprocess.Popen[str]],
) -> None:
    """The other end takes 1000 bytes; nothing arrives in pieces."""
    for number, space in enumerate("ab", 1):
        run_in = ["ip", "-n", space_of(space)]
        address, mtu = f"10.99.1.{number}/24", "1500" if number == 1 else "1000"
        subprocess.run([*run_in, "address", "add", address, "dev", "lan"], check=True)
        subprocess.run([*run_in, "link", "set", "eth1", "mtu", mtu], check=True)
    for mtu, heard in (("1000", {"b\n"}), ("1101", set())):
        wired.append(spawn("a", PINGS, mtu))
        out = wired[-1].stdout
        assert out is not None
        assert {out.readline() for _ in range(20)} - {"\n"} == heard


@pytest.mark.rack
def test_whole_frames_arrive_over_real_bridges(wired: list[subprocess.Popen[str]]) -> None:
    """Three hosts on one wire; the packets of one are shorter than the network's MTU."""
    for space, host, mtu in (("a", "a", 1500), ("b", "small", 1000), ("b", "b", 1500)):
        wired.append(spawn(space, HOST, host, str(mtu)))
    out = wired[0].stdout
    assert out is not None
    assert {out.readline().strip() for _ in range(3)} == {"b"}


def spawn(space: str, program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{space_of(space)}", sys.executable, "-c", program,
         *arguments],
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip


def space_of(name: str) -> str:
    return f"olr-{name}-{os.getpid()}"


@pytest.fixture
def wired() -> Iterator[list[subprocess.Popen[str]]]:
    """Two namespaces, each with a bridge `lan`, and a wire between these; processes to be ended."""
    spaces = [space_of("a"), space_of("b")]
    running: list[subprocess.Popen[str]] = []

    def ip(*argv: str) -> None:
        subprocess.run(["ip", *argv], check=True)

    for space in spaces:
        ip("netns", "add", space)
    try:
        ip("-n", spaces[0], "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns",
           spaces[1])  # fmt: skip
        for space in spaces:
            ip("-n", space, "link", "add", "lan", "type", "bridge")
            ip("-n", space, "link", "set", "eth1", "master", "lan", "up")
            ip("-n", space, "link", "set", "lan", "up")
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate(timeout=10)
        for space in spaces:
            ip("netns", "delete", space)
