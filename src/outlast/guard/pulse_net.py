"""The pulse's UDP sockets: one per own beat address, network i to network i of every peer.

Rules:
1. Nothing here blocks; a packet that cannot be sent is counted and forgotten, the next beat is a
   better one anyway.
2. An address that cannot be bound (interface not up yet) is tried again; the others work on.
3. A packet is believed by its seal (wire/beat), never by where it came from.
4. While it is muted nothing is sent and what comes in is dropped (pulse_drill).
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from outlast.errors import InvalidInput
from outlast.wire.beat import NETWORKS_MAX, PACKET_MAX

Address = tuple[str, int]
_BURST = 256  # packets taken per wake-up, so that a flood cannot hold the loop


def parse_address(text: str) -> Address:
    """("10.0.0.1", 7790) of "10.0.0.1:7790" or "[fd00::1]:7790".

    Raises InvalidInput.
    """
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
        number = int(port) if colon else 0
    except (OSError, ValueError):
        number = 0
    if not 0 < number < 65536:
        raise InvalidInput(
            f"'{text}' is not an address for heartbeats", hint="like 10.90.0.1:7790, no host names"
        )
    return host, number


class Networks:
    """The sockets of this host's beat addresses."""

    def __init__(self, addresses: Sequence[str]) -> None:
        if len(addresses) > NETWORKS_MAX:
            raise InvalidInput(f"at most {NETWORKS_MAX} beat addresses, not {len(addresses)}")
        self._own = [parse_address(a) for a in addresses]
        self._sockets: dict[int, socket.socket] = {}
        self.trouble: dict[int, str] = {}  # network -> why it is not there
        self.unsent: Counter[str] = Counter()
        self.muted = False

    def open_missing(self) -> list[tuple[int, socket.socket]]:
        """Bind what is not bound yet; the new sockets with their network's index."""
        new = []
        for network, address in enumerate(self._own):
            if network in self._sockets:
                continue
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                sock.bind(address)
            except OSError as trouble:
                sock.close()
                self.trouble[network] = f"{address[0]}:{address[1]}: {trouble.strerror}"
                continue
            self.trouble.pop(network, None)
            self._sockets[network] = sock
            new.append((network, sock))
        return new

    def send(
        self, peers: Iterator[Sequence[str]], packet_for: Callable[[int], bytes]
    ) -> None:  # fmt: skip
        """One packet over each network to every peer (a peer: its addresses, by network)."""
        if self.muted:
            return
        packets = {network: packet_for(network) for network in self._sockets}
        for addresses in peers:
            for network, text in enumerate(addresses):
                sock = self._sockets.get(network)
                if sock is None:
                    continue
                try:
                    sock.sendto(packets[network], parse_address(text))
                except InvalidInput:
                    self.unsent["bad address"] += 1
                except OSError as trouble:
                    self.unsent[trouble.strerror or "error"] += 1

    def receive(self, sock: socket.socket) -> Iterator[bytes]:
        """What has arrived."""
        for _ in range(_BURST):
            try:
                packet = sock.recv(PACKET_MAX + 1)
            except BlockingIOError:
                return
            except OSError:  # an ICMP answer to something sent earlier
                continue
            if not self.muted:
                yield packet

    def close(self) -> None:
        for sock in self._sockets.values():
            with contextlib.suppress(OSError):
                sock.close()
        self._sockets.clear()
