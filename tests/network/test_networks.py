"""Networks for VMs: what a host has to do, from both sides; and real links in namespaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from outlast.agent.network_keeper import NetworkKeeper
from outlast.equipment import Network
from outlast.errors import Conflict, InvalidInput, NotFound, StorageTrouble
from outlast.network import links, registry
from outlast.network.links import Links, LinkTrouble
from outlast.network.plan import NO_ADDRESS, Link, unwanted, uplink_on, wanted
from outlast.pool.journal import Note
from outlast.storage.memory import MemoryRegister

LAN = Network("lan", "eth1", ("b=eth2",), 20, 1400)
CARDS = {"eth1": Link("eth1"), "eth2": Link("eth2", addresses=("10.0.0.5",))}
MADE = {
    **CARDS,
    "lan": Link("lan", "bridge", "outlast:lan", 1400),
    "lan.20": Link("lan.20", "vlan", "outlast:lan", 1400, True, "lan", "eth1", 20),
}


def test_what_is_missing_is_made_and_nothing_is_done_twice() -> None:
    steps = wanted(LAN, "a", CARDS).steps
    assert [step[:2] for step in steps if step[1] == "add"] == [("link", "add")] * 2
    assert wanted(LAN, "a", MADE).steps == ()
    half = {**CARDS, "lan": Link("lan", "bridge", up=False)}
    assert wanted(LAN, "a", half).steps[:2] == (
        ("link", "set", "dev", "lan", *NO_ADDRESS),
        ("link", "set", "dev", "lan", "alias", "outlast:lan"),
    ), "stopped before the mark, it does both again"
    assert uplink_on(LAN, "b") == "eth2" and wanted(LAN, "b", CARDS).trouble == ""
    moved = wanted(LAN, "b", MADE).steps
    assert ("link", "delete", "dev", "lan.20") in moved, "it was made on another card"
    down = {**MADE, "lan": replace(MADE["lan"], up=False, mtu=1500)}
    assert wanted(LAN, "a", down).steps == (
        ("link", "set", "dev", "lan", "mtu", "1400"), ("link", "set", "dev", "lan", "up")
    )  # fmt: skip


@pytest.mark.parametrize(
    ("network", "links", "words"),
    [
        (replace(LAN, uplink="eth9"), CARDS, "no card eth9"),
        (replace(LAN, mtu=9000), CARDS, "eth1 has an MTU of 1500, lan wants 9000"),
        (LAN, {**CARDS, "lan": Link("lan", "bridge")}, "a link lan already that Outlast did not"),
        (LAN, {**CARDS, "lan.20": Link("lan.20", "vlan")}, "a link lan.20 already"),
        (replace(LAN, vlan=0, uplink="eth2"), CARDS, "would be cut off"),
        (replace(LAN, vlan=0), {"eth1": Link("eth1", master="br0")}, "is in br0 already"),
    ],
)
def test_what_would_do_harm_is_a_trouble_and_not_done(
    network: Network, links: dict[str, Link], words: str
) -> None:
    plan = wanted(network, "a", links)
    assert plan.steps == () and words in plan.trouble


def test_only_ours_is_removed_and_not_under_a_vm() -> None:
    foreign = {**MADE, "br0": Link("br0", "bridge"), "eth5.7": Link("eth5.7", "vlan")}
    assert unwanted(frozenset({"lan"}), foreign).steps == ()
    assert unwanted(frozenset(), foreign).steps == (
        ("link", "delete", "dev", "lan.20"), ("link", "delete", "dev", "lan")
    )  # fmt: skip
    used = {**foreign, "vnet3": Link("vnet3", "tun", master="lan")}
    assert unwanted(frozenset(), used).steps == ()
    assert "vnet3" in unwanted(frozenset(), used).trouble


@pytest.mark.parametrize(
    "network",
    [
        Network("Lan"), Network("much-too-long"), Network("lan", vlan=4095, uplink="e"),
        Network("lan", vlan=5), Network("lan", mtu=10), Network("lan", "a b"),
        Network("lan", uplinks_of=("b",)), Network("lan", uplinks_of=("b=x y",)),
    ],
)  # fmt: skip
def test_what_no_host_could_have_is_refused(network: Network) -> None:
    with pytest.raises(InvalidInput):
        registry.create(MemoryRegister(), network)


def test_a_network_that_loses_its_way_out_is_parted_from_it() -> None:
    alone = replace(LAN, uplink="", uplinks_of=(), vlan=0)
    assert ("link", "delete", "dev", "lan.20") in wanted(alone, "a", MADE).steps
    bridged = {"lan": MADE["lan"], "eth1": Link("eth1", master="lan")}
    assert ("link", "set", "dev", "eth1", "nomaster") in wanted(alone, "a", bridged).steps
    for kind in ("bond", "vlan"):  # that somebody else made, and that was its uplink
        links = {"lan": MADE["lan"], "up0": Link("up0", kind, master="lan")}
        assert ("link", "set", "dev", "up0", "nomaster") in wanted(alone, "a", links).steps, kind
    vm = {"lan": MADE["lan"], "vnet0": Link("vnet0", "tun", master="lan")}
    assert wanted(alone, "a", vm).steps == ()
    other = wanted(replace(LAN, vlan=30), "a", MADE).steps
    assert ("link", "delete", "dev", "lan.20") in other, "one network has one number"


def test_the_registry() -> None:
    register = MemoryRegister()
    registry.create(register, LAN)
    with pytest.raises(Conflict, match="already"):
        registry.create(register, LAN)
    assert registry.networks(register) == [LAN]
    registry.remove(register, "lan")
    with pytest.raises(NotFound):
        registry.remove(register, "lan")
    assert registry.networks(register) == []
    registry.create(register, LAN)
    assert registry.networks(register) == [LAN]


# ---- the keeper


class Board:
    def __init__(self) -> None:
        self.links = dict(CARDS)
        self.wishes: list[Network] | None = []
        self.done: list[tuple[str, ...]] = []
        self.told: list[Note] = []

    def read(self) -> dict[str, Link]:
        return self.links

    def carry_out(self, steps: tuple[tuple[str, ...], ...]) -> None:
        self.done += steps

    def wished(self) -> list[Network]:
        if self.wishes is None:
            raise StorageTrouble("no answer")
        return self.wishes


def test_trouble_is_told_once_and_so_is_its_end() -> None:
    board = Board()
    keeper = NetworkKeeper("a", board.wished, board, board.told.append)
    board.wishes = [replace(LAN, mtu=9000)]
    keeper.look()
    keeper.look()
    board.links["eth1"] = Link("eth1", mtu=9000)
    keeper.look()
    assert [told.code for told in board.told] == ["network-lacks", "network-there"]
    assert "MTU of 1500" in board.told[0].sentence


def test_a_storage_that_does_not_answer_removes_nothing() -> None:
    board = Board()
    board.links, board.wishes = dict(MADE), None
    NetworkKeeper("a", board.wished, board, board.told.append).look()
    assert board.done == []
    board.wishes = []
    NetworkKeeper("a", board.wished, board, board.told.append).look()
    assert board.done[-1] == ("link", "delete", "dev", "lan")


# ---- real links


def ip(*argv: str) -> str:
    done = subprocess.run(["ip", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces with one wire between them, as eth1 on both sides."""
    names = (f"oln-a-{os.getpid()}", f"oln-b-{os.getpid()}")
    for name in names:
        ip("netns", "add", name)
    try:
        ip("-n", names[0], "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns",
           names[1])  # fmt: skip
        for name in names:
            ip("-n", name, "link", "set", "eth1", "up")
        yield names
    finally:
        for name in names:
            ip("netns", "delete", name)


