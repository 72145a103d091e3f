"""The on-disk format of a pool, layout 1: bytes and values. Pure. This text is the specification.

Heartbeat area, the file `hb`: 65 pieces of 4096 bytes, piece 0 the header, piece n the block of
slot n. Numbers are little-endian and unsigned, uuids and terms 16 raw bytes, all gaps zero.

Header (piece 0):

    offset size  field
         0    8  magic "OUTLASTH"
         8    2  layout number, 1
        10    2  flags, 0
        12    4  CRC-32 (the one of zlib) of bytes 16..4095
        16   16  uuid of the pool
        32    4  number of slots, 64
        36    4  size of a piece, 4096

Block of a slot (piece 1..64), always written whole, by its owner only:

    offset size  field
         0    8  magic "OUTLASTB"
         8    2  layout number, 1
        10    2  flags, 0
        12    4  CRC-32 (the one of zlib) of bytes 16..4095
        16   16  pool_uuid
        32   16  host_uuid
        48   16  boot_id
        64   16  term
        80   16  prev_term
        96    8  seq, grows with every write
       104    1  state: 1 joining, 2 member, 3 closing, 4 closed, 5 leaving
       105    1  number of hints, 0..24
       106    2  slot
       108    4  generation of the slot
       112    4  dead_after_ms
       116    4  interval_ms
       120    8  view_version followed
       128    8  heard: bit n-1 set = beats of slot n arrive
       136    8  agent_away_ms
       144    8  work_seq
       152    4  vm_count
       156    4  free_mib
       160    4  free_vcpus
       164    1  witness: 0 not said, 1 reached, 2 not reached; anything else counts as 0
       256 2112  hints, newest first, 24 times: version 8, length 1, name in UTF-8 72, 7 zero
      4088    8  seq again

Rules of reading: a block counts only if magic, layout, both seq, CRC, pool and slot are right.
All zero means never written. Anything else is a *bad* block, which is neither alive nor silent.
A later layout keeps magic, layout number, CRC and both seq where they are. A free amount that
does not fit into its field is written as the largest number; hints that do not fit are left out.

Register version file, `reg/<class>/<id>/<version>` with the version in 20 digits (`reg/<class>/
<version>` for view and pool), never changed after its birth:

    OUTLAST1 <name> <version> <length of the rest> <sha256 of the rest, hex>\\n
    {"nonce":"<hex, one per swap>","prev":"<nonce of the version before>","value":{...},
     "writer":"<who>"}

The rest is one line of JSON in UTF-8; `prev` is empty in version 1. So the versions are a chain
that can be checked link by link. A higher number than 1 after OUTLAST is a later layout. The
values of each class are in records.py; unknown fields are ignored when read.

It deliberately opens no file: posix.py, heartbeat.py and layout.py do.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache

from outlast.errors import InvalidInput, StorageTrouble
from outlast.model import SLOT_MAX, Block, BlockState
from outlast.storage.names import check_name as check_name
from outlast.storage.names import split_name as split_name
from outlast.storage.records import drill_from as drill_from
from outlast.storage.records import drill_to as drill_to
from outlast.storage.records import fence_from as fence_from
from outlast.storage.records import fence_to as fence_to
from outlast.storage.records import health_from as health_from
from outlast.storage.records import health_to as health_to
from outlast.storage.records import lease_from as lease_from
from outlast.storage.records import lease_to as lease_to
from outlast.storage.records import order_from as order_from
from outlast.storage.records import order_to as order_to
from outlast.storage.records import pool_from as pool_from
from outlast.storage.records import pool_to as pool_to
from outlast.storage.records import report_from as report_from
from outlast.storage.records import report_to as report_to
from outlast.storage.records import slot_from as slot_from
from outlast.storage.records import slot_to as slot_to
from outlast.storage.records import value_to as value_to
from outlast.storage.records import view_from as view_from
from outlast.storage.records import view_to as view_to
from outlast.storage.records import vm_from as vm_from
from outlast.storage.records import vm_to as vm_to

LAYOUT = 1
BLOCK_SIZE = 4096
AREA_SIZE = (SLOT_MAX + 1) * BLOCK_SIZE
HINTS_MAX = 24
HINT_NAME_MAX = 72
VERSION_DIGITS = 20
RECORD_MAX = 4 * 1024 * 1024  # bytes of one register version file; far above any real value

_FRONT = struct.Struct("<8sHHI")
_HEADER = struct.Struct("<16sII")
_BODY = struct.Struct("<16s16s16s16s16sQBBHIIIQQQQIIIB")
_HINT = struct.Struct(f"<QB{HINT_NAME_MAX}s7x")
_SEQ = struct.Struct("<Q")
_HEADER_MAGIC, _BLOCK_MAGIC = b"OUTLASTH", b"OUTLASTB"
_HINTS_AT, _SEQ_AGAIN_AT = 256, BLOCK_SIZE - _SEQ.size
_U32, _U64 = 2**32 - 1, 2**64 - 1
_STATES = {
    BlockState.JOINING: 1,
    BlockState.MEMBER: 2,
    BlockState.CLOSING: 3,
    BlockState.CLOSED: 4,
    BlockState.LEAVING: 5,
}
_WITNESS: Mapping[object, int] = {None: 0, True: 1, False: 2}
_WITNESS_OF: Mapping[int, bool | None] = {1: True, 2: False}  # what a later version says: None
_STATE_OF = {number: state for state, number in _STATES.items()}
_HEADER_LINE = re.compile(rb"OUTLAST(\d{1,9}) (\S{1,100}) (\d{1,20}) (\d{1,9}) ([0-9a-f]{64})\Z")


class BadBlock(StorageTrouble):
    """A piece of the heartbeat area that does not count.

    `kind` is one of: empty, size, magic, layout, torn, crc, pool, slot, garbage.
    """

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Record:
    """What one register version file holds besides its name and version."""

    nonce: str
    writer: str
    value: dict[str, object]
    prev: str = ""  # nonce of the version before


def encode_block(block: Block) -> bytes:
    """The 4096 bytes of a block.

    Raises InvalidInput for a uuid, term, slot or counter that can not be written.
    """
    if not 1 <= block.slot <= SLOT_MAX:
        raise InvalidInput(f"slot {block.slot} is not one of 1..{SLOT_MAX}")
    hints = [(raw, n) for name, n in block.hints if len(raw := name.encode()) <= HINT_NAME_MAX]
    hints = hints[:HINTS_MAX]
    out = bytearray(BLOCK_SIZE)
    try:
        _BODY.pack_into(
            out, _FRONT.size,
            _id_bytes(block.pool_uuid), _id_bytes(block.host_uuid), _id_bytes(block.boot_id),
            _id_bytes(block.term), _id_bytes(block.prev_term),
            block.seq, _STATES[block.state], len(hints), block.slot, block.generation,
            block.dead_after_ms, block.interval_ms, block.view_version, _mask(block.heard),
            _clip(block.agent_away_ms, _U64), block.work_seq,
            _clip(block.vm_count, _U32), _clip(block.free_mib, _U32),
            _clip(block.free_vcpus, _U32), _WITNESS[block.witness],
        )  # fmt: skip
        for index, (name, version) in enumerate(hints):
            _HINT.pack_into(out, _HINTS_AT + index * _HINT.size, version, len(name), name)
        _SEQ.pack_into(out, _SEQ_AGAIN_AT, block.seq)
    except struct.error as trouble:
        raise InvalidInput(f"a number does not fit into a heartbeat block: {trouble}") from None
    return _sealed(out, _BLOCK_MAGIC)


def decode_block(raw: bytes, pool_uuid: str = "", slot: int = 0) -> Block:
    """The block in these 4096 bytes.

    `pool_uuid` and `slot`, when given, must be the block's own. Raises BadBlock.
    """
    _check_piece(raw, _BLOCK_MAGIC, "block")
    (pool, host, boot, term, prev_term, seq, state, hint_count, its_slot, generation,
     dead_after_ms, interval_ms, view_version, heard, agent_away_ms, work_seq,
     vm_count, free_mib, free_vcpus, witness) = _BODY.unpack_from(raw, _FRONT.size)  # fmt: skip
    if pool_uuid and pool != _id_bytes(pool_uuid):
        raise BadBlock("pool", f"the block belongs to another pool, {_uuid_text(pool)}")
    if (slot and its_slot != slot) or not 1 <= its_slot <= SLOT_MAX:
        raise BadBlock("slot", f"the block says slot {its_slot} but stands in slot {slot}")
    if state not in _STATE_OF or hint_count > HINTS_MAX:
        raise BadBlock("garbage", f"the block has state {state} and {hint_count} hints")
    return Block(
        pool_uuid=_uuid_text(pool), host_uuid=_uuid_text(host), boot_id=_uuid_text(boot),
        slot=its_slot, generation=generation, term=term.hex(), prev_term=prev_term.hex(),
        state=_STATE_OF[state], seq=seq, dead_after_ms=dead_after_ms, interval_ms=interval_ms,
        view_version=view_version,
        heard=frozenset(n for n in range(1, SLOT_MAX + 1) if heard >> (n - 1) & 1),
        agent_away_ms=agent_away_ms, vm_count=vm_count, free_mib=free_mib,
        free_vcpus=free_vcpus, work_seq=work_seq, hints=_hints(raw, hint_count),
        witness=_WITNESS_OF.get(witness),
    )  # fmt: skip


def encode_header(pool_uuid: str) -> bytes:
    """The header of a heartbeat area. Raises InvalidInput for a uuid that is none."""
    out = bytearray(BLOCK_SIZE)
    _HEADER.pack_into(out, _FRONT.size, _id_bytes(pool_uuid), SLOT_MAX, BLOCK_SIZE)
    return _sealed(out, _HEADER_MAGIC)


def decode_header(raw: bytes) -> str:
    """The pool's uuid in the header of a heartbeat area. Raises BadBlock."""
    _check_piece(raw, _HEADER_MAGIC, "header")
    pool, slots, size = _HEADER.unpack_from(raw, _FRONT.size)
    if (slots, size) != (SLOT_MAX, BLOCK_SIZE):
        raise BadBlock("garbage", f"the header speaks of {slots} slots of {size} bytes")
    return _uuid_text(pool)


