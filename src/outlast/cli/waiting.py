"""Waits until the pool has done what was wished, and says meanwhile what happens.

Rules:
1. A wish is durable when it was taken; giving up the wait undoes nothing, and the error says so.
2. An agent that is away for a while (restart, upgrade) is waited for like everything else.
3. On a terminal the newest sentence stands beside a bar, which shows how far it is when the
   sentence ends so: "... 40 %"; elsewhere each new sentence is a line on stderr. With --json
   nothing is shown. Before the first sentence there is no bar: somebody may be asked for a
   token then, and a bar would be drawn over the question.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from outlast.cli.context import stderr, warn
from outlast.errors import (
    NotFound,
    OutlastError,
    PoolTrouble,
    StorageTrouble,
    TimedOut,
    Unreachable,
)
from outlast.wire.client import AgentClient
from outlast.wire.disks import JobStatus
from outlast.wire.shapes import PoolStatus, VmStatus

POLL_S = 0.25
PERCENT = re.compile(r" (\d{1,3}) %$")

Tell = Callable[[str], None]
S = TypeVar("S", bound=JobStatus)


@contextmanager
def telling(quiet: bool) -> Iterator[Tell]:
    """A way to say what happens meanwhile."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _drawn() as tell:
            yield tell
    else:
        said = [""]

        def tell(text: str) -> None:
            if text != said[0]:
                said[0] = text
                warn(text)

        yield tell


@contextmanager
def _drawn() -> Iterator[Tell]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = BarColumn(bar_width=24), TextColumn("{task.description}", markup=False)
    bars = Progress(*columns, console=stderr(), transient=True)
    only = bars.add_task("", total=None)

    def tell(text: str) -> None:
        far = PERCENT.search(text)
        bars.update(only, description=text)
        if far is not None:
            bars.update(only, total=100, completed=int(far[1]))
        bars.start()

    try:
        yield tell
    finally:
        bars.stop()


def follow(
    begin: Callable[[], object], status: Callable[[], S], give_up: Callable[[], object], tell: Tell
) -> S:
    """Begin work on disks and follow it to its end. Raises StorageTrouble when it failed.

    Ctrl-C breaks it off, from the moment on at which it may have begun. Without its agent nobody
    knows how it stands, so rule 2 does not hold for it.
    """
    try:
        begin()
        while True:
            now = status()
            if now.state == "done":
                return now
            if now.state == "failed":
                raise StorageTrouble(now.sentence)
            percent = f" {20 * now.done_bytes // now.total_bytes * 5} %" if now.total_bytes else ""
            tell(f"{now.sentence}{percent}")
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        with suppress(NotFound):  # it had not begun
            give_up()
        raise


def wait_for_vms(
    client: AgentClient, names: Sequence[str], states: frozenset[str], timeout_s: float, tell: Tell
) -> list[VmStatus]:
    """Wait until each VM is in one of these states; their last status, in the order asked.

    Raises TimedOut, NotFound when one was deleted meanwhile, PoolTrouble when one that should run
    is held down.
    """
    until = time.monotonic() + timeout_s
    trouble: OutlastError | None = None
    while True:
        try:
            known = {vm.name: vm for vm in client.vms()}
            trouble = None
        except (Unreachable, PoolTrouble) as error:
            known, trouble = {}, error
        if trouble is None:
            found = [known[name] for name in names if name in known]
            if len(found) < len(names):
                missing = next(name for name in names if name not in known)
                raise NotFound(f"'{missing}' was deleted meanwhile")
            open_ = [vm for vm in found if vm.state not in states]
            if not open_:
                return found
            for vm in open_:
                if vm.state == "down":
                    raise PoolTrouble(
                        f"{vm.name}: {vm.sentence}", hint=f"outlast vm show {vm.name}"
                    )
            tell("; ".join(f"{vm.name}: {vm.sentence}" for vm in open_))
        else:
            tell(trouble.sentence)
        if time.monotonic() > until:
            raise _late(timeout_s, trouble, [] if trouble else open_)
        time.sleep(POLL_S)


def wait_for_host(client: AgentClient, host: str, timeout_s: float, tell: Tell) -> PoolStatus:
    """Wait until this host's own agent says that it is a member. Raises TimedOut."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            status = client.status()
            mine = next((h for h in status.hosts if h.answering and h.name == host), None)
            if mine is not None and mine.state == "member":
                return status
            meanwhile = sentence = mine.sentence if mine is not None else status.sentence
        except Unreachable as error:  # no trouble yet: it was only just started
            meanwhile, sentence = f"waiting for the agent of {host}", error.sentence
        tell(meanwhile)
        if time.monotonic() > until:
            raise TimedOut(
                f"{host} has joined, but is no member after {timeout_s:g} s: {sentence}",
                hint="do outlast-guard, outlast-pulse and outlast-agent run? see 'outlast status'",
            )
        time.sleep(POLL_S)


def _late(timeout_s: float, trouble: OutlastError | None, vms: list[VmStatus]) -> OutlastError:
    if trouble is not None:
        return TimedOut(f"after {timeout_s:g} s still: {trouble.sentence}", hint=trouble.hint)
    what = "; ".join(f"{vm.name}: {vm.sentence}" for vm in vms)
    return TimedOut(
        f"not done after {timeout_s:g} s: {what}",
        hint="the wish stands and the pool goes on; see 'outlast vm list'",
    )
