"""A network for each role, and what happens when one of them is lost.

Heartbeats go over both of the rack's networks; its storage network, cut between the hosts only, is
for moves as well: each host still reaches the storage. Management has addresses of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from evidence import Story, command, settle

from outlast.rack.lab import Lab
from outlast.wire.shapes import TimelineEntry

pytestmark = [pytest.mark.rack, pytest.mark.slow]

MANAGEMENT = "10.92.0"
TABLE = """
add table inet walls
add chain inet walls inward { type filter hook input priority 0; }
add chain inet walls outward { type filter hook output priority 0; }
"""
MEMORY = "tcp dport 49152-49215"  # what QEMU listens at while a VM comes in
# a switch port with a smaller MTU than the cards have, on the way there
NARROW = """
add table inet narrow
add chain inet narrow inward { type filter hook input priority 0; }
add rule inet narrow inward ip daddr 10.90.0.0/16 meta length > 1400 drop
"""


class Roles(Lab):
    """A lab whose hosts join with an address for each role.

    narrow: this host gets no whole packets over the first network for heartbeats, which are small.
    """

    narrow = ""

    def make_pool(self, *arguments: Any, **more: Any) -> None:
        for number, host in enumerate(self.rack.status()["hosts"], 1):
            address = f"{MANAGEMENT}.{number}/24"
            added = self.rack.exec(host, ["ip", "address", "add", address, "dev", "mgmt"])
            assert added.returncode == 0, added.stderr
        super().make_pool(*arguments, **more)

    def networks(self, addresses: Mapping[str, str]) -> list[str]:
        mgmt, storage = addresses["mgmt"], addresses["storage"]
        api = f"{MANAGEMENT}.{mgmt.rpartition('.')[2]}"
        return ["--address", mgmt, "--address", storage, "--migration-address", storage,
                "--api-address", api]  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    with Roles(tmp_path_factory.mktemp("networks")) as lab:
        lab.begin(hosts=3, leashed=True)
        lab.create(["vm1"])
        lab.narrow = ends(lab)[1]
        assert lab.rack.exec(lab.narrow, ["nft", NARROW]).returncode == 0
        yield lab


def cut(lab: Lab, host: str, net: str) -> None:
    for other in lab.hosts:
        if other != host:
            lab.rack.cut(host, other, net=net)


def test_one_of_two_is_lost_and_then_both(lab: Lab) -> None:
    victim, _ = ends(lab)
    story, boots = Story(lab), lab.boots("vm1")
    cut(lab, victim, "mgmt")
    lost = story.wait("beats-lost", about=victim)["beats-lost"]
    lab.wait(
        lambda: len(story.codes().get("beats-lost", [])) == 4,
        15,
        "not each end tells of both paths",
    )
    assert all("heartbeat network 1 " in sentence for sentence in lost)
    assert unnoticed(lab, story)
    assert (lab.where("vm1"), lab.boots("vm1")) == (victim, boots)

    cut(lab, victim, "storage")
    story.wait("link-down", "view-changed")
    lab.wait(
        lambda: lab.where("vm1") not in ("", victim), 40, "vm1 does not start on the other side"
    )
    lab.rack.heal()
    lab.wait_members(lab.hosts)
    lab.wait_running(["vm1"])


def wall(lab: Lab, host: str, *held_off: str) -> None:
    rules = "".join(f"add rule inet walls {one} counter drop\n" for one in held_off)
    assert lab.rack.exec(host, ["nft", TABLE + rules]).returncode == 0


def unwall(lab: Lab, host: str) -> str:
    """What it had held off."""
    counted = lab.rack.exec(host, ["nft", "list", "table", "inet", "walls"]).stdout
    assert lab.rack.exec(host, ["nft", "delete", "table", "inet", "walls"]).returncode == 0
    return counted


def test_a_vm_moves_over_the_network_for_that(lab: Lab) -> None:
    """No other network lets memory of VMs pass, and a move does not notice."""
    source, target = ends(lab)
    others = ("10.90.0.0/16", f"{MANAGEMENT}.0/24")
    wall(lab, target, *(f"inward ip daddr {net} {MEMORY}" for net in others))
    moved = command(lab, source, "vm", "migrate", "vm1", "--to", target, "--wait")
    assert moved.returncode == 0, moved.stderr
    assert lab.where("vm1") == target
    counted = unwall(lab, target)
    assert counted.count("packets 0 ") == 2, f"something tried: {counted}"


def test_without_the_network_for_moves_a_vm_stays_and_says_why(lab: Lab) -> None:
    """And nothing is held up by it, above all not the VM's own libvirt."""
    source, target = ends(lab)
    story, boots = Story(lab), lab.boots("vm1")
    wall(lab, target, f"inward ip daddr 10.91.0.0/16 {MEMORY}")
    refused = command(lab, source, "vm", "migrate", "vm1", "--to", target, "--wait")
    assert refused.returncode != 0
    assert f"{target} does not answer at 10.91.0." in refused.stderr
    assert "its address for moves: timed out" in refused.stderr
    assert lab.rack.exec(source, ["virsh", "domstate", "vm1"]).stdout.strip() == "running"
    assert unnoticed(lab, story)
    assert (lab.where("vm1"), lab.boots("vm1")) == (source, boots)
    unwall(lab, target)


def test_without_the_network_for_management_vms_run_on_and_who_is_missing_is_named(
    lab: Lab,
) -> None:
    source, target = ends(lab)
    story, boots = Story(lab), lab.boots("vm1")
    wall(lab, source, *(f"{way}ward ip daddr {MANAGEMENT}.0/24" for way in ("in", "out")))
    said = command(lab, target, "vm", "list").stdout
    assert f"{source} holds its lease, but its agent does not answer now" in said
    refused = command(lab, source, "vm", "migrate", "vm1", "--to", target, "--wait")
    assert refused.returncode != 0
    assert f"no way to the agent of {target} at https://{MANAGEMENT}." in refused.stderr
    assert "no answer within" in refused.stderr
    assert unnoticed(lab, story)
    assert (lab.where("vm1"), lab.boots("vm1")) == (source, boots)
    unwall(lab, source)
    lab.wait(lambda: lab.client(target).vm("vm1").state == "running", 20, "vm1 is not confirmed")


def unnoticed(lab: Lab, story: Story) -> bool:
    """Nothing that a lost network could do has happened to hosts and their VMs."""
    lab.wait_members(lab.hosts)
    harm = {"link-down", "host-silent", "not-member", "vm-killed", "vm-crashed"}
    return not harm & set(story.codes())


def test_to_whom_no_whole_packets_come_is_told_by_the_role_of_the_network(lab: Roles) -> None:
    """Last, because it takes a minute from the beginning until that is told."""

    def told() -> list[TimelineEntry]:
        return [note for note in lab.client().timeline(0, 5000) if note.code == "network-deaf"]

    lab.wait(lambda: bool(told()), 120, "nobody tells of whole packets that get lost")
    for note in told():
        assert lab.narrow in {note.fields["host"], note.fields["other"]}, "it is asked and asks"
        assert " on the network for heartbeats with packets of 1500 bytes" in note.sentence


def ends(lab: Lab) -> tuple[str, str]:
    """Where vm1 is, and another host."""
    lab.wait_running(["vm1"])
    settle(lab, ["vm1"])
    source = lab.where("vm1")
    return source, next(host for host in lab.hosts if host != source)
