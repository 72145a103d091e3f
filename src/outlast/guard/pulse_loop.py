"""The pulse's main thread: beats, guard, agents; it never touches the storage.

One turn of the loop handles whatever is due:
1. Every beat (drift-free): network beats go out, and the next storage cycle starts. A cycle that
   takes longer than the beat is followed by the next one at once. While it is pending the guard is
   asked and warned (core.watch), and agents get a snapshot that says so.
2. A cycle came back: ask the guard, let the core judge, tell the guard, tell the agents.
3. Work: an agent that raised its work_seq makes beats go out at once and a cycle start at once;
   a peer that did, is told to the agents at once. At most one extra cycle per quarter of a beat.
4. After a cycle, when due (new view, unknown slot, every 20 beats): refresh settings and records.
5. While nobody has storage, the others are asked for more time (pulse_asking, pulse_grant).
6. A drill mutes the network, or has cycles fail without touching the storage (pulse_drill).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from outlast.guard.client import GuardClient
from outlast.guard.pulse_asking import Asking, Proposed, is_packet, read_proposal
from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_drill import Muting, read_drill
from outlast.guard.pulse_facts import Desk, Identity, Life, Sample
from outlast.guard.pulse_guard import GuardLine
from outlast.guard.pulse_io import (
    Basics,
    CycleJob,
    Done,
    LoadJob,
    RefreshJob,
    StorageThread,
    Store,
    now,
)
from outlast.guard.pulse_net import Networks
from outlast.guard.pulse_server import AgentServer, read_publication
from outlast.guard.pulse_snapshot import build
from outlast.model import SlotRecord
from outlast.settings import MS, S, Timing
from outlast.storage.format import encode_block
from outlast.wire.beat import HINTS_MAX, Beat, Ears, encode

REFRESH_BEATS = 20
AGENT_FRESH_BEATS = 3
UNLOADED_BEAT_NS = 1 * S  # until the pool's timing is known


@dataclass(frozen=True, slots=True)
class Host:
    """What the host file says, as far as the pulse needs it."""

    pool_dir: Path
    pool_uuid: str
    name: str
    slot: int
    uuid: str
    generation: int
    beat_addresses: tuple[str, ...]
    boot_id: str


class Pulse:
    """The process. `run` ends after `stop` was called (from a signal handler)."""

    def __init__(self, host: Host, store: Store, guard: GuardClient, socket_path: Path) -> None:
        self.host, self._guard = host, GuardLine(guard)
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        self._storage = StorageThread(store, self._wake)
        self._networks = Networks(host.beat_addresses)
        self._server = AgentServer(socket_path, self._selector, self._said)
        self._stopping = False
        self._core: PulseCore | None = None
        self._asking: Asking | None = None
        self._muting = Muting()
        self._proposed = Proposed(socket_path.with_name("proposed"), host.boot_id)
        self._basics: Basics | None = None
        self._ears: Ears | None = None
        self._desk = Desk()
        self._records: dict[int, SlotRecord | None] = {}
        self._storage_error = "the pool was not read yet"
        self._refresh_error = ""
        self._peer_work: dict[int, tuple[str, int]] = {}
        self._named: set[int] = set()  # view versions that beats named
        self._nudges: list[dict[str, object]] = []
        self._published_ns = now().boot_ns
        self._agent_spoke = False
        self._due_ns = now().boot_ns
        self._extra_wanted = False
        self._started_ns = 0
        self._beats = 0
        self._refreshed_beat = -REFRESH_BEATS
        self._refreshed_view = -1

    # the loop -------------------------------------------------------------------------------

    def run(self) -> None:
        while not self._stopping:
            self._turn()
            for key, events in self._selector.select(self._wait_s()):
                key.data(events)
        self._server.close()
        self._networks.close()
        self._storage.stop(1.0)

    def stop(self) -> None:
        """End soon. The term stays open: only the guard's deadline limits it."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b".")

    def _woken(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    @property
    def _beat_ns(self) -> int:
        return self._core.timing.beat_ns if self._core else UNLOADED_BEAT_NS

    def _wait_s(self) -> float:
        due = self._due_ns
        if self._extra_wanted and self._storage.pending is None and self._core:
            due = min(due, self._extra_ns())
        return max(0, due - now().boot_ns) / S

    def _extra_ns(self) -> int:
        return self._started_ns + self._beat_ns // 4

    def _turn(self) -> None:
        if (done := self._storage.take()) is not None:
            self._done(done)
        at = now().boot_ns
        if at >= self._due_ns:
            self._beat(at)
        elif self._extra_wanted and self._storage.pending is None and at >= self._extra_ns():
            self._start_cycle()

    def _beat(self, at: int) -> None:
        self._due_ns += self._beat_ns
        if self._due_ns <= at:  # late: no burst to catch up
            self._due_ns = at + self._beat_ns
        self._beats += 1
        self._networks.muted = self._muting.network(now())
        self._send_beats()
        if self._storage.pending is None:
            self._start_cycle() if self._core else self._load()
            return
        self._extra_wanted = True  # the next cycle follows this one at once
        self._guard.ask(self._core)
        if self._core and self._asking:
            self._guard.tell(self._core, [*self._core.watch(now()), *self._asking.beat()])
        self._broadcast()

    # storage --------------------------------------------------------------------------------

    def _load(self) -> None:
        own = frozenset({self.host.slot})
        self._storage.give(LoadJob() if self._basics is None else RefreshJob(own))

    def _start_cycle(self) -> None:
        core = self._core
        if core is None:
            return
        self._extra_wanted = False
        self._started_ns = now().boot_ns
        block = core.begin(self._desk_now(), secrets.token_hex(16))
        raw = encode_block(block) if block else None
        known = core.view.version if core.view else 0
        named = {b.view_version for s in core.windows.slots.values() if (b := s.block)}
        self._named = {v for v in self._named | named if v > known}
        job = CycleJob(self.host.slot, raw, known, frozenset(self._named))
        if self._muting.storage(at := now()):
            self._cycle_done(Done(job, sample=Sample(at, at, at, written=raw)))
        else:
            self._storage.give(job)

    def _done(self, done: Done) -> None:
        if isinstance(done.job, CycleJob):
            self._cycle_done(done)
        elif isinstance(done.job, LoadJob):
            self._loaded(done)
        else:
            self._refreshed(done)

    def _loaded(self, done: Done) -> None:
        self._storage_error = done.error
        if done.basics is None:
            self._broadcast()
            return
        if _plain(done.basics.pool_uuid) != _plain(self.host.pool_uuid):
            self._storage_error = (
                f"{self.host.pool_dir} holds pool {done.basics.pool_uuid}, but this host belongs "
                f"to pool {self.host.pool_uuid}"
            )
            self._broadcast()
            return
        self._basics = done.basics
        self._ears = Ears(self.host.slot, done.basics.pool_uuid, done.basics.secret)
        self._load()

    def _refreshed(self, done: Done) -> None:
        self._records.update(done.slots)
        self._refresh_error = done.error
        if done.settings is not None:
            self._guard.watchdog = done.settings.watchdog
        if self._core is None:
            self._storage_error = done.error
            if done.settings is not None:
                self._begin(done.settings.timing)
        elif done.settings is not None:
            self._core.set_timing(done.settings.timing)
        if self._core and self.host.slot in done.slots:
            self._core.slot_record(done.slots[self.host.slot])
        if self._core is None:
            self._broadcast()

    def _begin(self, timing: Timing) -> None:
        h = self.host
        me = Identity(h.pool_uuid, h.uuid, h.boot_id, h.slot, h.generation)
        core = self._core = PulseCore(me, timing)
        if self._basics is not None:
            pool = self._basics.pool_uuid, self._basics.secret
            self._asking = Asking(
                core, self._networks, pool, self._proposed, lambda: self._records
            )  # fmt: skip
        self._due_ns = now().boot_ns

    def _cycle_done(self, done: Done) -> None:
        core, sample = self._core, done.sample
        if core is None or sample is None or self._asking is None:
            return
        life, sample = core.life, self._muting.cycled(sample, now())
        self._guard.ask(self._core)
        commands = core.finish(sample, now())
        self._asking.cycled(sample, commands)
        self._guard.tell(self._core, [*commands, *self._asking.beat()])
        self._storage_error = sample.error or sample.view_error
        if core.life is not life and Life.CLOSED not in (life, core.life):
            self._extra_wanted = True  # what changed is put on the disk at once
        self._broadcast()
        self._refresh_if_due()

    def _refresh_if_due(self) -> None:
        core = self._core
        if core is None:
            return
        view = core.view.version if core.view else 0
        wanted = {self.host.slot, *(core.view.slots if core.view else ())}
        wanted |= {slot for slot, seen in core.windows.slots.items() if seen.valid}
        due = self._beats - self._refreshed_beat >= REFRESH_BEATS
        if due or view != self._refreshed_view or not wanted <= set(self._records):
            self._refreshed_beat, self._refreshed_view = self._beats, view
            self._storage.give(RefreshJob(frozenset(wanted)))

    # network --------------------------------------------------------------------------------

    def _send_beats(self) -> None:
        for network, sock in self._networks.open_missing():
            self._selector.register(sock, selectors.EVENT_READ, self._receiver(network, sock))
        core, basics = self._core, self._basics
        if core is None or basics is None or core.denied or core.life is Life.LOOKING:
            return
        heard, at = self._heard(), now().boot_ns
        hints = self._desk.hints[:HINTS_MAX]

        def packet(network: int) -> bytes:
            beat = Beat(
                self.host.slot, core.term, at // 1000, core.work_seq, heard, hints, network
            )  # fmt: skip
            return encode(beat, basics.pool_uuid, basics.secret)

        peers = (r.addresses for s, r in self._records.items() if r and s != self.host.slot)
        self._networks.send(peers, packet)

    def _heard(self) -> frozenset[int]:
        if self._ears is None or self._core is None:
            return frozenset()
        return self._ears.heard(now().boot_ns, self._core.timing.link_lost_ns)

    def _receiver(self, network: int, sock: socket.socket) -> Callable[[int], None]:
        def receive(_events: int) -> None:
            for packet in self._networks.receive(sock):
                if is_packet(packet):
                    self._guard.tell(self._core, self._asking.heed(packet) if self._asking else [])
                    continue
                beat = self._ears.take(packet, network, now().boot_ns) if self._ears else None
                if beat is not None:
                    self._heed_beat(beat)
            if self._nudges:
                self._broadcast()

        return receive

    def _heed_beat(self, beat: Beat) -> None:
        known = self._peer_work.get(beat.slot)
        if known is not None and known[0] == beat.term and beat.work_seq <= known[1]:
            return
        self._peer_work[beat.slot] = (beat.term, beat.work_seq)
        self._nudges.append(
            {"slot": beat.slot, "work_seq": beat.work_seq, "hints": [list(h) for h in beat.hints]}
        )
        followed = self._core.view.version if self._core and self._core.view else 0
        newer = {version for name, version in beat.hints if name == "view" and version > followed}
        if newer:
            self._named |= newer
            self._extra_wanted = True

    # agents ---------------------------------------------------------------------------------

    def _said(self, message: Mapping[str, object]) -> None:
        if "leave" in message and self._core:
            self._core.leave(message["leave"] is True)
            self._guard.tell(self._core, self._core.watch(now()))
            self._extra_wanted = True
        if (version := read_proposal(message)) is not None:
            tell = self._asking.propose if self._asking else self._proposed.raise_to
            tell(version)
            self._broadcast()
        if (drill := read_drill(message)) is not None and self._core:
            self._guard.tell(self._core, self._muting.begin(drill, self._core, now()))
            self._networks.muted = self._muting.network(now())
        if "publish" not in message:
            return
        desk = read_publication(message["publish"])
        if self._asking:
            self._asking.agent(message["publish"])
        before = max(self._desk.work_seq, self._core.work_seq if self._core else 0)
        self._desk = replace(desk, work_seq=max(desk.work_seq, before))
        self._published_ns, self._agent_spoke = now().boot_ns, True
        if self._core and desk.work_seq > before:
            self._core.work_seq = desk.work_seq
            self._send_beats()
            self._extra_wanted = True

    def _desk_now(self) -> Desk:
        quiet_ns = now().boot_ns - self._published_ns
        fresh = self._agent_spoke and quiet_ns < AGENT_FRESH_BEATS * self._beat_ns
        away = 0 if self._server.connected and fresh else max(1, quiet_ns // MS)
        return replace(self._desk, agent_away_ms=away, heard=self._heard())

    def _broadcast(self) -> None:
        if not self._server.connected:
            self._nudges.clear()
            return
        snapshot = build(
            self._core, now().boot_ns, guard=self._guard.status, ears=self._ears,
            storage_error=self._storage_error, refresh_error=self._refresh_error,
            pending_ns=self._storage.pending_ns(), nudges=self._nudges,
            networks=self._networks, slot=self.host.slot,
            extension=self._asking.to_json() if self._asking else {},
            proposed=self._proposed.version, drill=self._muting.to_json(now()),
        )  # fmt: skip
        self._server.broadcast(snapshot)
        self._nudges = []


def _plain(uuid: str) -> str:
    return uuid.replace("-", "").lower()
