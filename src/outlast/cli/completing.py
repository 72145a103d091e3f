"""What the shell may complete beside commands and options: names that the agent knows.

Rule: a shell that waits is worse than no name; without an answer in time nothing is offered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from outlast.errors import OutlastError

WAIT_S = 1.5


def vms(incomplete: str) -> list[str]:
    from outlast.wire.client import AgentClient

    try:
        found = AgentClient(os.environ.get("OUTLAST_AGENT", ""), timeout_s=WAIT_S).vms()
    except OutlastError:
        return []
    return _fitting((vm.name for vm in found), incomplete)


def hosts(incomplete: str) -> list[str]:
    from outlast.wire.client import AgentClient

    try:
        found = AgentClient(os.environ.get("OUTLAST_AGENT", ""), timeout_s=WAIT_S).status().hosts
    except OutlastError:
        return []
    return _fitting((host.name for host in found), incomplete)


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