def vlans_work(host: str) -> bool:
    """Tried: the kernel may have none."""
    add = ["link", "add", "link", "eth1", "name", "try", "type", "vlan", "id", "9"]
    if subprocess.run(["ip", "-n", host, *add], capture_output=True, check=False).returncode:
        return False
    ip("-n", host, "link", "delete", "dev", "try")
    return True


@pytest.mark.rack
@pytest.mark.parametrize("network", [LAN, Network("fast", "eth1", mtu=1300)])
def test_two_hosts_reach_each_other_through_it(hosts: tuple[str, str], network: Network) -> None:
    network = replace(network, uplinks_of=())
    if network.vlan and not vlans_work(hosts[0]):
        pytest.skip("the kernel of this machine has no VLANs")
    told: list[Note] = []
    keepers = [
        NetworkKeeper(host, lambda: [network], Links(host), told.append) for host in hosts
    ]  # fmt: skip
    for keeper in keepers:
        keeper.look()
    for number, host in enumerate(hosts, 1):
        assert wanted(network, host, Links(host).read()).steps == (), "nothing is left to do"
        assert Links(host).read()[network.name].addresses == ()
        ip("-n", host, "address", "add", f"10.99.0.{number}/24", "dev", network.name)
    whole = str(network.mtu - 28)
    reach = ["ip", "netns", "exec", hosts[0], "ping", "-c", "1", "-W", "5", "-M", "do", "-s"]
    assert subprocess.run([*reach, whole, "10.99.0.2"], capture_output=True).returncode == 0
    larger = subprocess.run([*reach, str(network.mtu - 27), "10.99.0.2"], capture_output=True)
    assert larger.returncode != 0, "packets that are larger than its MTU do not fit"
    assert told == []
    tap = ["tuntap", "add", "dev", "vnet0", "mode", "tap"]
    ip("-n", hosts[0], *tap)
    ip("-n", hosts[0], "link", "set", "vnet0", "master", network.name)
    gone = NetworkKeeper(hosts[0], list, Links(hosts[0]), told.append)
    gone.look()
    assert network.name in Links(hosts[0]).read(), "a VM uses it"
    ip("-n", hosts[0], "link", "delete", "vnet0")
    gone.look()
    assert set(Links(hosts[0]).read()) == {"lo", "eth1"}


@pytest.mark.parametrize("has_it", [True, False])
def test_a_kernel_without_ipv6_is_not_told_about_its_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_it: bool
) -> None:
    monkeypatch.setattr(links, "IPV6", tmp_path if has_it else tmp_path / "none")
    done = []
    monkeypatch.setattr(Links, "_run", lambda _self, *step: done.append(step))
    steps = wanted(LAN, "a", CARDS).steps
    Links().carry_out(steps)
    assert set(steps) - set(done) == (
        set() if has_it else {("link", "set", "dev", "lan", *NO_ADDRESS)}
    )


@pytest.mark.rack
def test_what_ip_refuses_is_said(hosts: tuple[str, str]) -> None:
    with pytest.raises(LinkTrouble, match=r"'ip link delete dev none': "):
        Links(hosts[0]).carry_out([("link", "delete", "dev", "none")])
    with pytest.raises(LinkTrouble):
        Links("no-such-namespace").read()
