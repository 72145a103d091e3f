"""What a wish may name: hosts of this pool, and disks that no other VM has.

Rule: a host that knows nothing of the pool yet (facts None) refuses nothing by what it knows.
"""

from __future__ import annotations

from outlast.agent import images
from outlast.errors import Conflict
from outlast.pool.facts import Facts
from outlast.storage.names import check_name
from outlast.wire.shapes import BadField, VmChange


def check_preferred(names: list[str], facts: Facts | None) -> None:
    for name in names:
        check_host(name, "preferred", facts)


def check_hosts(change: VmChange, facts: Facts | None) -> None:
    for field, hosts in (("preferred", change.preferred), ("likes", change.likes)):
        for host in hosts or []:
            check_host(host, field, facts)


def check_host(name: str, field: str, facts: Facts | None) -> None:
    check_name(name, "host name")
    hosts = {record.host for record in facts.slots.values() if record.active} if facts else {name}
    if name not in hosts:
        known = ", ".join(sorted(hosts)) or "none"
        raise BadField(
            f"{field}: there is no host '{name}' in this pool",
            hint=f"its hosts: {known}",
            field=field,
        )


def check_unshared(planned: list[images.Planned], facts: Facts | None) -> None:
    for other, held in facts.vms.items() if facts else ():
        if held.value.deleted:
            continue
        for disk in held.value.spec.disks:
            if any(item.disk.path == disk.path for item in planned):
                raise Conflict(f"the disk {disk.path} belongs to the VM '{other}'")
