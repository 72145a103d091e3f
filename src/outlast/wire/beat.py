"""The network heartbeat: one authenticated UDP packet of at most 512 bytes.

Promises: `decode` accepts only packets that a holder of the pool's secret made for this pool and
this network; `Ears` accepts each packet once; a refused packet is counted under its reason and
never raises anything else than BadBeat.

Layout, big-endian:

    0   magic `OLB1`        4
    4   pool uuid          16
    20  slot                1      1..64
    21  network             1      index of the network it was sent over, 0..15
    22  count of hints      1      0..8
    23  flags               1      0
    24  term               16
    40  seq                 8      grows within a term
    48  work_seq            8      grows whenever the sender changed a register
    56  heard               8      bit n-1: slot n is heard on some network
    64  hints               each: length of name 1, name (ASCII), version 8
    end HMAC-SHA256        32      over everything before it, keyed with the pool's secret

Rules:
1. Hints are the newest registers first; those that do not fit are left out (they are on disk too).
2. A seq must be larger than the last one of the same (slot, network, term). The sender derives it
   from its boot clock, so it needs no memory: a term never outlives a boot.
3. A term that another one replaced does not come back: the receiver remembers the last few.

It does not send, receive, or decide whether a link is up.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final

from outlast.model import SLOT_MAX

PACKET_MAX: Final = 512
HINTS_MAX: Final = 8
NETWORKS_MAX: Final = 16
MAGIC: Final = b"OLB1"
_HEAD: Final = struct.Struct(">4s16sBBBB16sQQQ")
_VERSION: Final = struct.Struct(">Q")
MAC_BYTES: Final = 32
_U64: Final = (1 << 64) - 1
_TERMS_KEPT: Final = 8


class BadBeat(Exception):
    """A packet that is not taken; `reason` is a short fixed word for the counters."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Beat:
    """What one host says over one network. Raises BadBeat when a field is out of range."""

    slot: int
    term: str  # 32 hex digits
    seq: int
    work_seq: int
    heard: frozenset[int]
    hints: tuple[tuple[str, int], ...] = ()
    network: int = 0

    def __post_init__(self) -> None:
        numbers = (self.seq, self.work_seq, *(v for _, v in self.hints))
        slots = (self.slot, *self.heard)
        if not all(1 <= s <= SLOT_MAX for s in slots):
            raise BadBeat("slot")
        if not all(0 <= n <= _U64 for n in numbers) or not 0 <= self.network < NETWORKS_MAX:
            raise BadBeat("number")
        if len(self.hints) > HINTS_MAX:
            raise BadBeat("hints")


def encode(beat: Beat, pool_uuid: str, secret: bytes) -> bytes:
    """The packet of a beat.

    Raises BadBeat when the term or the pool's uuid is not 32 hex digits, or a name is not ASCII
    of 1..255 characters.
    """
    body, count = b"", 0
    for name, version in beat.hints:
        if not name.isascii() or not 0 < len(name) < 256:
            raise BadBeat("hints")
        hint = bytes([len(name)]) + name.encode("ascii") + _VERSION.pack(version)
        if _HEAD.size + len(body) + len(hint) + MAC_BYTES > PACKET_MAX:
            break
        body, count = body + hint, count + 1
    mask = sum(1 << (slot - 1) for slot in beat.heard)
    head = _HEAD.pack(
        MAGIC, sixteen(pool_uuid), beat.slot, beat.network, count, 0, sixteen(beat.term),
        beat.seq, beat.work_seq, mask,
    )  # fmt: skip
    return head + body + seal(secret, head + body)


def decode(packet: bytes, pool_uuid: str, secret: bytes) -> Beat:
    """The beat of a packet.

    Raises BadBeat: size | magic | mac | pool | flags | slot | number | hints.
    """
    if not _HEAD.size + MAC_BYTES <= len(packet) <= PACKET_MAX:
        raise BadBeat("size")
    signed = unsealed(packet, MAGIC, secret)
    _, pool, slot, network, count, flags, term, seq, work_seq, mask = _HEAD.unpack_from(signed)
    if pool != sixteen(pool_uuid):
        raise BadBeat("pool")
    if flags:
        raise BadBeat("flags")
    heard = frozenset(n for n in range(1, SLOT_MAX + 1) if mask >> (n - 1) & 1)
    hints = _hints(signed[_HEAD.size :], count)
    return Beat(slot, term.hex(), seq, work_seq, heard, hints, network)


