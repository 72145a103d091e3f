"""What a pool has beside its hosts and VMs: power switches, networks, storage, tokens to join.

Rules of this file: those of model.py. Only hands, agent and people's tools know these; the thinking
does not.
"""

from __future__ import annotations

from dataclasses import dataclass

OWN_STORAGE = "pool"  # what people call the pool's own, beside repositories by their names


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What lets one machine join, once: the register `token/<id>`."""

    id: str  # 8 hex digits
    secret_hash: str  # SHA-256 of the secret, hex
    until_wall_s: int  # good until then; 0 = taken back
    host: str = ""  # the only name it is good for; "" = any
    by: str = ""  # who made it
    used_by: str = ""  # the host that joined with it
    used_by_uuid: str = ""


@dataclass(frozen=True, slots=True)
class PowerSwitch:
    """How a host is switched off from outside: the register `power/<n>`."""

    slot: int
    uuid: str  # of the machine it is for
    agent: str = ""  # a fence agent, like fence_redfish; "" = there is no switch
    options: tuple[str, ...] = ()  # like ip=10.0.0.9; no secrets
    secrets: tuple[str, ...] = ()  # names of further options, whose values only root can read
    secret_id: str = ""  # of the file that has them


@dataclass(frozen=True, slots=True)
class Network:
    """A network for VMs, a bridge of this name on every host: the register `network/<name>`."""

    name: str
    uplink: str = ""  # the card by which it reaches other hosts; "" = it does not
    uplinks_of: tuple[str, ...] = ()  # hosts with another card, like b=eth1
    vlan: int = 0  # 0 = not tagged
    mtu: int = 1500
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Repository:
    """Storage for disks besides the pool's own: the register `repository/<name>`."""

    name: str
    kind: str = ""  # nfs | nfs3 | ocfs2 | gfs2 | glusterfs | cephfs | dir; "" = it was removed
    source: str = ""  # what is mounted; "" of a plain directory
    path: str = ""  # where, the same on every host
    options: tuple[str, ...] = ()  # of the mount, wished by a person
