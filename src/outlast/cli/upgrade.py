"""`outlast pool upgrade-check` and `outlast pool upgrade`: one version after the other, no outage.

Rules:
1. Hosts of two neighbouring versions mix. The pool speaks the protocol of the older one until a
   person says, when every host is upgraded, that it may speak the newer: there is no way back.
2. The check never changes anything. Its plan names the master last: each change of the master costs
   the pool a moment, and so it changes once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from outlast import __version__
from outlast.cli.context import options, print_json, say

if TYPE_CHECKING:
    from outlast.wire.shapes import HostStatus, PoolStatus

NOT_NOW = 1


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade finds: what is in the way, and which host comes next."""

    obstacles: tuple[str, ...]
    remarks: tuple[str, ...]
    order: tuple[str, ...]  # hosts that do not run the newest version yet


def number(version: str) -> tuple[int, ...]:
    """A version to compare; what is no number counts as nothing."""
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


def judge(status: PoolStatus, lost: Sequence[str], mine: str = __version__) -> Upgrade:
    """lost: what a failure of one host would leave down now, in sentences; mine: this version."""
    hosts = [h for h in status.hosts if h.state != "absent"]
    obstacles = [f"{h.name}: {h.sentence}" for h in hosts if h.state != "member"]
    if not status.master:
        obstacles.append("the pool has no master")
    if status.ha_off:
        obstacles.append(f"HA of the pool is switched off: {status.ha_off.why}")
    obstacles += [
        f"{vm.name} is on its way from {vm.host}"
        for vm in status.vms
        if vm.move and not vm.move.failed
    ]
    obstacles += lost
    newest = max([mine, *(h.version for h in hosts)], key=number)
    order = [h.name for h in sorted(hosts, key=lambda h: (h.master, h.name)) if _old(h, newest)]
    return Upgrade(tuple(obstacles), tuple(_remarks(status, hosts, newest)), tuple(order))


def _old(host: HostStatus, newest: str) -> bool:
    return host.version != newest or host.guard_version not in {"", host.version}


def _remarks(status: PoolStatus, hosts: Sequence[HostStatus], newest: str) -> list[str]:
    found = []
    for version, count in sorted(Counter(h.version or "not known" for h in hosts).items()):
        names = ", ".join(h.name for h in hosts if (h.version or "not known") == version)
        found.append(f"version {version}: {names} ({count} of {len(hosts)})")
    found += [
        f"{h.name}: its guard is {h.guard_version} still; it goes on so until it is restarted"
        for h in hosts
        if h.guard_version not in {"", h.version}
    ]
    gap = [h.name for h in hosts if h.version and _apart(h.version, newest)]
    if gap:
        found.append(f"more than one version behind {newest}: {', '.join(gap)}; go step by step")
    able = min((h.protocol for h in hosts), default=1)
    if able > status.protocol:
        found.append(
            f"the pool speaks protocol {status.protocol}, all hosts could speak {able}: "
            "'outlast pool upgrade' ends the upgrade"
        )
    return found


def _apart(one: str, other: str) -> bool:
    """More than neighbours: their first two numbers differ by more than one step."""
    a, b = ((*number(v), 0, 0) for v in (one, other))
    return a[0] != b[0] or abs(a[1] - b[1]) > 1


def upgrade_check(ctx: typer.Context) -> None:
    """May a host be upgraded now, and which one first? Exit code 0: yes; 1: not now.

    \b
    Then, host by host, in the order it names:
      apt install outlast           or however it is installed; VMs run on
      outlast pool upgrade-check    before the next one
    """
    from outlast.cli.plan import picture_now
    from outlast.errors import PoolTrouble
    from outlast.placement.spare import every

    chosen = options(ctx)
    client = chosen.client()
    status = client.status()
    try:
        lost = [f.sentence for f in every(picture_now(client)).values() if not f.survived]
    except PoolTrouble as trouble:
        lost = [trouble.sentence]
    found = judge(status, lost)
    if chosen.json:
        print_json({"ready": not found.obstacles, "obstacles": list(found.obstacles),
                    "remarks": list(found.remarks), "order": list(found.order)})  # fmt: skip
    else:
        for line in found.remarks:
            say(line)
        for line in found.obstacles:
            say(f"not now: {line}")
        if not found.obstacles:
            say(f"next: {' -> '.join(found.order)}" if found.order else "all hosts are up to date")
    if found.obstacles:
        raise typer.Exit(NOT_NOW)


def upgrade(ctx: typer.Context) -> None:
    """End an upgrade: from now on the pool speaks the newest protocol that all its hosts speak.

    Hosts of the older version cannot join after that.
    """
    chosen = options(ctx)
    done = chosen.client().upgrade()
    print_json(done) if chosen.json else say(done.sentence)
