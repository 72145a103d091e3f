"""Two heartbeat networks: one may be lost without anything happening; without both it is as ever.

The second one is the rack's storage network, cut between the hosts only: each still reaches the
storage. VMs move over it as well, by the address that each host joined with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from evidence import Story, command

from outlast.rack.lab import Lab

pytestmark = [pytest.mark.rack, pytest.mark.slow]


# what QEMU listens at while a VM comes in
RULES = """
add table inet walls
add chain inet walls inward { type filter hook input priority 0; }
add rule inet walls inward ip daddr 10.90.0.0/16 tcp dport 49152-49215 counter drop
"""


class TwoNetworks(Lab):
    """A lab whose hosts join with an address on each of the rack's networks."""

    def networks(self, addresses: Mapping[str, str]) -> list[str]:
        mgmt, storage = addresses["mgmt"], addresses["storage"]
        return ["--address", mgmt, "--address", storage, "--migration-address", storage]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with TwoNetworks(tmp_path_factory.mktemp("networks")) as lab:
        lab.begin(hosts=3, leashed=True)
        lab.create(["vm1"])
        lab.wait_running(["vm1"])
        yield lab


def cut(lab: Lab, host: str, net: str) -> None:
    for other in lab.hosts:
        if other != host:
            lab.rack.cut(host, other, net=net)


def test_one_of_two_is_lost_and_then_both(lab: Lab) -> None:
    victim = lab.where("vm1")
    before, story = lab.client().status(), Story(lab)
    cut(lab, victim, "mgmt")
    lost = story.wait("beats-lost", about=victim)["beats-lost"]
    lab.wait(
        lambda: len(story.codes().get("beats-lost", [])) == 4,
        15,
        "not each end tells of both paths",
    )
    assert all("heartbeat network 1 " in sentence for sentence in lost)
    told = set(story.codes())
    assert not told & {"link-down", "view-changed", "host-silent", "vm-killed", "not-member"}
    assert lab.client().status().view == before.view
    assert lab.where("vm1") == victim

    cut(lab, victim, "storage")
    story.wait("link-down", "view-changed")
    lab.wait(
        lambda: lab.where("vm1") not in ("", victim), 40, "vm1 does not start on the other side"
    )
    lab.rack.heal()
    lab.wait_members(lab.hosts)
    lab.wait_running(["vm1"])


def test_a_vm_moves_over_the_network_for_that(lab: Lab) -> None:
    """The first network lets no memory of VMs pass, and a move does not notice."""
    lab.wait_running(["vm1"])
    source = lab.where("vm1")
    target = next(host for host in lab.hosts if host != source)
    lab.rack.exec(target, ["nft", RULES])
    moved = command(lab, source, "vm", "migrate", "vm1", "--to", target, "--wait")
    assert moved.returncode == 0, moved.stderr
    assert lab.where("vm1") == target
    counted = lab.rack.exec(target, ["nft", "list", "table", "inet", "walls"]).stdout
    assert "packets 0 " in counted, f"something tried: {counted}"
