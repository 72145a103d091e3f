"""Whether the pool has done what somebody wished, told from what it shows (pure).

Rules:
1. Only an answer that the pool gave after the wish counts; a stale pool settles nothing.
2. A wish that the pool keeps trying is not failed, however long it takes: the sentence says what it
   waits for. It fails when the pool gives up, or when somebody wishes the opposite meanwhile.
3. A wish whose way broke is looked for in the pool; not found within DOUBT_S, it has failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from outlast.manager.ports import Task
from outlast.readiness import emptying
from outlast.wire.shapes import HostStatus, MoveProgress, PoolStatus, VmStatus
from outlast.words import plural

DOUBT_S = 30.0
# done as soon as the pool has written it
AT_ONCE = (
    "ha", "pool-ha", "set", "pool-set", "power-on", "confirm-off", "host-leave", "host-remove",
    "drill",
    "network-create", "network-change", "network-remove", "storage-add", "storage-remove",
    "orphan-remove", "image-remove", "give-up", "template-create", "template-remove",
    "snapshot", "snapshot-revert", "snapshot-remove", "adopt", "schedule-set", "schedule-remove",
    "upgrade",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """What a task looks for; kept with it as JSON."""

    version: int = 0  # of the VM's record once the wish was in it; 0 = not known
    doubt: bool = False  # the way broke: whether it was taken is not known
    start: bool = False  # create: and then start it
    start_asked: bool = False  # that second wish was handed over
    source: str = ""  # migrate: the host it leaves; template-of-vm: the VM; restore: whose folder
    to: str = ""  # migrate: the host; disk-move: the storage
    count: int = 0  # maintain: VMs that were there at first; disk-move: which of its disks
    bring_back: bool = False
    agent: str = ""  # address of the one that took it
    heard_wall_s: float = 0.0  # of a job: when that one said last how far it is

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in Wish.__slots__}

    @staticmethod
    def of_json(value: Mapping[str, object]) -> Wish:
        known = {k: v for k, v in value.items() if k in Wish.__slots__}
        return Wish(**known)  # type: ignore[arg-type]


def judge(task: Task, wish: Wish, status: PoolStatus, wall_s: float) -> Task:
    """The task as the pool's newest answer shows it."""
    if task.done:
        return task
    host = next((h for h in status.hosts if h.name == task.object), None)
    vm = next((v for v in status.vms if v.name == task.object), None)
    if task.verb in ("maintain", "resume", "power-off"):
        judged = _judge_host(task, wish, status, host, wall_s)
    elif task.verb in AT_ONCE:
        judged = failed(task, task.sentence, task.hint) if wish.doubt else done(task, task.sentence)
    else:
        judged = _judge_vm(task, wish, vm)
    if judged.done:
        return replace(judged, ended_wall_s=wall_s)
    if wish.doubt and wall_s - task.started_wall_s > DOUBT_S and not _taken(task, vm, host):
        lost = failed(task, "the connection broke, and the pool shows no such wish")
        return replace(lost, ended_wall_s=wall_s, hint="wish it again")
    return judged


def _taken(task: Task, vm: VmStatus | None, host: HostStatus | None) -> bool:
    """Does the pool show that it took the wish?"""
    if task.verb == "create":
        return vm is not None
    if task.verb == "start":
        return vm is not None and vm.desired == "running"
    if task.verb in ("stop", "kill"):
        return vm is not None and vm.desired == "stopped"
    if task.verb == "migrate":
        return vm is not None and vm.move is not None
    if task.verb == "maintain":
        return host is not None and host.maintenance != ""
    return False


def _judge_vm(task: Task, wish: Wish, vm: VmStatus | None) -> Task:
    if vm is not None and vm.definition < wish.version and task.verb != "delete":
        return task  # the agent that answered has not seen the wish yet
    if task.verb == "delete":
        return done(task, f"{task.object} is deleted") if vm is None else task
    if vm is None:
        if task.verb == "create" or wish.doubt:
            return task
        return failed(task, f"{task.object} was deleted meanwhile")
    if task.verb == "create":
        if not wish.start:
            return done(task, f"{vm.name} is created")
        if not wish.start_asked:
            return replace(task, sentence=f"{vm.name} is created and will be started")
    return _JUDGES[task.verb](task, wish, vm)


