"""Does this host hear the others on each network that both have, with packets of full size?

Rules:
1. Each host calls at every look on every network that leaves it. Who should be heard there and was
   not for DEAF_S, while the network stands here, is told in a note, once; so is its end.
2. Those are the networks for VMs, and the ways between the hosts themselves (host_paths.py).
3. A host whose beats do not arrive either is dead, or cut off from this one: that is told as such,
   and no matter of single networks. Its time begins anew when its beats are back.
4. Nothing is decided by it: it tells people where a VM that moves would lose its network, or would
   not arrive.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from outlast.equipment import Network
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.settings import Timing

DEAF_S = 60.0


class Calls(Protocol):
    """As network.frames.Frames."""

    def call(self) -> None: ...
    def heard(self) -> set[str]: ...
    def close(self) -> None: ...


class NetworkReach:
    """calls: opens the calls of a network here; may raise OSError. others: hosts to be heard there,
    as `to_be_heard` says."""

    def __init__(
        self, host: str, calls: Callable[[Network], Calls],
        others: Callable[[Network], Mapping[str, bool]], tell: Callable[[Note], None],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._host, self._calls, self._others = host, calls, others
        self._tell, self._clock = tell, clock
        self._open: dict[Network, Calls] = {}
        self._heard_s: dict[tuple[str, str], float] = {}  # network and host: when it was heard
        self._deaf: set[tuple[str, str]] = set()

    @property
    def deaf(self) -> Mapping[str, tuple[str, ...]]:
        """Who is not heard, by network. From any thread."""
        found: dict[str, tuple[str, ...]] = {}
        for network, other in sorted(self._deaf):
            found[network] = (*found.get(network, ()), other)
        return found

    def step(self, standing: Iterable[Network]) -> None:
        """Call and listen once. standing: networks that leave this host and stand here."""
        networks = set(standing)
        for gone in set(self._open) - networks:
            self._end(gone)
        now_s = self._clock()
        for network in sorted(networks, key=lambda n: n.name):
            heard = self._step(network)
            if heard is not None:
                self._judge(network, heard, self._others(network), now_s)

    def _step(self, network: Network) -> set[str] | None:
        """Who was heard; None when that could not be tried."""
        try:
            if network not in self._open:
                self._open[network] = self._calls(network)
            self._open[network].call()
        except OSError:  # it was made anew under us, or is down: tried again at the next look
            self._end(network)
            return None
        return self._open[network].heard()

    def _judge(
        self, network: Network, heard: set[str], others: Mapping[str, bool], now_s: float
    ) -> None:
        for other, beats in sorted(others.items()):
            pair = (network.name, other)
            if other in heard or not beats or pair not in self._heard_s:
                self._heard_s[pair] = now_s
            deaf = now_s - self._heard_s[pair] >= DEAF_S
            fields = {"host": self._host, "other": other, "network": network.name}
            if deaf and pair not in self._deaf:
                self._deaf = self._deaf | {pair}
                self._tell(note("network-deaf", **fields, mtu=network.mtu))
            elif other in heard and pair in self._deaf:
                self._deaf = self._deaf - {pair}
                self._tell(note("network-heard", **fields))
        known = {pair for pair in self._heard_s if pair[0] != network.name or pair[1] in others}
        self._heard_s = {pair: self._heard_s[pair] for pair in known}
        self._deaf = self._deaf & known  # exchanged, never changed: others read it

    def _end(self, network: Network) -> None:
        calls = self._open.pop(network, None)
        if calls is not None:
            with contextlib.suppress(OSError):
                calls.close()
        self._heard_s = {p: s for p, s in self._heard_s.items() if p[0] != network.name}
        self._deaf = {pair for pair in self._deaf if pair[0] != network.name}


def to_be_heard(facts: Facts | None, timing: Timing, version: str) -> dict[str, bool]:
    """Members that call on the networks as `version` does; whether their beats arrive. Pure."""
    if facts is None or facts.view is None:
        return {}
    members = facts.view.slots - {facts.me.slot}
    known = [facts.slots[n] for n in members if n in facts.slots]
    return {
        record.host: facts.links.get(record.slot, timing.dead_ns) < timing.link_lost_ns
        for record in known
        if record.version == version and not record.no_vms
    }
