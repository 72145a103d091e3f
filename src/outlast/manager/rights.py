"""Who may do what, as a table (pure).

    admin      everything
    operator   everything with VMs, hosts, images and templates; not HA, settings, networks or
               storage of whole pools, power, drills, people, the audit
    viewer     sees
    own        on a pool: sees what VMs are made of there, makes some, and has "own" on those; on
               a VM: everything with it but where it runs and how large it is

A role counts on everything, on one pool, on a folder (all VMs of a pool whose names begin alike:
"web-*") or on one VM. What concerns the manager itself or a whole pool needs a role that reaches
that far: an admin of one VM adds no users, and whoever has a folder makes no VM in it. Backups and
domains of hosts are of a whole pool: who names folders of its hosts could fill their disks.
"""

from __future__ import annotations

from collections.abc import Iterable

from outlast.errors import InvalidInput
from outlast.manager.ports import ACTIONS, ROLES, Grant, Scope

OF_A_VM = frozenset(
    {"see", "start", "stop", "kill", "migrate", "ha", "create", "delete", "console", "set"}
    | {"snapshot", "tasks"}
)
OF_A_POOL = OF_A_VM | {
    "catalog", "images", "backup", "adopt", "maintain", "resume", "power-off", "power-on",
    "confirm-off", "host-remove", "drill", "pool-ha", "pool-set",
}  # fmt: skip
ROLE_ACTIONS: dict[str, frozenset[str]] = {
    "admin": frozenset(ACTIONS),
    "operator": OF_A_VM
    | {"catalog", "images", "backup", "adopt", "maintain", "resume", "power-on"},
    "viewer": frozenset({"see", "catalog", "tasks"}),
    "own": OF_A_VM - {"migrate", "set"} | {"catalog"},
}


def allowed(grants: Iterable[Grant], action: str, pool_id: str = "", vm: str = "") -> bool:
    """May the holder of these roles do that, there? Raises ValueError for an unknown action."""
    if action not in ACTIONS:
        raise ValueError(f"there is no action {action}")
    return any(_reaches(grant, action, pool_id, vm) for grant in grants)


def _reaches(grant: Grant, action: str, pool_id: str, vm: str) -> bool:
    if action not in ROLE_ACTIONS[grant.role]:
        return False
    if grant.pool_id and (grant.pool_id != pool_id or action not in OF_A_POOL):
        return False
    if grant.vm and (not grant.holds(vm) or action not in OF_A_VM or action == "create"):
        return False
    if grant.role == "own" and not grant.vm:  # of a pool, or of all: what is made is owned
        return action in ("create", "catalog") and not vm
    return True


def scope_of(grants: Iterable[Grant]) -> Scope:
    """What the holder may see."""
    pools, vms, folders = set(), set(), set()
    for grant in grants:
        if grant.role == "own" and not grant.vm:
            continue
        if not grant.pool_id:
            return Scope()
        if grant.folder:
            folders.add((grant.pool_id, grant.folder))
        elif grant.vm:
            vms.add((grant.pool_id, grant.vm))
        else:
            pools.add(grant.pool_id)
    return Scope(False, frozenset(pools), frozenset(vms), frozenset(folders))


def covers(grants: Iterable[Grant], wished: Grant) -> bool:
    """Is everything that `wished` gives contained in these roles?"""
    held = tuple(grants)
    if wished.role == "own" and not wished.vm:
        return any(
            g.role in ("own", "operator", "admin")
            and not g.vm
            and g.pool_id in ("", wished.pool_id)
            for g in held
        )
    within: tuple[str, ...] = ACTIONS
    if wished.pool_id:
        within = tuple(OF_A_POOL)
    if wished.vm:
        within = tuple(OF_A_VM - {"create"})
    return all(
        allowed(held, action, wished.pool_id, wished.vm)
        for action in within
        if action in ROLE_ACTIONS[wished.role]
    )


def check(grant: Grant) -> Grant:
    """The grant, if it is one. Raises InvalidInput."""
    if grant.role not in ROLES:
        raise InvalidInput(
            f"there is no role {grant.role[:40]!r}", hint="one of: " + ", ".join(ROLES)
        )
    if grant.vm and not grant.pool_id:
        raise InvalidInput("a role on a VM needs its pool", hint="name the pool, too")
    if "*" in grant.vm[:-1] or grant.vm == "*":
        raise InvalidInput(
            f"{grant.vm[:80]!r} is no VM and no folder",
            hint="web-* is all VMs that begin with web-",
        )
    return grant