def _started(task: Task, wish: Wish, vm: VmStatus) -> Task:
    if vm.state == "running":
        return done(task, vm.sentence)
    if vm.state == "down":
        return failed(task, vm.sentence, "outlast vm why " + vm.name)
    if vm.desired == "stopped" and not wish.doubt:
        return failed(task, "somebody wished to stop it meanwhile")
    return replace(task, sentence=vm.sentence)


def _stopped(task: Task, wish: Wish, vm: VmStatus) -> Task:
    if vm.state == "stopped":
        return done(task, vm.sentence)
    if vm.desired == "running" and not wish.doubt:
        return failed(task, "somebody wished to start it meanwhile")
    return replace(task, sentence=vm.sentence)


def _moved(task: Task, wish: Wish, vm: VmStatus) -> Task:
    move = vm.move
    if move is not None and move.failed:
        return failed(task, f"{vm.name} stays on {vm.host}: {move.failed}")
    if move is not None:
        sentence = f"{vm.name} moves from {vm.host or '?'} to {move.to or 'where there is room'}"
        return replace(task, sentence=sentence, percent=_percent(move.progress))
    if vm.host and vm.host != wish.source and wish.to in ("", vm.host):
        return done(task, f"{vm.name} runs on {vm.host} now")
    if wish.doubt:
        return task
    return failed(task, f"{vm.name} did not move; it is {vm.state} on {vm.host or 'no host'}")


def _stays(task: Task, wish: Wish, vm: VmStatus) -> Task:
    return done(task, f"{vm.name} stays on {vm.host}") if vm.move is None else task


_JUDGES = {
    "start": _started, "create": _started, "stop": _stopped, "kill": _stopped, "migrate": _moved,
    "stay": _stays,
}  # fmt: skip


def _percent(progress: MoveProgress | None) -> float | None:
    if progress is None or progress.total_bytes <= 0:
        return None
    return min(99.0, 100.0 * progress.done_bytes / progress.total_bytes)


def _judge_host(
    task: Task, wish: Wish, status: PoolStatus, host: HostStatus | None, wall_s: float
) -> Task:
    if host is None:
        return failed(task, f"{task.object} is no host of the pool any more")
    if task.verb == "maintain":
        late = wall_s - task.started_wall_s > DOUBT_S
        return _emptied(task, wish, status, host, late)
    if task.verb == "power-off":
        gone = host.state in ("closed", "absent", "leaving")
        return done(task, host.sentence) if gone else replace(task, sentence=host.sentence)
    if host.maintenance:
        return task
    away = [vm.name for vm in status.vms if vm.away_from == host.name]
    if wish.bring_back and away:
        coming = plural(len(away), "VM is", "VMs are")
        return replace(task, sentence=f"{coming} still to come back to {host.name}")
    return done(task, f"{host.name} is in service again")


def _emptied(task: Task, wish: Wish, status: PoolStatus, host: HostStatus, late: bool) -> Task:
    if not host.maintenance:
        # an agent may answer that has not read the wish yet; with a percentage, one had
        seen = task.percent is not None or late
        ended = failed(task, "somebody ended the maintenance meanwhile")
        return ended if seen and not wish.doubt else task
    here = emptying.on(host.name, status.vms)
    if not here:
        return done(task, f"{host.name} runs no VMs any more")
    stuck = [vm.name for vm in emptying.stuck(here)]
    sentence = emptying.told(host.name, here)
    if stuck:
        sentence += f"; {', '.join(stuck[:5])} could not move"
    total = max(wish.count, len(here))
    return replace(task, sentence=sentence, percent=100.0 * (total - len(here)) / total)


def done(task: Task, sentence: str) -> Task:
    """A task that has ended well."""
    return replace(task, phase="done", done=True, percent=100.0, sentence=sentence)


def failed(task: Task, sentence: str, hint: str = "") -> Task:
    """A task that has ended otherwise."""
    return replace(task, phase="failed", done=True, failed=True, sentence=sentence, hint=hint)
