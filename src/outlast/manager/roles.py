"""Roles as people read them: what each may, and on how little, worked out of the table (pure).

Rule: nothing is said twice: what a role may is asked of rights.py, action by action.
"""

from __future__ import annotations

from dataclasses import dataclass

from outlast.manager.ports import ACTIONS, ROLES, Grant
from outlast.manager.rights import allowed

SAYS = {
    "admin": "may everything",
    "operator": "runs VMs, images and templates, and takes hosts into maintenance",
    "viewer": "sees",
    "own": "makes VMs, and may do everything with those",
}
ACTION_SAYS = {
    "see": "see VMs; of a pool its hosts and its history too",
    "start": "start VMs",
    "stop": "shut VMs down",
    "kill": "end VMs at once",
    "migrate": "move VMs, and their disks to other storage",
    "ha": "switch high availability of VMs",
    "create": "make VMs",
    "delete": "delete VMs",
    "console": "open consoles and screens",
    "set": "change where VMs run, and how large they are",
    "snapshot": "keep what disks of VMs hold, and go back to it",
    "backup": "back VMs up into folders of hosts, make VMs out of backups",
    "adopt": "make VMs out of domains that a host's libvirt has already",
    "catalog": "see networks, storage, images and templates",
    "images": "import, upload and delete images and templates",
    "maintain": "take hosts into maintenance",
    "resume": "take hosts back into service",
    "power-off": "switch hosts off",
    "power-on": "wake hosts that are off",
    "confirm-off": "say that a host is off for certain, so that its VMs start elsewhere",
    "host-remove": "take a host out of its pool for good",
    "drill": "let a host fail, on purpose",
    "pool-ha": "switch high availability of a whole pool",
    "pool-set": "change a pool's settings, networks and storage",
    "tasks": "see tasks",
    "people": "users, roles and everybody's tokens",
    "tokens": "make tokens",
    "audit": "read the audit",
    "pools": "see which managers there are",
    "webhooks": "webhooks and mails",
    "settings": "settings of the manager",
}
# what a role can be given on, the least first: how it is called, and such a grant
LEAST = (
    ("VM", ("pool", "web")),
    ("pool", ("pool", "")),
    ("everything", ("", "")),
)


@dataclass(frozen=True, slots=True)
class May:
    action: str
    says: str
    least: str  # VM | pool | everything: the least that the role must be given on; "" = it may not


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    says: str
    may: tuple[May, ...]  # of every action


def roles() -> tuple[Role, ...]:
    """In the order of their reach. A folder is to a role what one VM is."""
    return tuple(
        Role(name, SAYS[name], tuple(May(a, ACTION_SAYS[a], _least(name, a)) for a in ACTIONS))
        for name in ROLES
    )


def _least(role: str, action: str) -> str:
    for word, where in LEAST:
        if allowed((Grant(role, *where),), action, *where):
            return word
    return ""