def block_to_json(block: Block) -> dict[str, object]:
    """The block as a JSON object, for sockets and dumps; every field under its own name."""
    out: dict[str, object] = {f.name: getattr(block, f.name) for f in fields(block)}
    out["state"] = block.state.value
    out["heard"] = sorted(block.heard)
    out["hints"] = [[name, version] for name, version in block.hints]
    return out


def block_from_json(value: Mapping[str, object]) -> Block:
    """The block of `block_to_json`. Raises StorageTrouble on garbage."""
    try:
        known = {f.name: value[f.name] for f in fields(Block) if f.name in value}
        known["state"] = BlockState(known["state"])
        known["heard"] = frozenset(_as_int(n) for n in _as_list(known["heard"]))
        known["hints"] = tuple(
            (str(name), _as_int(version))
            for name, version in map(_as_list, _as_list(known["hints"]))
        )
        for name in ("pool_uuid", "host_uuid", "boot_id", "term", "prev_term"):
            _id_bytes(str(known[name]))
        for f in fields(Block):
            if f.type == "int":
                _as_int(known[f.name])
        known["witness"] = _WITNESS_OF.get(_WITNESS[value.get("witness")])
        return Block(**known)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, InvalidInput) as trouble:
        raise StorageTrouble(f"this is not a heartbeat block: {trouble!r}"[:300]) from None


