"""The network heartbeat: what goes in comes out, and nothing else comes in."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.wire.beat import HINTS_MAX, PACKET_MAX, BadBeat, Beat, Ears, decode, encode

POOL, OTHER_POOL = "ab" * 16, "cd" * 16
KEY, OTHER_KEY = b"k" * 32, b"x" * 32
TERM, NEXT_TERM = "1" * 32, "2" * 32
NUMBER = st.integers(0, 2**64 - 1)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=72)
BEATS = st.builds(
    Beat,
    slot=st.integers(1, 64),
    term=st.binary(min_size=16, max_size=16).map(bytes.hex),
    seq=NUMBER,
    work_seq=NUMBER,
    heard=st.frozensets(st.integers(1, 64)),
    hints=st.lists(st.tuples(NAMES, NUMBER), max_size=HINTS_MAX).map(tuple),
    network=st.integers(0, 15),
)


def beat(**changes: object) -> Beat:
    return dataclasses.replace(Beat(2, TERM, 10, 5, frozenset({1, 64})), **changes)  # type: ignore[arg-type]


@given(BEATS)
def test_what_goes_in_comes_out(sent: Beat) -> None:
    packet = encode(sent, POOL, KEY)
    got = decode(packet, POOL, KEY)
    assert len(packet) <= PACKET_MAX
    assert got.hints == sent.hints[: len(got.hints)]
    assert dataclasses.replace(got, hints=()) == dataclasses.replace(sent, hints=())
    if len(got.hints) < len(sent.hints):  # only what does not fit is left out
        assert len(packet) + 9 + len(sent.hints[len(got.hints)][0]) > PACKET_MAX


def test_eight_short_hints_fit() -> None:
    hints = tuple((f"lease/vm-{n}", n) for n in range(8))
    assert decode(encode(beat(hints=hints), POOL, KEY), POOL, KEY).hints == hints


@given(BEATS, st.data())
@settings(max_examples=300)
def test_any_changed_bit_is_refused(sent: Beat, data: st.DataObject) -> None:
    packet = bytearray(encode(sent, POOL, KEY))
    at = data.draw(st.integers(0, len(packet) * 8 - 1))
    packet[at // 8] ^= 1 << (at % 8)
    with pytest.raises(BadBeat) as bad:
        decode(bytes(packet), POOL, KEY)
    assert bad.value.reason in {"mac", "magic"}


@given(st.binary(max_size=600))
def test_garbage_is_refused(packet: bytes) -> None:
    with pytest.raises(BadBeat):
        decode(packet, POOL, KEY)


@given(st.binary(min_size=64, max_size=480))
def test_garbage_with_a_good_seal_is_refused_or_understood(signed: bytes) -> None:
    import hmac

    signed = b"OLB1" + bytes.fromhex(POOL) + signed[20:]
    try:
        got = decode(signed + hmac.digest(KEY, signed, "sha256"), POOL, KEY)
    except BadBeat:
        return
    assert encode(got, POOL, KEY)[:-32] == signed


@pytest.mark.parametrize(("pool", "key", "reason"), [
    (OTHER_POOL, KEY, "pool"), (POOL, OTHER_KEY, "mac"),
])  # fmt: skip
def test_another_pool_or_secret_is_refused(pool: str, key: bytes, reason: str) -> None:
    ears = Ears(1, POOL, KEY)
    assert ears.take(encode(beat(), pool, key), 0, 0) is None
    assert ears.dropped == {reason: 1} and ears.ago_ns(2, 5) is None


def test_a_packet_is_heard_once_and_in_order() -> None:
    ears = Ears(1, POOL, KEY)
    first, second = (encode(beat(seq=n), POOL, KEY) for n in (10, 11))
    assert ears.take(second, 0, 100) == beat(seq=11)
    assert ears.take(second, 0, 200) is None and ears.take(first, 0, 300) is None
    assert ears.dropped == {"replay": 2} and ears.ago_ns(2, 300) == 200
    assert ears.heard(300, 200) == {2} and ears.heard(301, 200) == frozenset()


def test_a_replaced_term_does_not_come_back() -> None:
    ears = Ears(1, POOL, KEY)
    assert ears.take(encode(beat(), POOL, KEY), 0, 0)
    assert ears.take(encode(beat(term=NEXT_TERM, seq=1), POOL, KEY), 0, 0)
    assert ears.take(encode(beat(seq=99), POOL, KEY), 0, 0) is None
    assert ears.take(encode(beat(term=NEXT_TERM, seq=2), POOL, KEY), 0, 0)


def test_each_network_counts_for_itself() -> None:
    ears = Ears(1, POOL, KEY)
    for network in (0, 1):
        assert ears.take(encode(beat(network=network), POOL, KEY), network, 10 * network)
    assert ears.networks_ns(2, 20) == {0: 20, 1: 10} and ears.ago_ns(2, 20) == 10
    assert ears.take(encode(beat(network=1, seq=11), POOL, KEY), 0, 0) is None
    assert ears.dropped == {"network": 1}


def test_own_packets_are_refused_and_being_heard_is_known() -> None:
    ears = Ears(1, POOL, KEY)
    assert ears.take(encode(beat(slot=1), POOL, KEY), 0, 0) is None
    assert ears.dropped == {"own slot": 1}
    assert ears.take(encode(beat(), POOL, KEY), 0, 0)
    assert ears.hears_me(2)
    assert ears.take(encode(beat(seq=11, heard=frozenset({64})), POOL, KEY), 0, 0)
    assert not ears.hears_me(2)


@pytest.mark.parametrize("changes", [
    {"slot": 0}, {"slot": 65}, {"seq": -1}, {"work_seq": 2**64}, {"heard": frozenset({65})},
    {"network": 16}, {"hints": (("a", 1),) * 9}, {"hints": (("a", -1),)},
])  # fmt: skip
def test_what_cannot_be_said_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadBeat):
        beat(**changes)
