"""Heartbeats go over all networks that hosts have for them: tells when one of these carries none.

A link is up while any of them carries beats, so one that is lost changes nothing, and nobody would
notice before the last one goes too. Rules:

1. A path is one network from one other member to this host. It is lost when nothing came over it
   for PATH_LOST_LINKS as long as a link may be silent, while the member is heard over another one.
2. That it is lost, and that it carries beats again, is one note each. A member that is heard
   nowhere is not a matter of paths: the pool says so itself.
3. With one network, or a pulse that says nothing new, nothing is told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from outlast.model import SlotRecord
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.settings import PoolSettings

LOOK_S = 0.5
PATH_LOST_LINKS = 2  # a path is lost after so many times as long as a link may be silent

BeatPath = tuple[int, int]  # slot of the other host, index of the network


class BeatPaths:
    """seen: facts and settings, None while there are none. snapshot: the pulse's newest word."""

    def __init__(
        self, seen: Callable[[], tuple[Facts, PoolSettings] | None],
        snapshot: Callable[[], Mapping[str, Any] | None], tell: Callable[[Note], None],
    ) -> None:  # fmt: skip
        self._seen, self._snapshot, self._tell = seen, snapshot, tell
        self._since_ns: dict[BeatPath, int] = {}  # on the pulse's clock: looked for, or heard last
        self._lost: set[BeatPath] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beat-paths", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Judge every path once."""
        seen, snapshot = self._seen(), self._snapshot()
        if seen is None or snapshot is None:
            return
        facts, settings = seen
        members = facts.view.slots if facts.view is not None else frozenset()
        own, expected = facts.slots.get(facts.me.slot), set[BeatPath]()
        for slot in members - {facts.me.slot}:
            other = facts.slots.get(slot)
            count = min(len(own.addresses), len(other.addresses)) if own and other else 0
            if other is not None and count > 1:
                expected |= {(slot, network) for network in range(count)}
                self._judge(facts.me.host, other, count, snapshot, settings.timing.link_lost_ns)
        self._since_ns = {path: at for path, at in self._since_ns.items() if path in expected}
        self._lost &= expected

    def _judge(
        self, host: str, other: SlotRecord, count: int, snapshot: Mapping[str, Any], limit_ns: int
    ) -> None:
        slot, now_ns = other.slot, int(snapshot["now_ns"])
        heard = heard_ns_ago(snapshot, slot)
        silent_ns = {}
        for network in range(count):
            since_ns = self._since_ns.setdefault((slot, network), now_ns)
            if (ago_ns := heard.get(network)) is not None:
                since_ns = self._since_ns[(slot, network)] = max(since_ns, now_ns - ago_ns)
            silent_ns[network] = now_ns - since_ns
        near = any(ago_ns <= limit_ns for ago_ns in heard.values())
        for network, ns in silent_ns.items():
            path, number = (slot, network), network + 1
            if near and ns > PATH_LOST_LINKS * limit_ns and path not in self._lost:
                self._lost.add(path)
                why = (snapshot.get("networks") or {}).get(str(network), "")
                said = f" (here: {why})" if why else ""
                self._tell(note(
                    "beats-lost", host=host, other=other.host, network=number,
                    address=other.addresses[network], why=said,
                ))  # fmt: skip
            elif ns <= limit_ns and path in self._lost and network in heard:
                self._lost.discard(path)
                self._tell(note("beats-back", host=host, other=other.host, network=number))

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()


def heard_ns_ago(snapshot: Mapping[str, Any], slot: int) -> dict[int, int]:
    """How long ago a host was heard last, by heartbeat network."""
    heard = ((snapshot.get("links") or {}).get(str(slot)) or {}).get("networks") or {}
    return {int(network): int(ago_ns) for network, ago_ns in heard.items()}