def version_text(version: int) -> str:
    """The file name of a version. Raises ValueError below 1 or above 20 digits."""
    if not 0 < version < 10**VERSION_DIGITS:
        raise ValueError(f"no such version: {version}")
    return f"{version:0{VERSION_DIGITS}d}"


def version_of(file_name: str) -> int:
    """The version a file name stands for; 0 for a foreign name."""
    good = len(file_name) == VERSION_DIGITS and file_name.isascii() and file_name.isdigit()
    return int(file_name) if good else 0


def record_bytes(
    name: str,
    version: int,
    nonce: str,
    writer: str,
    value: Mapping[str, object],
    prev: str = "",
) -> bytes:
    """The content of one register version file.

    Raises InvalidInput for a value that is not a JSON object, or one above 4 MiB.
    """
    try:
        rest = json.dumps(
            {"nonce": nonce, "prev": prev, "value": dict(value), "writer": writer},
            sort_keys=True, separators=(",", ":"), allow_nan=False,
        ).encode()  # fmt: skip
    except (TypeError, ValueError, RecursionError) as trouble:
        raise InvalidInput(f"the value of {name} is not JSON: {trouble}") from None
    if len(rest) > RECORD_MAX:
        raise InvalidInput(f"the value of {name} has {len(rest)} bytes; at most {RECORD_MAX}")
    digest = hashlib.sha256(rest).hexdigest()
    return f"OUTLAST{LAYOUT} {name} {version} {len(rest)} {digest}\n".encode() + rest


