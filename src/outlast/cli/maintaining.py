"""Commands about a host's service: what would move where, then the wish, then the wait.

Rules:
1. A person sees the plan before anything moves, and what cannot move and why. --yes skips the
   question; without a terminal there is none to ask, so --yes is required.
2. The wish stands on the storage: giving up the wait undoes nothing.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import typer

from outlast.cli.context import Options, say
from outlast.cli.moving import told
from outlast.cli.waiting import telling
from outlast.errors import InvalidInput, NotFound, OutlastError, PoolTrouble, TimedOut, Unreachable
from outlast.words import plural

if TYPE_CHECKING:
    from outlast.wire.client import AgentClient
    from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus

POLL_S = 0.5
SETTLED_S = 3.0  # a host may have no wish to move yet for each VM that is still there


def plan_of(client: AgentClient, status: PoolStatus, host: str) -> list[str]:
    """What its maintenance would do, in sentences.

    Raises NotFound, PoolTrouble when the policy refuses what the pool would not survive meanwhile.
    """
    from outlast.cli.plan import picture_now
    from outlast.placement.evacuate import evacuate, meanwhile

    names = [h.name for h in status.hosts]
    if host not in names:
        raise NotFound(f"there is no host '{host}' in this pool",
                       hint=f"its hosts: {', '.join(names)}")  # fmt: skip
    picture = picture_now(client)
    found = evacuate(picture, host)
    verdict = meanwhile(picture, found, host)
    verdict.enforce()
    warned = [verdict.warning] if verdict.warning else []
    lines = [f"  {move}" for move in found.moves]
    lines += [f"  {vm} stays: {why}" for vm, why in found.left]
    moves = plural(len(found.moves), "VM moves", "VMs move")
    head = f"{moves} away from {host}, {found.mib} MiB, "
    head += f"about {found.copy_s:.0f} s of copying"
    return [
        f"{head}:" if lines else f"{host} runs no VMs",
        *lines,
        *warned,
    ]


def ask(chosen: Options, lines: list[str], question: str, *, yes: bool) -> None:
    """Rule 1. Raises InvalidInput without an answer; a no ends the command."""
    if not chosen.json:
        for line in lines:
            say(line)
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput("nobody is there to ask", hint="--yes does it without a question")
    typer.confirm(question, abort=True)


def host_of(status: PoolStatus, name: str) -> HostStatus | None:
    return next((h for h in status.hosts if h.name == name), None)


def wait_empty(client: AgentClient, host: str, timeout_s: float, *, quiet: bool) -> list[VmStatus]:
    """Wait until nothing that can move is left on it; what stays, and why.

    Raises TimedOut.
    """
    until, since = time.monotonic() + timeout_s, 0.0
    trouble: OutlastError | None = None
    left: list[VmStatus] = []
    with telling(quiet) as tell:
        while True:
            try:
                left = [vm for vm in client.vms() if vm.host == host]
                trouble = None
            except (Unreachable, PoolTrouble) as error:
                trouble = error
            stuck = trouble is None and all(vm.move and vm.move.failed for vm in left)
            since = (since or time.monotonic()) if stuck else 0.0
            if stuck and (not left or time.monotonic() - since > SETTLED_S):
                return left
            if time.monotonic() > until:
                raise TimedOut(
                    f"{host} still has {len(left)} VMs after {timeout_s:g} s",
                    hint="the maintenance stands and the pool goes on; see 'outlast vm list'",
                )
            tell(trouble.sentence if trouble else "; ".join(told(vm) for vm in left))
            time.sleep(POLL_S)


def wait_off(client: AgentClient, host: str, timeout_s: float, *, quiet: bool) -> None:
    """Wait until the pool has seen it end. Raises TimedOut."""
    until = time.monotonic() + timeout_s
    with telling(quiet) as tell:
        while time.monotonic() < until:
            try:
                found = host_of(client.status(), host)
            except (Unreachable, PoolTrouble):
                return  # it was this host's own agent
            if found is None or found.state in {"closed", "silent", "absent"}:
                return
            tell(found.sentence)
            time.sleep(POLL_S)
    raise TimedOut(f"{host} is still there after {timeout_s:g} s", hint="outlast host list")


def wait_on(client: AgentClient, host: str, timeout_s: float, *, quiet: bool) -> None:
    """Wait until the pool has it back as a member. Raises TimedOut."""
    until, said = time.monotonic() + timeout_s, ""
    with telling(quiet) as tell:
        while time.monotonic() < until:
            try:
                found = host_of(client.status(), host)
                if found is not None and found.state == "member":
                    return
                said = found.sentence if found is not None else f"{host} is not there yet"
            except (Unreachable, PoolTrouble) as trouble:
                said = trouble.sentence
            tell(said)
            time.sleep(POLL_S)
    raise TimedOut(f"{host} is no member after {timeout_s:g} s: {said}",
                   hint="may its BIOS be woken over the network? switch it on by hand")  # fmt: skip
