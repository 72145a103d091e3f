"""Asking for time while nobody has storage, and the answer: one authenticated UDP packet each.

Promises: `decode` accepts only what a holder of the pool's secret made for this pool, and raises
nothing else than BadBeat. A packet says for whom it is; an answer carries the random number of the
question, so that an old answer is worth nothing.

Layout, big-endian:

    0   magic `OLG1`        4
    4   pool uuid          16
    20  word                1      0 ask, 1 granted, 2.. refused (Word)
    21  from                1      slot, 1..64
    22  to                  1      slot, 1..64
    23  0                   1
    24  term               16      of the host that asks
    40  view version        8      the one the sender follows
    48  nonce              16      of the question
    64  HMAC-SHA256        32      over everything before it, keyed with the pool's secret

It does not decide who may have more time (guard/pulse_grant.py does).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from outlast.model import SLOT_MAX
from outlast.wire.beat import MAC_BYTES, BadBeat, seal, sixteen, unsealed

MAGIC: Final = b"OLG1"
_BODY: Final = struct.Struct(">4s16sBBBx16sQ16s")


class Word(IntEnum):
    """What the packet says; the numbers are the wire's."""

    ASK = 0
    GRANTED = 1
    HAS_STORAGE = 2
    OTHER_VIEW = 3
    NOT_A_MEMBER = 4
    CHANGES_VIEW = 5


@dataclass(frozen=True, slots=True)
class Packet:
    word: Word
    from_slot: int
    to_slot: int
    term: str  # 32 hex digits: of the host that asks
    view: int
    nonce: str  # 32 hex digits


def encode(packet: Packet, pool_uuid: str, secret: bytes) -> bytes:
    """The bytes of a packet. Raises BadBeat when a field cannot be written."""
    try:
        body = _BODY.pack(
            MAGIC, sixteen(pool_uuid), packet.word, packet.from_slot, packet.to_slot,
            sixteen(packet.term), packet.view, sixteen(packet.nonce),
        )  # fmt: skip
    except struct.error:
        raise BadBeat("number") from None
    return body + seal(secret, body)


def decode(raw: bytes, pool_uuid: str, secret: bytes) -> Packet:
    """The packet of these bytes.

    Raises BadBeat: size | magic | mac | pool | slot | word.
    """
    if len(raw) != _BODY.size + MAC_BYTES:
        raise BadBeat("size")
    body = unsealed(raw, MAGIC, secret)
    _, pool, word, sender, receiver, term, view, nonce = _BODY.unpack(body)
    if pool != sixteen(pool_uuid):
        raise BadBeat("pool")
    if not (1 <= sender <= SLOT_MAX and 1 <= receiver <= SLOT_MAX):
        raise BadBeat("slot")
    try:
        return Packet(Word(word), sender, receiver, term.hex(), view, nonce.hex())
    except ValueError:
        raise BadBeat("word") from None
