"""The shell around pulse_grant: its packets on the networks, and what it must not forget.

Rules:
1. What the agent has begun to write (`proposed`) is kept in a file of the run directory, which a
   reboot empties: a pulse that is killed and started again still knows it. The file is made once
   and then written in place, so a full disk cannot lose it. Where it cannot be made or believed,
   this pulse neither asks for time nor grants it.
2. Answers go out over every network, as questions do; whichever comes first counts.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_facts import Command, Extend, Sample
from outlast.guard.pulse_grant import Extensions
from outlast.guard.pulse_io import now
from outlast.guard.pulse_net import Networks
from outlast.model import SlotRecord
from outlast.wire import grant
from outlast.wire.beat import BadBeat

NEVER = (1 << 62) - 1  # newer than any view will be
_WIDTH = 20


class Proposed:
    """The newest view this host's agent may have written, in this boot (rule 1)."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path, self._head = path, f"{boot_id} ".encode()
        self.version = self._read()
        if self.version == 0:
            self.version = self._create()

    def _read(self) -> int:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return 0
        except OSError:
            return NEVER
        if not data.startswith(self._head):
            return 0  # of an earlier boot
        try:
            return int(data[len(self._head) :])
        except ValueError:
            return NEVER

    def _create(self) -> int:
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_bytes(self._head + b"0".zfill(_WIDTH))
            fresh.replace(self._path)
        except OSError:
            return NEVER
        return 0

    def raise_to(self, version: int) -> None:
        """Remember it; from then on it survives this process."""
        if version <= self.version:
            return
        self.version = version
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(fd, str(version).encode().zfill(_WIDTH), len(self._head))
            finally:
                os.close(fd)
        except OSError:
            self.version = NEVER


class Asking:
    """`records`: the slot records, for the addresses. Calls give what the guard is to be told."""

    def __init__(
        self, core: PulseCore, networks: Networks, pool: tuple[str, bytes], proposed: Proposed,
        records: Callable[[], Mapping[int, SlotRecord | None]],
    ) -> None:  # fmt: skip
        self._core, self._networks, self._records = core, networks, records
        self._pool_uuid, self._secret = pool
        self._proposed = proposed
        self._extensions = Extensions(core, proposed.version)

    def propose(self, version: int) -> None:
        self._proposed.raise_to(version)
        self._extensions.propose(self._proposed.version)

    def agent(self, publication: object) -> None:
        """What the agent published; it may be an older one."""
        tells = isinstance(publication, Mapping) and publication.get("tells_views") is True
        self._extensions.told_first = tells

    def cycled(self, sample: Sample, commands: Iterable[Command]) -> None:
        self._extensions.cycled(sample, commands)

    def beat(self) -> Sequence[Extend]:
        """Ask, when it is time to."""
        packets, extend = self._extensions.ask(now(), secrets.token_hex(16))
        for packet in packets:
            self._send(packet)
        return [extend] if extend else []

    def heed(self, raw: bytes) -> Sequence[Extend]:
        """A packet came; it may be anybody's."""
        with contextlib.suppress(BadBeat):
            packet = grant.decode(raw, self._pool_uuid, self._secret)
            if packet.to_slot != self._core.me.slot:
                return []
            if answer := self._extensions.answer(packet, now()):
                self._send(answer)
            elif extend := self._extensions.heed_answer(packet, now()):
                return [extend]
        return []

    def to_json(self) -> dict[str, object]:
        """For the snapshot."""
        return {
            "given": self._extensions.given,
            "refused": {str(s): why for s, why in self._extensions.refusals().items()},
        }

    def _send(self, packet: grant.Packet) -> None:
        record = self._records().get(packet.to_slot)
        if record is not None:
            raw = grant.encode(packet, self._pool_uuid, self._secret)
            self._networks.send(iter([record.addresses]), lambda _network: raw)


def is_packet(raw: bytes) -> bool:
    """True when it is one of these, and no beat."""
    return raw.startswith(grant.MAGIC)


def read_proposal(message: Mapping[str, object]) -> int | None:
    """The view an agent is about to write, if that is what it says."""
    version = message.get("proposing")
    good = isinstance(version, int) and not isinstance(version, bool) and 0 < version < NEVER
    return version if good and isinstance(version, int) else None
