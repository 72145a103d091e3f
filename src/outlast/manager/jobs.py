"""How far long work on disks and images is, asked of the agent whose host carries it out.

Rules:
1. That agent alone knows how it stands. When it has forgotten, because it was started anew, the
   pool's library tells whether the work was finished.
2. An agent that is silent for SILENT_S takes its work with it. Before that, nothing is known, and
   nothing is said to have failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from outlast.errors import NotFound, OutlastError
from outlast.manager.outcome import DOUBT_S, Wish, done, failed
from outlast.manager.ports import Task
from outlast.wire.backups import BackupClient
from outlast.wire.client import AgentClient
from outlast.wire.disk_client import DiskClient
from outlast.wire.disks import JobStatus
from outlast.wire.images import ImageClient
from outlast.wire.templates import TemplateClient

SILENT_S = 120.0


@dataclass(frozen=True, slots=True)
class Kind:
    """ask: how it stands, as the agent says; there: is what was to be made there?"""

    ask: Callable[[AgentClient, Task, Wish], JobStatus]
    give_up: Callable[[AgentClient, Task, Wish], JobStatus]
    there: Callable[[AgentClient, Task, Wish], bool]
    made: str  # what it is once it is done
    again: str  # what to do when it was lost


KINDS = {
    "image-import": Kind(
        lambda c, task, _: ImageClient(c).importing(task.object),
        lambda c, task, _: ImageClient(c).give_up(task.object),
        lambda c, task, _: any(one.name == task.object for one in ImageClient(c).all()),
        "imported", "import it again: it goes on where it was",
    ),
    "template-of-vm": Kind(
        lambda c, _, wish: TemplateClient(c).making(wish.source),
        lambda c, _, wish: TemplateClient(c).give_up(wish.source),
        lambda c, task, _: any(one.name == task.object for one in TemplateClient(c).all()),
        "made", "make it again",
    ),
    "disk-move": Kind(
        lambda c, task, _: DiskClient(c).disk_move_status(task.object),
        lambda c, task, _: DiskClient(c).give_disk_move_up(task.object),
        lambda c, task, wish: (
            [disk.repository for disk in c.vm(task.object).disks][wish.count - 1 :][:1] == [wish.to]
        ),
        "where it shall be, with that disk", "its disk is where it was, whole; move it again",
    ),
    "backup": Kind(
        lambda c, task, _: DiskClient(c).backup_status(task.object),
        lambda c, task, _: DiskClient(c).give_up(task.object),
        lambda c, task, _: False,  # what lies in a host's folder, that host alone knows
        "backed up", "look into the folder: what stands there is whole; else make it again",
    ),
    "restore": Kind(
        lambda c, task, wish: BackupClient(c).restoring(task.object, wish.source),
        lambda c, task, wish: BackupClient(c).restore_no_more(task.object, wish.source),
        lambda c, task, _: any(vm.name == task.object for vm in c.vms()),
        "made", "make it again",
    ),
}  # fmt: skip


def follow(
    task: Task, wish: Wish, addresses: Iterable[str], client: Callable[[str], AgentClient],
    wall_s: float,
) -> tuple[Task, Wish]:  # fmt: skip
    """The task as it stands now. Blocks; for threads."""
    kind, known, silent = KINDS[task.verb], tuple(addresses), False
    for address in (wish.agent,) if wish.agent else known:
        try:
            status = kind.ask(client(address), task, wish)
            return _told(task, status), replace(wish, agent=address, heard_wall_s=wall_s)
        except NotFound:
            continue
        except OutlastError:
            silent = True
    there = _there(kind, task, wish, known, client)
    if there:
        return done(task, f"{task.object} is {kind.made}"), wish
    since_s = wall_s - max(task.started_wall_s, wish.heard_wall_s)
    if there is None or (silent and since_s < SILENT_S):
        return replace(task, sentence="the host that works on it does not answer"), wish
    if wish.doubt and since_s < DOUBT_S:
        return task, wish
    why = "does not answer any more" if silent else "was started anew meanwhile"
    return failed(task, f"the agent that worked on it {why}", kind.again), wish


def _told(task: Task, status: JobStatus) -> Task:
    if status.state == "done":
        return done(task, status.sentence)
    if status.state == "failed":
        return failed(task, status.sentence)
    share = status.done_bytes / status.total_bytes if status.total_bytes else None
    percent = None if share is None else min(99.0, 100.0 * share)
    return replace(task, sentence=status.sentence, percent=percent)


def _there(
    kind: Kind, task: Task, wish: Wish, addresses: Iterable[str],
    client: Callable[[str], AgentClient],
) -> bool | None:  # fmt: skip
    """None: nobody says."""
    for address in addresses:
        try:
            return kind.there(client(address), task, wish)
        except OutlastError:
            continue
    return None
