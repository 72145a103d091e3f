"""The networks of a pool: the registers `network/<name>`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from outlast.equipment import Network
from outlast.errors import Conflict, InvalidInput, NotFound
from outlast.storage.agreed import put
from outlast.storage.names import check_name
from outlast.storage.records import network_from, network_to
from outlast.storage.register import Register

NAME_MAX = 10  # a link's name has 15 at most, and .4094 comes behind it
MTU_MIN, MTU_MAX = 576, 65521
_CARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")


def networks(register: Register) -> list[Network]:
    """By name. Raises StorageTrouble."""
    found = (register.read(name)[1] for name in register.names("network"))
    known = [network_from(value) for value in found if value is not None]
    return sorted((n for n in known if not n.deleted), key=lambda n: n.name)


def create(register: Register, network: Network) -> None:
    """Raises InvalidInput, Conflict, StorageTrouble."""
    check(network)
    version, value = register.read(f"network/{network.name}")
    if value is not None and not network_from(value).deleted:
        raise Conflict(f"there is a network '{network.name}' already", hint="outlast network list")
    _put(register, version, network)


def change(register: Register, name: str, new: Callable[[Network], Network]) -> bool:
    """What is new of a network; False: it is so already.

    Raises NotFound, InvalidInput, Conflict, StorageTrouble.
    """
    version, before = _known(register, name)
    changed = new(before)
    check(changed)
    if changed == before:
        return False
    _put(register, version, changed)
    return True


def remove(register: Register, name: str) -> None:
    """Raises NotFound, Conflict, StorageTrouble."""
    version, before = _known(register, name)
    _put(register, version, replace(before, deleted=True))


def check(network: Network) -> None:
    """Raises InvalidInput."""
    check_name(network.name, "network name")
    if len(network.name) > NAME_MAX:
        raise InvalidInput(f"'{network.name}' is too long", hint=f"at most {NAME_MAX} characters")
    if not 0 <= network.vlan <= 4094:
        raise InvalidInput(f"there is no VLAN {network.vlan}", hint="1 to 4094, or none")
    if not MTU_MIN <= network.mtu <= MTU_MAX:
        raise InvalidInput(f"an MTU of {network.mtu}?", hint="1500, or 9000 where all switches do")
    cards = [network.uplink] if network.uplink else []
    for text in network.uplinks_of:
        host, equals, card = text.partition("=")
        check_name(host, "host name")
        if not equals:
            raise InvalidInput(f"{text[:60]!r} is not like b=eth1")
        cards.append(card)
    for card in cards:
        if card and not _CARD.match(card):
            raise InvalidInput(f"{card[:40]!r} is no card's name", hint="'ip link' lists them")
    if network.vlan and not cards:
        raise InvalidInput("a VLAN of which card?", hint="--uplink eth1")


def _known(register: Register, name: str) -> tuple[int, Network]:
    """With its version. Raises NotFound, StorageTrouble."""
    version, value = register.read(f"network/{check_name(name, 'network name')}")
    found = network_from(value) if value is not None else None
    if found is None or found.deleted:
        raise NotFound(f"there is no network '{name}'", hint="outlast network list")
    return version, found


def _put(register: Register, version: int, network: Network) -> None:
    name = f"network/{network.name}"
    what = f"the network '{network.name}'"
    put(register, name, version, network_to(network), what, "outlast network list")
