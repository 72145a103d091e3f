"""Waits until VMs have moved, and shows how far they are.

Rules:
1. A wish to move stands on the storage; giving up the wait undoes nothing, and the error says so.
2. On a terminal each VM has a bar; elsewhere what changes is a line on stderr. With --json nothing
   is shown before the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from outlast.cli.context import stderr, warn
from outlast.errors import NotFound, OutlastError, PoolTrouble, TimedOut, Unreachable
from outlast.wire.client import AgentClient
from outlast.wire.shapes import MoveStatus, VmStatus, VmWish

Wished = Mapping[str, tuple[str, int]]  # VM -> where it was, and the version of the wish
POLL_S = 0.25
MIB = 1 << 20


def wished(client: AgentClient, names: Iterable[str], to: str = "") -> tuple[Wished, list[VmWish]]:
    """Wish that these VMs move. Raises Conflict, NotFound, BadField at the first that cannot."""
    before = {vm.name: vm.host for vm in client.vms()}
    done = [client.migrate(name, to) for name in dict.fromkeys(names)]
    return {wish.name: (before.get(wish.name, ""), wish.version) for wish in done}, done


def wait_for_moves(
    client: AgentClient, before: Wished, timeout_s: float, *, quiet: bool
) -> list[VmStatus]:
    """Wait until no VM has a wish to move left.

    Raises PoolTrouble naming those that did not move and why, TimedOut, NotFound.
    """
    show = _quiet if quiet else _bars() if sys.stderr.isatty() else _lines()
    until = time.monotonic() + timeout_s
    trouble: OutlastError | None = None
    waiting: list[VmStatus] = []
    try:
        while True:
            try:
                known = {vm.name: vm for vm in client.vms()}
                trouble = None
            except (Unreachable, PoolTrouble) as error:
                known, trouble = {}, error
            if trouble is None:
                found = _all(before, known)
                show(found)
                waiting = [vm for vm in found if _open(vm, before[vm.name][1])]
                if not waiting:
                    return _done(before, found)
            if time.monotonic() > until:
                what = trouble.sentence if trouble else "; ".join(vm.sentence for vm in waiting)
                raise TimedOut(
                    f"not done after {timeout_s:g} s: {what}",
                    hint="the wish stands; see 'outlast vm list', or take it back with --cancel",
                )
            time.sleep(POLL_S)
    finally:
        show([])


def _open(vm: VmStatus, version: int) -> bool:
    """The wish stands, or the agent that answers has not seen it yet, or the VM is just landing."""
    if vm.definition < version:
        return True
    return not vm.move.failed if vm.move else vm.state == "paused"


def _all(names: Wished, known: Mapping[str, VmStatus]) -> list[VmStatus]:
    for name in names:
        if name not in known:
            raise NotFound(f"'{name}' was deleted meanwhile")
    return [known[name] for name in names]


def _done(before: Wished, found: Sequence[VmStatus]) -> list[VmStatus]:
    failed = [f"{vm.name}: {vm.move.failed}" for vm in found if vm.move and vm.move.failed]
    if failed:
        raise PoolTrouble(
            "; ".join(failed), hint="the VM runs on where it was; see 'outlast vm show'"
        )
    stayed = [vm.name for vm in found if vm.host == before[vm.name][0]]
    if stayed:
        raise PoolTrouble(f"{', '.join(stayed)}: the wish to move was taken back")
    return list(found)


def told(vm: VmStatus) -> str:
    """How far a move is, in a sentence."""
    move = vm.move
    if move is None:
        return f"{vm.name}: it is on {vm.host}"
    if move.failed:
        return f"{vm.name}: {move.failed}"
    if not move.under_way:
        return f"{vm.name}: waits for its turn"
    return f"{vm.name}: {vm.host} to {move.to}{_detail(move)}"


def _detail(move: MoveStatus) -> str:
    p = move.progress
    if p is None or not p.total_bytes:
        return ""
    return (
        f", {(p.total_bytes - p.left_bytes) * 100 // p.total_bytes} % of "
        f"{p.total_bytes / MIB:.0f} MiB, {p.rate_bytes_s / MIB:.0f} MiB/s, "
        f"changed at {p.dirty_bytes_s / MIB:.0f} MiB/s, pause {p.downtime_ms} ms"
    )


Show = Callable[[Sequence[VmStatus]], None]


def _quiet(_: Sequence[VmStatus]) -> None:
    """Nothing is shown."""


def _lines() -> Show:
    said: dict[str, str] = {}

    def show(vms: Sequence[VmStatus]) -> None:
        for vm in vms:
            text = told(vm)
            if said.get(vm.name) != text:
                said[vm.name] = text
                warn(text)

    return show


def _bars() -> Show:
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    bars = Progress(BarColumn(), TextColumn("{task.description}"), console=stderr())
    tasks: dict[str, TaskID] = {}
    bars.start()

    def show(vms: Sequence[VmStatus]) -> None:
        for vm in vms:
            if vm.name not in tasks:
                tasks[vm.name] = bars.add_task("", total=1.0)
            p = vm.move.progress if vm.move else None
            share = 1 - p.left_bytes / p.total_bytes if p and p.total_bytes else 0.0
            done = 1.0 if vm.move is None else share
            bars.update(tasks[vm.name], completed=done, description=told(vm).replace("[", r"\["))
        if not vms:
            bars.stop()

    return show