def record_parse(data: bytes, name: str, version: int) -> Record:
    """The record in a register version file.

    Raises StorageTrouble saying what is wrong: damaged, cut short, another register's, too new.
    """
    what = f"version {version} of register {name}"
    line, newline, rest = data.partition(b"\n")
    match = _HEADER_LINE.match(line) if newline else None
    if line.startswith(b"OUTLAST") and match and int(match[1]) != LAYOUT:
        raise StorageTrouble(
            f"{what} was written by a newer Outlast (layout {int(match[1])}, known: {LAYOUT})",
            hint="upgrade Outlast on this host",
        )
    hint = "look at it with 'outlast storage dump'; nothing goes on with this register as it is"
    if match is None:
        raise StorageTrouble(f"{what} is damaged: its first line is not a header", hint=hint)
    if (match[2], int(match[3])) != (name.encode(), version):
        its = f"version {int(match[3])} of {match[2].decode('ascii', 'replace')}"
        raise StorageTrouble(f"{what} is damaged: its file holds {its}", hint=hint)
    if len(rest) != int(match[4]):
        sentence = f"{what} is damaged: {len(rest)} bytes instead of {int(match[4])}"
        raise StorageTrouble(sentence, hint=hint)
    if hashlib.sha256(rest).hexdigest().encode() != match[5]:
        raise StorageTrouble(f"{what} is damaged: its checksum is wrong", hint=hint)
    try:
        body = json.loads(rest)
        nonce, writer, value, prev = (body[k] for k in ("nonce", "writer", "value", "prev"))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StorageTrouble(f"{what} is damaged: not a record", hint=hint) from None
    texts = all(isinstance(text, str) for text in (nonce, writer, prev))
    if not (texts and isinstance(value, dict)):
        raise StorageTrouble(f"{what} is damaged: not a record", hint=hint)
    return Record(nonce, writer, value, prev)


def _sealed(piece: bytearray, magic: bytes) -> bytes:
    crc = zlib.crc32(memoryview(piece)[_FRONT.size :])
    _FRONT.pack_into(piece, 0, magic, LAYOUT, 0, crc)
    return bytes(piece)


def _check_piece(raw: bytes, magic: bytes, what: str) -> None:
    if len(raw) != BLOCK_SIZE:
        raise BadBlock("size", f"the {what} has {len(raw)} bytes instead of {BLOCK_SIZE}")
    its_magic, layout, _flags, crc = _FRONT.unpack_from(raw)
    if its_magic != magic:
        if not any(raw):
            raise BadBlock("empty", f"the {what} was never written")
        raise BadBlock("magic", f"this is no {what} of Outlast: it begins with {its_magic!r}")
    if layout != LAYOUT:
        raise BadBlock(
            "layout", f"the {what} was written by another Outlast (layout {layout}, not {LAYOUT})"
        )
    if magic == _BLOCK_MAGIC and raw[96:104] != raw[_SEQ_AGAIN_AT:]:
        raise BadBlock("torn", f"the {what} is torn: its two sequence numbers differ")
    if zlib.crc32(memoryview(raw)[_FRONT.size :]) != crc:
        raise BadBlock("crc", f"the checksum of the {what} is wrong")


def _hints(raw: bytes, count: int) -> tuple[tuple[str, int], ...]:
    out = []
    for index in range(count):
        version, length, name = _HINT.unpack_from(raw, _HINTS_AT + index * _HINT.size)
        try:
            out.append((name[:length].decode(), version))
        except UnicodeDecodeError:
            raise BadBlock("garbage", f"hint {index + 1} of the block is not text") from None
    return tuple(out)


@lru_cache(maxsize=256)
def _id_bytes(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise InvalidInput(f"{text[:80]!r} is not 32 hex digits")
    return raw


def _uuid_text(raw: bytes) -> str:
    h = raw.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def _mask(slots: frozenset[int]) -> int:
    if any(not 1 <= slot <= SLOT_MAX for slot in slots):
        raise InvalidInput(f"heard slots {sorted(slots)} are not all in 1..{SLOT_MAX}")
    return sum(1 << (slot - 1) for slot in slots)


def _clip(number: int, most: int) -> int:
    return min(max(number, 0), most)


def _as_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a number")
    return value


def _as_list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list")
    return value
