"""Asks addresses whether they answer, with packets as large as wished: ICMP echo, as `ping` does.

Rules:
1. An answer counts only from the address that was asked, with this object's own mark in it.
2. Nothing blocks: `ask` sends, `answered` takes what has come since.
3. No packet goes in pieces, whatever is known of the way: one that is too large is lost.
4. Asking needs the right to open raw sockets, which an agent has. OSError says that it has not.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Mapping

from outlast.errors import InvalidInput

HEARD_MAX = 500  # packets taken at once
ADDRESSES_MAX = 4
_HEAD = struct.Struct("!BBHHH")
_ASK = {4: (8, 0), 6: (128, 129)}  # IP version -> type of a question, of its answer
_IP_HEAD = {4: 20, 6: 40}  # bytes
_WHOLE = {4: (socket.IPPROTO_IP, 10, 3), 6: (socket.IPPROTO_IPV6, 23, 3)}  # IP_PMTUDISC_PROBE
PACKET_MAX = 65535


def addresses(text: str) -> tuple[str, ...]:
    """The addresses in a list with commas, each once. Raises InvalidInput for anything else."""
    found: list[str] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(str(ipaddress.ip_address(word)))
        except ValueError:
            raise InvalidInput(
                f"'{word}' is no address that a witness could have",
                hint="IP addresses with commas between, such as 192.168.1.1,192.168.1.254",
            ) from None
    if len(found) > ADDRESSES_MAX:
        raise InvalidInput(f"a pool has at most {ADDRESSES_MAX} witnesses, not {len(found)}")
    return tuple(dict.fromkeys(found))


class Echo:
    def __init__(self) -> None:
        self._mark = os.urandom(16)
        self._sockets: dict[int, socket.socket] = {}
        self._count = 0

    def ask(self, address: str, mtu: int = 0) -> None:
        """mtu: of the whole packet; 0 = it is small.

        Raises OSError where no packet can be sent at all; one that has no way is just lost.
        """
        version = ipaddress.ip_address(address).version
        self._count = (self._count + 1) & 0xFFFF
        head = (_ASK[version][0], 0, 0, 0, self._count)
        length = min(mtu, PACKET_MAX) - _IP_HEAD[version] - _HEAD.size
        said = self._mark.ljust(length, b"\0")
        packet = _HEAD.pack(*head) + said
        if version == 4:
            packet = _HEAD.pack(*head[:2], _checksum(packet), *head[3:]) + said
        with contextlib.suppress(OSError):
            self._socket(version).sendto(packet, (address, 0))

    def answered(self) -> set[str]:
        """Who answered since the last time."""
        found: set[str] = set()
        for version, sock in self._sockets.items():
            with contextlib.suppress(OSError):
                for _ in range(HEARD_MAX):
                    packet, source = sock.recvfrom(2048)
                    if self._is_answer(version, packet):
                        found.add(str(ipaddress.ip_address(source[0])))
        return found

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _is_answer(self, version: int, packet: bytes) -> bool:
        if version == 4 and packet:
            packet = packet[(packet[0] & 15) * 4 :]
        mine = packet[_HEAD.size :].startswith(self._mark)
        return mine and packet[0] == _ASK[version][1]

    def _socket(self, version: int) -> socket.socket:
        known = self._sockets.get(version)
        if known is None:
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            if version == 4:
                known = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
            else:
                known = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
            known.setsockopt(*_WHOLE[version])
            self._sockets[version] = known
        return known


class Pings:
    """Calls to hosts at addresses of theirs, as frames.Frames on a network without a bridge."""

    def __init__(self, addresses: Callable[[], Mapping[str, str]], mtu: int) -> None:
        self._addresses, self._mtu, self._echo = addresses, mtu, Echo()

    def call(self) -> None:
        """Raises OSError."""
        for address in self._addresses().values():
            self._echo.ask(address, self._mtu)

    def heard(self) -> set[str]:
        """Hosts that have answered since the last time."""
        answered = self._echo.answered()
        return {host for host, address in self._addresses().items() if address in answered}

    def close(self) -> None:
        self._echo.close()


def _checksum(data: bytes) -> int:
    """See RFC 1071."""
    data += bytes(len(data) % 2)
    total = sum(high << 8 | low for high, low in zip(data[::2], data[1::2], strict=True))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
