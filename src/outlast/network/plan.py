"""What a host must do to have a network, from what it has. Pure.

A network is a bridge of its name on every host. With an uplink it reaches the other hosts: through
a VLAN of the uplink (a link `NAME.VLAN`), or, without a VLAN, through the uplink itself.

Rules:
1. Only what carries our mark (`outlast:NAME`, a link's alias) is changed or removed. A link of the
   same name that somebody else made is a trouble, and is left alone.
2. A card that has addresses is never put into a bridge: the host would be cut off from whatever
   reaches it there. A VLAN on top of it is fine.
3. A network is removed when no VM uses it any more: not while its bridge has ports of others.
4. The card itself is not changed: when its MTU is too small for the network, that is a trouble.
5. Steps are what is missing, and no more: on a host that is as it shall be there are none. A host
   that was stopped between two steps goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outlast.equipment import Network

MARK = "outlast:"
UPLINKS = frozenset({"", "bond", "team", "vlan"})  # what leads out of a host; a VM's card does not
NO_ADDRESS = ("addrgenmode", "none")  # of its own: the host is not on this network


@dataclass(frozen=True, slots=True)
class Link:
    """A network link of this host."""

    name: str
    kind: str = ""  # bridge, vlan, ...; "" = a card
    alias: str = ""
    mtu: int = 1500
    up: bool = True
    master: str = ""  # the bridge it is in
    parent: str = ""  # of a VLAN
    vlan: int = 0
    addresses: tuple[str, ...] = ()  # those that others can reach


@dataclass(frozen=True, slots=True)
class Plan:
    """steps: arguments of `ip`, in order; trouble: why there are none although some are needed."""

    steps: tuple[tuple[str, ...], ...] = ()
    trouble: str = ""


def uplink_on(network: Network, host: str) -> str:
    """The card for this network on a host; "" = the network stays inside of it."""
    own = dict(text.partition("=")[::2] for text in network.uplinks_of)
    return own.get(host, network.uplink)


def carrier(network: Network, uplink: str) -> str:
    """The link that joins bridge and card."""
    return f"{network.name}.{network.vlan}" if network.vlan else uplink


def wanted(network: Network, host: str, links: Mapping[str, Link]) -> Plan:
    """What is to be done for a network here."""
    uplink = uplink_on(network, host)
    trouble = _trouble(network, uplink, links)
    if trouble:
        return Plan(trouble=trouble)
    name, mark = network.name, MARK + network.name
    steps: list[tuple[str, ...]] = []
    bridge = links.get(name)
    if bridge is None:
        steps.append(("link", "add", "name", name, "type", "bridge"))
        bridge = Link(name, "bridge", up=False, mtu=0)
    if bridge.alias != mark:
        steps.append(("link", "set", "dev", name, *NO_ADDRESS))
        steps.append(
            ("link", "set", "dev", name, "alias", mark)
        )  # last: it says that both are done
    steps += _joined(network, uplink, links) if uplink else _parted(name, "", links)
    # last, because a bridge takes no larger MTU than its ports have
    steps += _sized(bridge, network.mtu)
    return Plan(tuple(steps))


def _joined(network: Network, uplink: str, links: Mapping[str, Link]) -> list[tuple[str, ...]]:
    name, mark = network.name, MARK + network.name
    steps: list[tuple[str, ...]] = []
    through = carrier(network, uplink)
    link = links.get(through)
    if link is not None and network.vlan and link.parent != uplink:
        steps.append(("link", "delete", "dev", through))
        link = None
    steps += _parted(name, through, links)
    if network.vlan and link is None:
        vlan = str(network.vlan)
        steps.append(("link", "add", "link", uplink, "name", through, "type", "vlan", "id", vlan))
        link = Link(through, "vlan", mtu=links[uplink].mtu, up=False)
    assert link is not None
    if network.vlan and link.alias != mark:
        steps.append(("link", "set", "dev", through, "alias", mark))
    if network.vlan:
        steps += _sized(link, network.mtu)
    elif not link.up:
        steps.append(("link", "set", "dev", through, "up"))
    if link.master != name:
        steps.append(("link", "set", "dev", through, "master", name))
    return steps


def _parted(name: str, through: str, links: Mapping[str, Link]) -> list[tuple[str, ...]]:
    """Without any other way out than this one: two of them would be a loop."""
    others = [link for link in links.values() if link.name != through]
    old = [o for o in others if o.alias == MARK + name and o.kind == "vlan"]
    cards = [o for o in others if o.master == name and o.kind in UPLINKS and o not in old]
    return [
        *(("link", "delete", "dev", link.name) for link in old),
        *(("link", "set", "dev", card.name, "nomaster") for card in cards),
    ]


def _sized(link: Link, mtu: int) -> list[tuple[str, ...]]:
    steps: list[tuple[str, ...]] = []
    if link.mtu != mtu:
        steps.append(("link", "set", "dev", link.name, "mtu", str(mtu)))
    if not link.up:
        steps.append(("link", "set", "dev", link.name, "up"))
    return steps


def _trouble(network: Network, uplink: str, links: Mapping[str, Link]) -> str:
    name, mark = network.name, MARK + network.name
    for ours in (name, carrier(network, uplink)) if network.vlan else (name,):
        there = links.get(ours)
        if there is not None and there.alias != mark and not _half_made(there, links):
            return f"there is a link {ours} already that Outlast did not make"
    if not uplink:
        return ""
    card = links.get(uplink)
    if card is None:
        return f"there is no card {uplink}"
    if card.mtu < network.mtu:
        return f"{uplink} has an MTU of {card.mtu}, {name} wants {network.mtu}"
    if network.vlan:
        return ""
    if card.addresses:
        return (
            f"{uplink} has the address {card.addresses[0]}: in a bridge it would be cut off; use a "
            "VLAN or another card"
        )
    if card.master not in {"", name}:
        return f"{uplink} is in {card.master} already"
    return ""


def _half_made(link: Link, links: Mapping[str, Link]) -> bool:
    """Made a moment ago and not marked yet, as one who was killed in between has left it."""
    bare = link.kind in {"bridge", "vlan"} and not (link.up or link.alias or link.master)
    ports = any(other.master == link.name for other in links.values())
    return bare and not (link.addresses or ports)


def unwanted(names: frozenset[str], links: Mapping[str, Link]) -> Plan:
    """How what is ours and of no network any more is removed; names: of the networks there are."""
    steps: list[tuple[str, ...]] = []
    used = []
    for link in links.values():
        name = link.alias.removeprefix(MARK)
        if not link.alias.startswith(MARK) or name in names or link.kind != "bridge":
            continue
        ports = [other for other in links.values() if other.master == link.name]
        strangers = [p.name for p in ports if p.alias != link.alias and p.kind == "tun"]
        if strangers:
            used.append(f"{name} is removed when no VM uses it any more ({', '.join(strangers)})")
            continue
        own = [other.name for other in links.values() if other.alias == link.alias]
        steps += [("link", "delete", "dev", n) for n in own if n != link.name]
        steps.append(("link", "delete", "dev", link.name))
    return Plan(tuple(steps), "; ".join(used))