def _hints(body: bytes, count: int) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    at = 0
    for _ in range(count):
        length = body[at] if at < len(body) else 0
        name, end = body[at + 1 : at + 1 + length], at + 1 + length + _VERSION.size
        if not length or end > len(body) or not name.isascii():
            raise BadBeat("hints")
        found.append((name.decode("ascii"), _VERSION.unpack_from(body, end - 8)[0]))
        at = end
    if at != len(body):
        raise BadBeat("hints")
    return tuple(found)


def seal(secret: bytes, signed: bytes) -> bytes:
    """HMAC-SHA256, 32 bytes."""
    return hmac.digest(secret, signed, hashlib.sha256)


def unsealed(packet: bytes, magic: bytes, secret: bytes) -> bytes:
    """What was sealed. Raises BadBeat: magic | mac."""
    if packet[:4] != magic:
        raise BadBeat("magic")
    signed, mac = packet[:-MAC_BYTES], packet[-MAC_BYTES:]
    if not hmac.compare_digest(mac, seal(secret, signed)):
        raise BadBeat("mac")
    return signed


def sixteen(text: str) -> bytes:
    """16 bytes of 32 hex digits, with or without the dashes of a uuid."""
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        raise BadBeat("id") from None
    if len(raw) != 16:
        raise BadBeat("id")
    return raw


class Ears:
    """The receiver's memory: refuses what was heard before, knows who was heard when.

    now_ns: local CLOCK_BOOTTIME. `dropped` counts refused packets by reason.
    """

    def __init__(self, own_slot: int, pool_uuid: str, secret: bytes) -> None:
        self._own, self._pool, self._secret = own_slot, pool_uuid, secret
        self._terms: dict[tuple[int, int], OrderedDict[str, int]] = {}
        self._heard_ns: dict[int, dict[int, int]] = {}  # slot -> network -> when
        self._hears: dict[int, frozenset[int]] = {}
        self.dropped: Counter[str] = Counter()

    def take(self, packet: bytes, network: int, now_ns: int) -> Beat | None:
        """The beat of a packet that arrived on this network; None when it was refused."""
        try:
            beat = decode(packet, self._pool, self._secret)
            self._accept(beat, network)
        except BadBeat as bad:
            self.dropped[bad.reason] += 1
            return None
        self._heard_ns.setdefault(beat.slot, {})[network] = now_ns
        self._hears[beat.slot] = beat.heard
        return beat

    def _accept(self, beat: Beat, network: int) -> None:
        if beat.slot == self._own:
            raise BadBeat("own slot")
        if beat.network != network:
            raise BadBeat("network")
        terms = self._terms.setdefault((beat.slot, network), OrderedDict())
        last = terms.get(beat.term)
        if last is not None and (beat.seq <= last or next(reversed(terms)) != beat.term):
            raise BadBeat("replay")
        terms[beat.term] = beat.seq
        while len(terms) > _TERMS_KEPT:
            terms.popitem(last=False)

    def heard(self, now_ns: int, within_ns: int) -> frozenset[int]:
        """Slots heard on any network not longer than within_ns ago."""
        return frozenset(s for s in self._heard_ns if self._ago(s, now_ns) <= within_ns)

    def ago_ns(self, slot: int, now_ns: int) -> int | None:
        """How long ago the slot was last heard on any network; None: never."""
        return self._ago(slot, now_ns) if slot in self._heard_ns else None

    def networks_ns(self, slot: int, now_ns: int) -> dict[int, int]:
        """The same for each network it was heard on."""
        return {n: now_ns - at for n, at in self._heard_ns.get(slot, {}).items()}

    def hears_me(self, slot: int) -> bool:
        """True when the slot's last beat said that it hears this host."""
        return self._own in self._hears.get(slot, frozenset())

    def _ago(self, slot: int, now_ns: int) -> int:
        return now_ns - max(self._heard_ns[slot].values())
