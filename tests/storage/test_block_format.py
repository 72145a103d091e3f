"""The on-disk format: inverse both ways, exactly as its text says, and no garbage gets in."""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.errors import InvalidInput, StorageTrouble
from outlast.model import SLOT_MAX, Block, BlockState
from outlast.storage import format as form
from outlast.storage.format import (
    BadBlock,
    block_from_json,
    block_to_json,
    check_name,
    decode_block,
    decode_header,
    encode_block,
    encode_header,
    record_bytes,
    record_parse,
    split_name,
    version_of,
    version_text,
)

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
HEX = st.binary(min_size=16, max_size=16).map(bytes.hex)
UUID = st.uuids().map(str)
BLOCKS = st.builds(
    Block, pool_uuid=UUID, host_uuid=UUID, boot_id=UUID, slot=st.integers(1, SLOT_MAX),
    generation=U32, term=HEX, prev_term=HEX, state=st.sampled_from(BlockState), seq=U64,
    dead_after_ms=U32, interval_ms=U32, view_version=U64,
    heard=st.frozensets(st.integers(1, SLOT_MAX)), agent_away_ms=U64, vm_count=U32,
    free_mib=U32, free_vcpus=U32, work_seq=U64,
    hints=st.lists(
        st.tuples(st.text(max_size=18), U64), max_size=form.HINTS_MAX
    ).map(tuple),
    witness=st.none() | st.booleans(),
)  # fmt: skip
POOL = "00112233-4455-6677-8899-aabbccddeeff"
BLOCK = Block(
    POOL, "a0112233-4455-6677-8899-aabbccddeeff", "b0112233-4455-6677-8899-aabbccddeeff", 3, 7,
    "c0" * 16, "d0" * 16, BlockState.CLOSING, 0x1122334455667788, 52053, 2000, 41,
    frozenset({1, 64}), 5, 6, 70000, 8, 9, (("lease/web", 17), ("view", 41)), True,
)  # fmt: skip


@given(BLOCKS)
def test_blocks_come_back(block: Block) -> None:
    raw = encode_block(block)
    assert len(raw) == 4096
    assert decode_block(raw, block.pool_uuid, block.slot) == block
    assert block_from_json(json.loads(json.dumps(block_to_json(block)))) == block


def test_a_block_of_a_version_without_a_witness_says_nothing_of_it() -> None:
    raw = encode_block(replace(BLOCK, witness=None))
    assert raw[164:256] == bytes(92), "as blocks were before there was one"
    assert decode_block(raw).witness is None
    said = block_to_json(BLOCK)
    del said["witness"]
    assert block_from_json(said) == replace(BLOCK, witness=None)
    with pytest.raises(StorageTrouble):
        block_from_json({**said, "witness": "perhaps"})


def test_the_text_of_the_format_is_true() -> None:
    """Every row of the table in the docstring against the bytes."""
    text = (form.__doc__ or "").split("Block of a slot")[1]
    rows = {
        name.rstrip(":,"): (int(at), int(size))
        for at, size, name in re.findall(r"^ +(\d+) +(\d+)  (\S+)", text, re.MULTILINE)
    }
    raw = encode_block(BLOCK)
    ids = ("pool_uuid", "host_uuid", "boot_id", "term", "prev_term")
    for name, (at, size) in rows.items():
        piece = raw[at : at + size]
        if name in ids:
            assert piece.hex() == getattr(BLOCK, name).replace("-", ""), name
        elif name == "heard":
            assert int.from_bytes(piece, "little") == 1 | 1 << 63
        elif name == "state":
            assert piece[0] == 3
        elif hasattr(BLOCK, name) and name != "hints":
            assert int.from_bytes(piece, "little") == getattr(BLOCK, name), name
    named = set(rows) & set(BLOCK.__dataclass_fields__)
    assert named == set(BLOCK.__dataclass_fields__), "the text names every field"
    assert raw[:8] == b"OUTLASTB"
    assert struct.unpack_from("<HHI", raw, 8) == (1, 0, zlib.crc32(raw[16:]))
    at, size = rows["hints"]
    assert size == 24 * 88
    assert raw[at : at + 88] == struct.pack("<QB", 17, 9) + b"lease/web".ljust(72 + 7, b"\0")
    assert raw[105] == 2
    assert raw[4088:] == raw[96:104] == bytes.fromhex("8877665544332211")
    assert not any(raw[165:256])
    assert not any(raw[at + size : 4088])


def spoiled(raw: bytes, at: int, piece: bytes) -> bytes:
    return raw[:at] + piece + raw[at + len(piece) :]


def resealed(raw: bytes) -> bytes:
    return spoiled(raw, 12, struct.pack("<I", zlib.crc32(raw[16:])))


RAW = encode_block(BLOCK)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("empty", bytes(4096)), ("size", RAW[:-1]), ("size", RAW + b"\0"), ("size", b""),
        ("magic", b"\xff" * 4096), ("magic", encode_header(POOL)),
        ("layout", resealed(spoiled(RAW, 8, b"\2"))),
        ("torn", resealed(spoiled(RAW, 96, b"\0"))), ("torn", RAW[:2048] + bytes(2048)),
        ("torn", encode_block(replace(BLOCK, seq=1))[:512] + RAW[512:]),
        ("crc", spoiled(RAW, 200, b"\1")), ("crc", spoiled(RAW, 12, b"\0\0\0\0")),
        ("slot", encode_block(replace(BLOCK, slot=4))),
        ("slot", resealed(spoiled(RAW, 106, b"\0"))),
        ("pool", encode_block(replace(BLOCK, pool_uuid=BLOCK.host_uuid))),
        ("garbage", resealed(spoiled(RAW, 104, b"\x09"))),
        ("garbage", resealed(spoiled(RAW, 105, b"\x19"))),
        ("garbage", resealed(spoiled(RAW, 256 + 9, b"\xff"))),
    ],
)  # fmt: skip
def test_bad_blocks_say_why(kind: str, raw: bytes) -> None:
    with pytest.raises(BadBlock) as caught:
        decode_block(raw, POOL, 3)
    assert caught.value.kind == kind
    assert caught.value.sentence


