"""Packets that ask for time: what goes in comes out, and nothing else comes in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.wire.beat import BadBeat
from outlast.wire.grant import Packet, Word, decode, encode

POOL, OTHER_POOL = "ab" * 16, "cd" * 16
KEY, OTHER_KEY = b"k" * 32, b"x" * 32
HEX = st.binary(min_size=16, max_size=16).map(bytes.hex)
SLOT = st.integers(1, 64)
PACKETS = st.builds(Packet, st.sampled_from(Word), SLOT, SLOT, HEX, st.integers(0, 2**64 - 1), HEX)
ONE = Packet(Word.ASK, 1, 2, "1" * 32, 7, "2" * 32)


@given(PACKETS)
def test_what_goes_in_comes_out(packet: Packet) -> None:
    assert decode(encode(packet, POOL, KEY), POOL, KEY) == packet


@given(PACKETS, st.data())
def test_any_changed_bit_is_refused(packet: Packet, data: st.DataObject) -> None:
    raw = bytearray(encode(packet, POOL, KEY))
    at = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[at // 8] ^= 1 << (at % 8)
    with pytest.raises(BadBeat):
        decode(bytes(raw), POOL, KEY)


@given(st.binary(max_size=200))
def test_garbage_is_refused(raw: bytes) -> None:
    with pytest.raises(BadBeat):
        decode(raw, POOL, KEY)


def test_strangers_are_refused() -> None:
    raw = encode(ONE, POOL, KEY)
    for pool, key in ((OTHER_POOL, KEY), (POOL, OTHER_KEY)):
        with pytest.raises(BadBeat):
            decode(raw, pool, key)


@pytest.mark.parametrize("changes", [
    {"term": "1"}, {"nonce": "z" * 32}, {"view": -1}, {"view": 1 << 64}, {"from_slot": 300},
])  # fmt: skip
def test_what_cannot_be_written_is_said(changes: dict[str, object]) -> None:
    with pytest.raises(BadBeat):
        encode(replace(ONE, **changes), POOL, KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"from_slot": 0}, {"to_slot": 65}])
def test_slots_that_cannot_be_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(BadBeat, match="slot"):
        decode(encode(replace(ONE, **changes), POOL, KEY), POOL, KEY)  # type: ignore[arg-type]
