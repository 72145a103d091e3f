"""The heartbeat area on etcd: the same blocks as heartbeat.py has, each under a key of its own.

Rules:
1. A write is over when a majority of etcd's members has it on disk; that is what its answer means.
2. A read is linearizable: it shows every write that was answered before it began.
3. A block never goes back: it is written only where the key has the revision this object last saw.
   A write whose answer was lost may still land, but not on a later one, whoever wrote that.
4. Keys are hb/00 (the header) to hb/64, values are the 4096 bytes, packed with zlib: most of a
   block is empty, and etcd keeps every value until it is compacted.

Trouble is StorageTrouble. Imports nothing but the standard library, because the pulse lives on it.
"""

from __future__ import annotations

import zlib

from outlast.errors import StorageTrouble
from outlast.model import SLOT_MAX
from outlast.storage.etcd import Etcd
from outlast.storage.format import BLOCK_SIZE, encode_header

_NEVER = bytes(BLOCK_SIZE)


def key_of(slot: int) -> str:
    """Under which key a block stands; slot 0 is the header."""
    return f"hb/{slot:02d}"


def header_of(pool_uuid: str) -> dict[str, bytes]:
    """What a new area holds: its header."""
    return {key_of(0): zlib.compress(encode_header(pool_uuid))}


class EtcdArea:
    """The area as one host sees it. One thread at a time."""

    def __init__(self, etcd: Etcd, slot: int = 0) -> None:
        """To write as `slot`, or only to read when that is 0. Asks nothing yet."""
        self.slot = slot
        self.direct = True  # rule 2
        self._etcd = etcd
        self._revision: int | None = None  # of the own key, as last seen

    def write_block(self, raw: bytes) -> None:
        """Replace this host's block; returns when it is on the storage. Raises StorageTrouble."""
        if len(raw) != BLOCK_SIZE or not self.slot:
            raise ValueError(f"slot {self.slot} cannot write a block of {len(raw)} bytes")
        name, data = key_of(self.slot), zlib.compress(raw)
        revision = self._revision
        if revision is None:
            revision = self._etcd.get(name).revision
        self._revision = None  # whatever happens now, until it is seen again
        swapped = self._etcd.swap_key(name, revision, data)
        if (
            not swapped.done and swapped.stands.data != data
        ):  # the same: a try that was not answered
            raise StorageTrouble("the own block was changed by somebody else just now")
        self._revision = swapped.stands.revision

    def read_all(self, slots_max: int = SLOT_MAX) -> list[bytes]:
        """[0] the header, [n] the block of slot n. Raises StorageTrouble."""
        found = self._etcd.range(key_of(0), key_of(slots_max) + "\0")
        if self.slot and self.slot <= slots_max:
            own = found.get(key_of(self.slot))
            self._revision = own.revision if own else 0
        pieces = []
        for slot in range(slots_max + 1):
            value = found.get(key_of(slot))
            pieces.append(_unpacked(value.data) if value else _NEVER)
        return pieces

    def close(self) -> None:
        self._etcd.close()

    def __enter__(self) -> EtcdArea:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unpacked(data: bytes) -> bytes:
    """The piece; what is damaged comes as bytes that no reader takes for a block."""
    try:
        raw = zlib.decompressobj().decompress(data, BLOCK_SIZE + 1)
    except zlib.error:
        raw = b""
    return raw if len(raw) == BLOCK_SIZE else b"damaged".ljust(BLOCK_SIZE, b"\0")
