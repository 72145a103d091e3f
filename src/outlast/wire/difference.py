"""The status of a pool as what has changed since an answer before (pure).

    GET /v1/status?since=MARK      MARK: the `mark` of an answer that the caller still has

Rules:
1. `whole(before, difference(before, after))` shows what `after` shows; a caller that has no answer,
   or one that the agent has forgotten, gets the whole.
2. Of a host whose beat has another age and that is else as it was, only the age is told.
3. When a VM came up is worked out from two clocks and trembles: a second is no difference.
4. What did not change is the same object before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pydantic import Field

from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus

TREMBLES_S = 1.0

T = TypeVar("T", HostStatus, VmStatus)


class PoolNews(PoolStatus):
    """A status for callers that keep it, whole or as the difference to one before."""

    mark: str = ""  # of this answer
    since: str = ""  # mark of the answer that this is the difference to; "" = it is whole
    beats: dict[str, int | None] = Field(default={})  # ages of hosts that are else as they were
    gone_hosts: list[str] = Field(default=[])
    gone_vms: list[str] = Field(default=[])


def same_vm(old: VmStatus, new: VmStatus) -> bool:
    """True when nothing that is shown differs."""
    if old is new:
        return True
    before, after = old.__dict__, new.__dict__
    if before == after:
        return True
    then, now = old.since_wall_s, new.since_wall_s
    if then is None or now is None or abs(then - now) > TREMBLES_S:
        return False
    return {**after, "since_wall_s": then} == before


def difference(before: PoolNews, after: PoolNews) -> PoolNews:
    """`after`, without the VMs and hosts that are as they were."""
    hosts = {host.name: host for host in before.hosts}
    told, beats = [], {}
    for host in after.hosts:
        old = hosts.get(host.name)
        if old is None or not _same_host(old, host):
            told.append(host)
        elif old.beat_age_ms != host.beat_age_ms:
            beats[host.name] = host.beat_age_ms
    vms = {vm.name: vm for vm in before.vms}
    changed = [vm for vm in after.vms if (o := vms.get(vm.name)) is None or not same_vm(o, vm)]
    return after.model_copy(
        update={
            "hosts": told, "beats": beats, "gone_hosts": _gone(before.hosts, after.hosts),
            "vms": changed, "gone_vms": _gone(before.vms, after.vms), "since": before.mark,
        }
    )  # fmt: skip


def whole(before: PoolNews, change: PoolNews) -> PoolNews:
    """What the agent sees, from what it said before and what it says has changed since."""
    beats = change.beats
    hosts = [
        host.model_copy(update={"beat_age_ms": beats[host.name]}) if host.name in beats else host
        for host in before.hosts
    ]
    return change.model_copy(
        update={
            "hosts": _merged(hosts, change.hosts, change.gone_hosts, lambda host: host.slot),
            "vms": _merged(before.vms, change.vms, change.gone_vms, lambda vm: vm.name),
            "beats": {}, "gone_hosts": [], "gone_vms": [], "since": "",
        }
    )  # fmt: skip


def _same_host(old: HostStatus, new: HostStatus) -> bool:
    before, after = old.__dict__, new.__dict__
    return before == after or {**after, "beat_age_ms": old.beat_age_ms} == before


def _gone(before: Iterable[T], after: Iterable[T]) -> list[str]:
    left = {thing.name for thing in after}
    return [thing.name for thing in before if thing.name not in left]


def _merged(
    before: Sequence[T], changed: Sequence[T], gone: Sequence[str], key: Callable[[T], Any]
) -> list[T]:
    """In the order of an agent's answer."""
    if not changed and not gone:
        return list(before)
    anew = {thing.name: thing for thing in changed}
    known = {thing.name for thing in before}
    lost = set(gone)
    kept: list[T] = [anew.get(thing.name, thing) for thing in before if thing.name not in lost]
    added: list[T] = [thing for thing in changed if thing.name not in known]
    kept += added
    return sorted(kept, key=key) if added else kept
