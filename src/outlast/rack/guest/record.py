"""The record of the proving guests in Python: the twin of record.h, which is the format (P).

Promise: `parse(record.sector())` gives the record back; one changed bit gives None.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

SECTOR = 512
BOOT_FIRST = 1
BOOT_SLOTS = 255
RING_FIRST = 256
RING_MAGIC = b"OLRING01"
BOOT_MAGIC = b"OLBOOT01"
NO_DIGEST = bytes(32)

_FIELDS = struct.Struct("<8sQ16s32sQQQQII376x")


@dataclass(frozen=True, slots=True)
class Record:
    """One signed sector; meanings as in record.h. `boot` has 16 bytes, `prev` 32."""

    seq: int
    boot: bytes
    prev: bytes
    uptime_us: int
    wall_us: int
    salt: int
    first_seq: int
    boot_number: int
    latency_us: int

    @property
    def name(self) -> str:
        """The boot as the serial lines name it: 16 hex digits."""
        return self.boot[:8].hex()

    def sector(self, magic: bytes = RING_MAGIC) -> bytes:
        """512 bytes as they are on the disk: a ring record, or a boot table entry."""
        body = _FIELDS.pack(
            magic, self.seq, self.boot, self.prev, self.uptime_us, self.wall_us, self.salt,
            self.first_seq, self.boot_number, self.latency_us,
        )  # fmt: skip
        return body + hashlib.sha256(body).digest()

    def digest(self) -> bytes:
        """What the next ring record carries as `prev`."""
        return self.sector()[-32:]


def parse(sector: bytes, magic: bytes = RING_MAGIC) -> Record | None:
    """The record of a sector of 512 bytes; None when it is not one of this kind, or damaged."""
    body, digest = sector[:-32], sector[-32:]
    if not sector.startswith(magic) or hashlib.sha256(body).digest() != digest:
        return None
    return Record(*_FIELDS.unpack(body)[1:])
