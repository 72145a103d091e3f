"""The pulse of a pretend host: the real core, one storage cycle a beat, beats to all peers.

A drill mutes it as pulse_loop does: no packet goes out or comes in, cycles fail without a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_drill import Drill, Muting
from outlast.guard.pulse_facts import Close, Command, Desk, Drained, Extend, Identity, Open, Retime
from outlast.guard.pulse_facts import Sample as Cycle
from outlast.guard.pulse_grant import Extensions
from outlast.guard.pulse_windows import Instant, Windows
from outlast.model import Block, View
from outlast.sim.machine import Machine
from outlast.storage import format as fmt
from outlast.wire.grant import Packet

HALF = 0.5
DRILL_BEATS = 30


class SimPulse:
    """desk: what goes into the block. cycled: a storage cycle came to its end."""

    def __init__(
        self, machine: Machine, desk: Callable[[frozenset[int]], Desk], cycled: Callable[[], None]
    ) -> None:
        self.machine, self.world = machine, machine.world
        self._desk, self._cycled = desk, cycled
        me, record = machine.me, machine.record
        boot_id = f"{self.world.random.getrandbits(128):032x}"
        self.core = PulseCore(
            Identity(machine.settings.uuid, record.uuid, boot_id, me.slot, record.generation),
            machine.settings.timing,
        )
        self.core.windows = Windows(self._decode, machine.settings.timing)
        self.core.slot_record(record)
        self.extensions = Extensions(self.core)
        self.extensions.told_first = True
        self.muting = Muting()
        self._drilled = False
        machine.deaf = lambda: self._drilled and self.muting.network(machine.instant())
        self.busy = False
        self.seq = 0
        self.good_seq = 0
        self.last_good: Cycle | None = None
        machine.every(machine.settings.timing.beat_ns, self.beat)

    def _decode(self, raw: bytes, slot: int) -> Block | None:
        """As the core does, but the same bytes once for all hosts."""
        known = self.world.blocks.get(slot)
        if known is None or known[0] is not raw:
            try:
                block = fmt.decode_block(raw, self.core.me.pool_uuid, slot)
            except fmt.BadBlock:
                block = None
            known = self.world.blocks[slot] = (raw, block)
        return known[1]

    def beat(self) -> None:
        self.core.heed(self.machine.guard_fact(), self.machine.instant())
        for peer in self.machine.peers.values():
            if peer.power and not peer.frozen and self._reaches(peer):
                peer.heard[self.machine.me.slot] = self.world.now_ns
        if self.busy:
            self._command(self.core.watch(self.machine.instant()))
            self._ask_for_time()
            return
        lost_ns = self.machine.settings.timing.link_lost_ns
        heard_at = self.machine.heard.items()
        heard = frozenset(s for s, at in heard_at if self.world.now_ns - at < lost_ns)
        term = f"{self.world.random.getrandbits(128):032x}"
        block = self.core.begin(self._desk(heard), term)
        raw = fmt.encode_block(block) if block else None
        started = self.machine.instant()
        self.busy = True
        if self.muted():
            self._failed(started, raw, None, started, "")
            return
        if raw is None:
            self._read(started, None, None)
            return
        written = self.machine.writing = raw
        self.world.ask(
            self.machine.name,
            lambda: self.world.disk.write_block(self.machine.me.slot, written),
            lambda _: self._read(started, raw, self.machine.instant()),
            lambda error: self._failed(started, raw, None, self.machine.instant(), error),
            self.machine.settings.timing.settle_ns,
        )

    def _read(self, started: Instant, raw: bytes | None, acked: Instant | None) -> None:
        """All blocks, then newer views. A rough world lets others write while they are read."""
        self.machine.writing = None
        read_start = self.machine.instant()

        def ask(act: Callable[[], object], done: Callable[[Any], None]) -> None:
            self.world.ask(
                self.machine.name, act, done,
                lambda error: self._failed(started, raw, acked, read_start, error),
            )  # fmt: skip

        def finish(got: Any) -> None:
            self._finish(started, raw, acked, read_start, got)

        disk = self.world.disk
        if not self.world.rough:
            ask(lambda: (tuple(disk.area), self._newer_views()), finish)
            return

        def again(before: Any) -> None:
            ask(lambda: (self._either(before, disk.area), self._newer_views()), finish)

        ask(lambda: tuple(disk.area), again)

    def _either(self, before: tuple[bytes, ...], after: list[bytes]) -> tuple[bytes, ...]:
        """Each block as it was at the begin or at the end of one read."""
        pairs = zip(before, after, strict=True)
        return tuple(a if a is b or self.world.random.random() < HALF else b for a, b in pairs)

    def _ask_for_time(self) -> None:
        nonce = f"{self.world.now_ns:016x}{self.machine.me.slot:016x}"  # draws no chance
        packets, extend = self.extensions.ask(self.machine.instant(), nonce)
        self._command([extend] if extend else [])
        for packet in packets:
            self._send(packet)

    def _send(self, packet: Packet) -> None:
        peer = self.machine.peers.get(packet.to_slot)
        if peer is not None and self._reaches(peer):
            for delay_ns in self.world.packet_delays_ns():
                self.world.after(delay_ns, lambda: peer.hear(packet))

    def _reaches(self, peer: Machine) -> bool:
        heard = self.world.hears(self.machine.name, peer.name)
        return heard and not (self.machine.deaf() or peer.deaf())

    def muted(self) -> bool:
        """True while a drill takes the storage away."""
        return self._drilled and self.muting.storage(self.machine.instant())

    def drill(self, kind: str, for_ns: int = 0) -> None:
        """Act as if this host had less, for a while; 0: for DRILL_BEATS."""
        for_ns = for_ns or DRILL_BEATS * self.core.timing.beat_ns
        self._drilled = True
        self._command(self.muting.begin(Drill(kind, for_ns), self.core, self.machine.instant()))

    def heed_packet(self, packet: Packet) -> None:
        """Another host asks for time, or answers."""
        answer = self.extensions.answer(packet, self.machine.instant())
        if answer is not None:
            self._send(answer)
        elif extend := self.extensions.heed_answer(packet, self.machine.instant()):
            self._command([extend])

    def _newer_views(self) -> tuple[View, ...]:
        known = self.core.view.version if self.core.view else 0
        newest = self.world.disk.version("view")
        return tuple(
            fmt.view_from(self.world.disk.value("view", v)) for v in range(known + 1, newest + 1)
        )

    def _finish(
        self, started: Instant, raw: bytes | None, acked: Instant | None, read_start: Instant,
        got: Any,
    ) -> None:  # fmt: skip
        area, views = got
        sample = Cycle(started, read_start, self.machine.instant(), raw, acked, None, area, views)
        self._cycle_done(sample)

    def _failed(
        self, started: Instant, raw: bytes | None, acked: Instant | None, read_start: Instant,
        error: str,
    ) -> None:  # fmt: skip
        self.machine.writing = None
        self._cycle_done(
            Cycle(started, read_start, self.machine.instant(), raw, acked, None, None, (), error)
        )

    def _cycle_done(self, sample: Cycle) -> None:
        self.busy = False
        self.seq += 1
        now = self.machine.instant()
        sample = self.muting.cycled(sample, now)
        commands = self.core.finish(sample, now)
        self.extensions.cycled(sample, commands)
        self._command(commands)
        self._ask_for_time()
        if self.core.good:
            self.last_good, self.good_seq = sample, self.seq
        self.core.heed(self.machine.guard_fact(), now)
        self._cycled()

    def _command(self, commands: Iterable[Command]) -> None:
        guard = self.machine.guard
        for command in commands:
            now, seen = self.machine.reading(), self.machine.guard_seen()
            at: dict[str, object] = {"term": command.term}
            if isinstance(command, Close):
                wish = {"reason": command.reason, "reset_if_running": command.reset_if_running}
                guard.close(now, seen, {**at, **wish})
                self.machine.guard_soon()
            elif isinstance(command, Drained):
                guard.drained(at)
            else:
                start = command.start
                at |= {"start_boot_ns": start.boot_ns, "start_raw_ns": start.raw_ns}
                if isinstance(command, Open | Retime):
                    timing = command.timing if isinstance(command, Retime) else self.core.timing
                    at |= {
                        "fence_ns": timing.fence_ns, "kill_ns": timing.kill_ns,
                        "margin_ns": timing.margin_ns, "watchdog_s": timing.watchdog_s,
                    }  # fmt: skip
                    if isinstance(command, Retime):
                        if guard.retime(now, seen, at)["ok"]:
                            self.core.retimed(timing)
                        continue
                    self.world.changes += 1
                    answer = guard.open(now, seen, {**at, "drains": True})
                    if not answer.get("ok"):
                        self.core.open_refused(str(answer.get("error")))
                else:
                    guard.confirm(now, at, extend=isinstance(command, Extend))
