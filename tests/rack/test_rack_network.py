"""Faults of the rack's network, proved with datagrams between hosts."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from rack_bench import PYTHON, wait_for

from outlast.errors import InvalidInput, NotFound
from outlast.rack.client import RackClient

pytestmark = pytest.mark.rack
MOMENT_S = 0.2  # for datagrams that are not lost to cross the switch

# sends and counts datagrams, as told on its standard input
EAR = """
import socket, sys, threading
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 6000))
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard = {}
def listen():
    while True:
        data, (sender, _) = s.recvfrom(100)
        heard[sender] = heard.get(sender, 0) + 1
threading.Thread(target=listen, daemon=True).start()
print("up", flush=True)
for line in sys.stdin:
    what, address = line.split()
    if what == "send":
        for _ in range(20):
            try: out.sendto(b"x", (address, 6000))
            except OSError: pass
        print("sent", flush=True)
    elif what == "forget":
        print(heard.pop(address, 0), flush=True)
    else:
        print(heard.get(address, 0), flush=True)
"""


class Ears:
    """A small talker on every host."""

    def __init__(self, rack: RackClient) -> None:
        hosts = rack.status()["hosts"]
        self.addresses = {name: host["addresses"] for name, host in hosts.items()}
        self.talkers = {
            name: rack.popen(name, [*PYTHON, EAR], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)
            for name in hosts
        }  # fmt: skip
        for talker in self.talkers.values():
            assert talker.stdout is not None
            assert talker.stdout.readline() == "up\n"

    def ask(self, host: str, line: str) -> str:
        talker = self.talkers[host]
        assert talker.stdin is not None
        assert talker.stdout is not None
        talker.stdin.write(line + "\n")
        talker.stdin.flush()
        return talker.stdout.readline().strip()

    def heard(self, source: str, target: str, net: str = "mgmt") -> int:
        """How many of 20 datagrams arrive within a moment."""
        sender = self.addresses[source][net]
        self.ask(target, f"forget {sender}")
        self.ask(source, f"send {self.addresses[target][net]}")
        end, count = time.monotonic() + MOMENT_S, 0
        while count < 20 and time.monotonic() < end:
            count = int(self.ask(target, f"heard {sender}"))
        return count

    def close(self) -> None:
        for talker in self.talkers.values():
            talker.communicate("")


@pytest.fixture
def ears(rack: RackClient) -> Iterator[Ears]:
    ears = Ears(rack)
    for a, b in (("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")):
        for net in ("mgmt", "storage"):  # addresses are known to all after this
            wait_for(f"{a} reaches {b}", lambda a=a, b=b, net=net: ears.heard(a, b, net) == 20)
    yield ears
    ears.close()


def test_cuts_are_exact(rack: RackClient, ears: Ears) -> None:
    rack.cut("a", "b", one_way=True)
    assert ears.heard("a", "b") == 0
    assert ears.heard("b", "a") == 20
    assert ears.heard("a", "b", "storage") == 20
    rack.cut("a", "b")
    assert (ears.heard("a", "b"), ears.heard("b", "a")) == (0, 0)
    assert (ears.heard("a", "c"), ears.heard("c", "b")) == (20, 20)
    assert len(rack.status()["faults"]) == 2
    rack.cut("a", "c")
    rack.heal("a", "b")
    assert (ears.heard("a", "b"), ears.heard("a", "c")) == (20, 0)
    rack.heal()
    assert rack.status()["faults"] == []
    assert ears.heard("a", "c") == 20


def test_isolation_loss_and_cables(rack: RackClient, ears: Ears) -> None:
    rack.isolate("b")
    assert (ears.heard("a", "b"), ears.heard("b", "c"), ears.heard("a", "c")) == (0, 0, 20)
    assert ears.heard("a", "b", "storage") == 20
    rack.loss("b", 50)
    some = sum(ears.heard("a", "b") for _ in range(10))
    assert 40 < some < 160, "half of 200 datagrams, give or take"
    rack.heal("b")
    rack.link("c", up=False)

    def carrier() -> str:
        return rack.exec("c", ["cat", "/sys/class/net/mgmt/carrier"]).stdout.strip()

    wait_for("no carrier", lambda: carrier() == "0")
    assert ears.heard("a", "c") == 0
    rack.link("c", up=True)
    wait_for("a carrier", lambda: carrier() == "1")
    wait_for("datagrams again", lambda: ears.heard("a", "c") == 20)


def test_a_pulled_cable_stays_pulled_over_a_power_cycle(rack: RackClient) -> None:
    rack.link("c", up=False, net="storage")
    rack.power("c", "reset")
    seen = rack.exec("c", ["cat", "/sys/class/net/storage/carrier"])
    assert seen.stdout.strip() == "0"
    rack.heal("c")
    wait_for(
        "a carrier",
        lambda: rack.exec("c", ["cat", "/sys/class/net/storage/carrier"]).stdout.strip() == "1",
    )


def test_nonsense_is_refused_in_words(rack: RackClient) -> None:
    with pytest.raises(NotFound, match="no host 'z'") as caught:
        rack.cut("a", "z")
    assert "a, b, c" in caught.value.hint
    with pytest.raises(InvalidInput, match="network 'lan'"):
        rack.isolate("a", net="lan")
    with pytest.raises(InvalidInput):
        rack.loss("a", 101)
    with pytest.raises(InvalidInput):
        rack.storage("explode", "a")
    with pytest.raises(InvalidInput):
        rack.storage("fail", "a", errno="ENOSENSE")
    with pytest.raises(InvalidInput):
        rack.storage("stall", "a", path="(")
