"""Which wishes can be taken back while they are on their way, and how.

Rules:
1. Taking back is a wish of its own, with its own task, its line of the audit, and its own right.
2. What cannot be taken back says so, with what to do instead. Nothing is taken back half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from outlast.errors import Conflict
from outlast.manager import jobs
from outlast.manager.outcome import Wish
from outlast.manager.ports import Task
from outlast.wire.client import AgentClient
from outlast.wire.shapes import HostWish, PoolWish, VmWish


@dataclass(frozen=True, slots=True)
class Cancel:
    """How a wish of one kind is taken back."""

    action: str  # the right for it
    verb: str  # of the task that this is
    after: str  # what is so then, for the audit
    ask: Callable[[AgentClient, Task, Wish], VmWish | HostWish | PoolWish]
    of_vm: bool = False  # is the right asked for of the VM?
    same_agent: bool = False  # only the agent that took the wish knows of it


def _job(kind: str, action: str, *, of_vm: bool = False) -> Cancel:
    def ask(c: AgentClient, task: Task, wish: Wish) -> PoolWish:
        jobs.KINDS[kind].give_up(c, task, wish)
        return PoolWish(changed=True, sentence=f"the work on {task.object} is broken off")

    return Cancel(action, "give-up", "broken off", ask, of_vm, same_agent=True)


CANCELS = {
    "migrate": Cancel(
        "migrate", "stay", "stays there", lambda c, task, _: c.stay(task.object), of_vm=True
    ),
    "start": Cancel(
        "stop", "stop", "off", lambda c, task, _: c.stop(task.object), of_vm=True
    ),
    "maintain": Cancel(
        "resume", "resume", "in service", lambda c, task, _: c.serve(task.object)
    ),
    "image-import": _job("image-import", "images"),
    "template-of-vm": _job("template-of-vm", "images"),
    "disk-move": _job("disk-move", "migrate", of_vm=True),
    "backup": _job("backup", "backup", of_vm=True),
    "restore": _job("restore", "backup"),
}  # fmt: skip
INSTEAD = {
    "stop": "the system inside shuts down already; start it again",
    "kill": "it cannot be undone; start it again",
    "create": "delete the VM when it is there",
    "delete": "it cannot be undone; restore a backup",
    "resume": "its VMs move back one by one; cancel the moves, or maintain it again",
    "power-off": "it cannot be undone; power it on again",
    "confirm-off": "if it writes again, the pool takes the word back by itself",
    "drill": "the failure takes place already; it ends by itself",
    "adopt": "libvirt's definition of it is kept; the answer of 'vm adopt' names the file",
    "upgrade": "there is no way back",
    "snapshot-revert": "it cannot be undone; restore a backup",
    "stay": "migrate it again",
}


def cancel_of(task: Task) -> Cancel:
    """Raises Conflict when it has ended, or cannot be taken back."""
    if task.done:
        raise Conflict(f"it has ended: {task.sentence}")
    found = CANCELS.get(task.verb)
    if found is None:
        hint = INSTEAD.get(task.verb, "it is done in a moment; wish the opposite then")
        raise Conflict(f"a task '{task.verb}' cannot be cancelled", hint=hint)
    return found
