"""Wakes a host that is off: the magic packet of Wake-on-LAN, into each network this host is in.

The packet is six bytes FF and sixteen times the hardware address, as UDP to port 9; the card looks
for the pattern, whatever carries it. Nothing answers: whether it worked is seen when the host's
block begins to change.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

from outlast.errors import InvalidInput

PORT = 9  # discard
TIMES = 3  # it is a datagram, and nobody answers


def magic_packet(mac: str) -> bytes:
    """Raises InvalidInput for what is no hardware address."""
    digits = mac.replace(":", "").replace("-", "")
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raw = b""
    if len(raw) != 6:
        raise InvalidInput(f"{mac[:40]!r} is no hardware address", hint="like 52:54:00:12:34:56")
    return b"\xff" * 6 + raw * 16


def wake(macs: Iterable[str], own_addresses: Iterable[str], port: int = PORT) -> int:
    """Send the packets from each of these addresses of ours; how many were sent.

    Raises InvalidInput for a bad hardware address.
    """
    packets = [magic_packet(mac) for mac in macs]
    sent = 0
    for address in own_addresses:
        if ":" in address:
            continue  # IPv6 knows no broadcast; a host with beats has IPv4 or is woken by others
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out, contextlib.suppress(OSError):
            out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            out.bind((address, 0))
            for packet in packets * TIMES:
                sent += out.sendto(packet, ("255.255.255.255", port)) > 0
    return sent
