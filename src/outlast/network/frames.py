"""Small calls between hosts over a network for VMs: raw frames, as long as its MTU allows.

A bridge has no address of the host, and needs none for this: a broadcast frame of a type that is
set aside for experiments, padded to the MTU. Who hears it knows that whole packets arrive.

It is a diagnosis, not a proof: a VM on the same network could call in a host's name. Nothing is
decided by it.
"""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

ETHERTYPE = 0x88B5
BROADCAST = b"\xff" * 6
HEADER = 14
HEARD_MAX = 200  # frames taken at once


class Frames:
    """One network on this host. Raises OSError when its bridge cannot be used."""

    def __init__(self, bridge: str, mtu: int, pool: str, host: str) -> None:
        self._mtu = mtu
        self._call = {"outlast": 1, "pool": pool, "network": bridge, "host": host}
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind((bridge, ETHERTYPE))
        except OSError:
            self._socket.close()
            raise

    def call(self) -> None:
        """Raises OSError."""
        mac = self._socket.getsockname()[4]
        head = BROADCAST + mac + ETHERTYPE.to_bytes(2, "big")
        text = json.dumps(self._call).encode()
        self._socket.send(head + text.ljust(self._mtu, b"\0"))

    def heard(self) -> set[str]:
        """Hosts of this pool whose whole frames have arrived since the last time."""
        hosts: set[str] = set()
        with contextlib.suppress(OSError):
            for _ in range(HEARD_MAX):
                hosts |= self._host(self._socket.recv(HEADER + self._mtu + 1))
        return hosts

    def close(self) -> None:
        self._socket.close()

    def _host(self, frame: bytes) -> set[str]:
        if len(frame) < HEADER + self._mtu:
            return set()
        try:
            said: Any = json.loads(frame[HEADER:].rstrip(b"\0"))
        except ValueError:
            return set()
        ours = isinstance(said, dict) and {**self._call, "host": said.get("host")} == said
        return {str(said["host"])} - {self._call["host"]} if ours else set()
