"""The hardware addresses of the network cards behind this host's addresses, to wake it by."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

_SIOCGIFADDR = 0x8915  # netdevice(7)
_IFREQ = 40
_V6 = Path("/proc/net/if_inet6")  # proc(5): address, index, prefix, scope, flags, name
_CARDS = Path("/sys/class/net")


def macs_of(addresses: Iterable[str]) -> tuple[str, ...]:
    """addresses: "ip" or "ip:port". Cards without a hardware address, and lo, are left out."""
    wanted = {bare(address) for address in addresses}
    found = []
    for _, card in socket.if_nameindex():
        if _addresses(card) & wanted:
            try:
                mac = (_CARDS / card / "address").read_text().strip()
            except OSError:
                continue
            if mac.count(":") == 5 and mac != "00:00:00:00:00:00" and mac not in found:
                found.append(mac)
    return tuple(sorted(found))


def bare(address: str) -> str:
    """The IP address without a port, in its shortest form; "" when it is none."""
    text = address[1:].partition("]")[0] if address.startswith("[") else address
    text = text.partition(":")[0] if text.count(":") == 1 else text
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _addresses(card: str) -> set[str]:
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack(f"{_IFREQ}s", card.encode()[:15])
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            found.add(socket.inet_ntoa(answer[20:24]))
        except OSError:
            pass  # it has no such address
    try:
        lines = _V6.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        raw, *_, name = line.split()
        if name == card:
            found.add(str(ipaddress.ip_address(bytes.fromhex(raw))))
    return found
