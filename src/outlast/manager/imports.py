"""How far an import of an image is, asked of the agent whose host carries it out.

Rules:
1. That agent alone knows how it stands. When it has forgotten, because it was started anew, the
   pool's library tells whether the image was finished.
2. An agent that is silent for SILENT_S takes its import with it: wished again, it goes on where it
   was. Before that, nothing is known, and nothing is said to have failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from outlast.errors import NotFound, OutlastError
from outlast.manager.outcome import DOUBT_S, Wish, done, failed
from outlast.manager.ports import Task
from outlast.wire.client import AgentClient
from outlast.wire.images import ImageClient, ImportStatus

SILENT_S = 120.0
AGAIN = "import it again: it goes on where it was"


def follow(
    task: Task, wish: Wish, addresses: Iterable[str], client: Callable[[str], AgentClient],
    wall_s: float,
) -> tuple[Task, Wish]:  # fmt: skip
    """The task as it stands now. Blocks; for threads."""
    known, silent = tuple(addresses), False
    for address in (wish.agent,) if wish.agent else known:
        try:
            status = ImageClient(client(address)).importing(task.object)
            return _told(task, status), replace(wish, agent=address, heard_wall_s=wall_s)
        except NotFound:
            continue
        except OutlastError:
            silent = True
    there = _there(task.object, known, client)
    if there:
        return done(task, f"{task.object} is imported"), wish
    since_s = wall_s - max(task.started_wall_s, wish.heard_wall_s)
    if there is None or (silent and since_s < SILENT_S):
        return replace(task, sentence="the host that imports it does not answer"), wish
    if wish.doubt and since_s < DOUBT_S:
        return task, wish
    why = "does not answer any more" if silent else "was started anew meanwhile"
    return failed(task, f"the agent that imported it {why}", AGAIN), wish


def _told(task: Task, status: ImportStatus) -> Task:
    if status.state == "done":
        return done(task, status.sentence)
    if status.state == "failed":
        return failed(task, status.sentence)
    share = status.done_bytes / status.total_bytes if status.total_bytes else None
    percent = None if share is None else min(99.0, 100.0 * share)
    return replace(task, sentence=status.sentence, percent=percent)


def _there(
    name: str, addresses: Iterable[str], client: Callable[[str], AgentClient]
) -> bool | None:
    """Is there such an image? None: nobody says."""
    for address in addresses:
        try:
            return any(image.name == name for image in ImageClient(client(address)).all())
        except OutlastError:
            continue
    return None
