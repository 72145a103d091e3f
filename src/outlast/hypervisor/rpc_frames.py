"""libvirt's wire protocol, as far as a relay between two libvirt daemons has to know it (pure).

A message is a big-endian length (of itself and all that follows), then program, version, procedure,
type (0 call, 1 reply, 2 event), serial and status (0 ok), 32 bits each; the rest is not looked at.
Numbers are those of libvirt's src/remote/remote_protocol.x and src/rpc/virnetprotocol.x, which
never change once released.

Rules:
1. A migration needs eleven calls and the keepalive; `may_pass` knows them and nothing else, so that
   the way to another host's libvirt is no way to do anything else there.
2. A length that no message of a migration has ends the stream (StreamBroken).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from outlast.errors import HypervisorTrouble

REMOTE, KEEPALIVE = 0x20008086, 0x6B656570
CALL, REPLY = 0, 1
OPEN, CLOSE, AUTH_LIST, SUPPORTS_FEATURE = 1, 2, 66, 60
PREPARE3, FINISH3 = 303, 306  # with typed parameters
WATCH_CLOSE, UNWATCH_CLOSE = 360, 361
MIGRATION = frozenset(
    {OPEN, CLOSE, AUTH_LIST, SUPPORTS_FEATURE, PREPARE3, FINISH3, WATCH_CLOSE, UNWATCH_CLOSE}
)
HEAD = struct.Struct(">7I")
MESSAGE_MAX = 32 << 20


class StreamBroken(HypervisorTrouble):
    """What comes is not libvirt's protocol, or no part of a migration."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message, with its bytes."""

    program: int
    procedure: int
    kind: int
    status: int
    raw: bytes

    @property
    def finished(self) -> bool:
        """The target's word that the copy is complete and stands still."""
        reply = self.program == REMOTE and self.kind == REPLY
        return reply and self.procedure == FINISH3 and self.status == 0


class Frames:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The messages that are complete now. Raises StreamBroken."""
        self._rest += data
        found = []
        while len(self._rest) >= HEAD.size:
            size, program, _, procedure, kind, _, status = HEAD.unpack_from(self._rest)
            if not HEAD.size <= size <= MESSAGE_MAX:
                raise StreamBroken(f"a message of {size} bytes is none of libvirt's")
            if len(self._rest) < size:
                break
            raw, self._rest = self._rest[:size], self._rest[size:]
            found.append(Frame(program, procedure, kind, status, raw))
        return found


def may_pass(frame: Frame) -> bool:
    """Rule 1: whether this call belongs to a migration."""
    if frame.program == KEEPALIVE:
        return True
    return frame.program == REMOTE and frame.kind == CALL and frame.procedure in MIGRATION