@settings(max_examples=300)
@given(st.integers(0, 4095), st.integers(1, 255))
def test_no_flipped_byte_passes(at: int, flip: int) -> None:
    raw = spoiled(RAW, at, bytes([RAW[at] ^ flip]))
    if at in (10, 11):  # the flags say nothing yet
        return
    with pytest.raises(BadBlock):
        decode_block(raw, POOL, 3)


@given(st.binary(max_size=4096))
def test_garbage_is_no_block(raw: bytes) -> None:
    for piece in (
        raw,
        raw.ljust(4096, b"\0"),
        (b"OUTLASTB\1\0\0\0" + raw).ljust(4096, b"\0")[:4096],
    ):
        with pytest.raises(BadBlock):
            decode_block(piece)


def test_what_does_not_fit_is_cut_where_that_is_harmless() -> None:
    hints = tuple((f"lease/vm{n}", n) for n in range(30))
    big = replace(BLOCK, free_mib=2**40, free_vcpus=-3, hints=(("x" * 73, 1), *hints))
    read = decode_block(encode_block(big))
    assert (read.free_mib, read.free_vcpus) == (2**32 - 1, 0)
    assert read.hints == hints[:24]


@pytest.mark.parametrize(
    "change", [{"slot": 0}, {"slot": 65}, {"term": "xyz"}, {"pool_uuid": ""}, {"seq": -1},
               {"seq": 2**64}, {"heard": frozenset({65})}, {"dead_after_ms": 2**32}],
)  # fmt: skip
def test_what_would_lie_is_refused(change: dict) -> None:
    with pytest.raises(InvalidInput):
        encode_block(replace(BLOCK, **change))


@pytest.mark.parametrize(
    "change", [{"seq": "1"}, {"seq": -1}, {"seq": True}, {"state": "dead"}, {"heard": 3},
               {"hints": [["a"]]}, {"term": 5}, {"hints": [[1, "a"]]}, {"heard": ["1"]}],
)  # fmt: skip
def test_bad_json_is_no_block(change: dict) -> None:
    with pytest.raises(StorageTrouble):
        block_from_json({**block_to_json(BLOCK), **change})
    with pytest.raises(StorageTrouble):
        block_from_json({"seq": 1})


def test_the_header_comes_back() -> None:
    raw = encode_header(POOL)
    assert decode_header(raw) == POOL
    for bad in (bytes(4096), RAW, spoiled(raw, 40, b"\1"), resealed(spoiled(raw, 32, b"\1"))):
        with pytest.raises(BadBlock):
            decode_header(bad)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False,
                                                                     allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON), st.integers(1, 10**20 - 1), HEX, st.text(), HEX)
def test_records_come_back(value: dict, version: int, nonce: str, writer: str, prev: str) -> None:
    data = record_bytes("lease/web", version, nonce, writer, value, prev)
    assert data.startswith(f"OUTLAST1 lease/web {version} ".encode())
    record = record_parse(data, "lease/web", version)
    assert (record.nonce, record.writer, record.value, record.prev) == (nonce, writer, value, prev)


RECORD = record_bytes("lease/web", 3, "ab", "1", {"slot": 1}, "cd")


@given(st.integers(0, len(RECORD) - 1), st.integers(1, 255))
def test_no_flipped_byte_of_a_record_passes(at: int, flip: int) -> None:
    with pytest.raises(StorageTrouble):
        record_parse(spoiled(RECORD, at, bytes([RECORD[at] ^ flip])), "lease/web", 3)


@given(st.binary() | st.integers(0, len(RECORD) - 1).map(lambda n: RECORD[:n]))
def test_garbage_is_no_record(data: bytes) -> None:
    with pytest.raises(StorageTrouble, match="damaged"):
        record_parse(data, "lease/web", 3)


def test_records_say_what_is_wrong() -> None:
    for data, name, version, match in (
        (RECORD, "lease/web", 4, "its file holds version 3 of lease/web"),
        (RECORD, "lease/db", 3, "its file holds version 3 of lease/web"),
        (RECORD[:-1], "lease/web", 3, "bytes instead of"),
        (RECORD.replace(b"OUTLAST1", b"OUTLAST2"), "lease/web", 3, "newer Outlast .layout 2"),
    ):
        with pytest.raises(StorageTrouble, match=match) as caught:
            record_parse(data, name, version)
        assert caught.value.hint


def test_names() -> None:
    for good in ("a", "web-1", "0", "a" * 63, "a--b"):
        assert check_name(good) == good
        assert split_name(f"vm/{good}") == ("vm", good)
    for bad in ("", "-a", "a-", "a" * 64, "A", "a_b", "a.b", "a/b", "é", "a\n", " a"):
        with pytest.raises(InvalidInput) as caught:
            check_name(bad, "VM name")
        assert "VM name" in caught.value.sentence
        assert caught.value.hint
    assert split_name("view") == ("view", "")


def test_version_names() -> None:
    assert version_text(7) == "00000000000000000007"
    assert version_of(version_text(10**20 - 1)) == 10**20 - 1
    for foreign in ("", "7", "x" * 20, "0" * 20, "1" * 21, "٣" * 20, ".nfs0000000000000001"):
        assert version_of(foreign) == 0
    for bad in (0, -1, 10**20):
        with pytest.raises(ValueError, match="no such version"):
            version_text(bad)
