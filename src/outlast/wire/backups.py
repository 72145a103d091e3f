"""Shapes and calls of the agent's API about VMs out of backups, and backups made by themselves."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from pydantic import Field

from outlast.wire.client import AgentClient
from outlast.wire.disks import JobStatus, Quiesce
from outlast.wire.shapes import Answer, PoolWish, Request, parse, parse_list

PATH_MAX = 4096


class RestoreWish(Request):
    """A new VM out of one backup; its name stands in the path."""

    folder: str = Field(min_length=1, max_length=PATH_MAX)  # where vm.json is, absolute
    storage: str = Field(default="", max_length=63)  # a repository; "" = the pool's own storage
    rate_bytes_s: int = Field(default=48 << 20, ge=0)


class RestoreStatus(JobStatus):
    vm: str  # the new one
    of: str = ""  # the VM that was backed up


class ScheduleWish(Request):
    """When a VM is backed up by itself: a time of the day, or a pause between two."""

    folder: str = Field(min_length=1, max_length=PATH_MAX)  # the same on every host
    at: str = Field(default="", max_length=5)  # HH:MM by the clock of the VM's host
    every_s: int = Field(default=0, ge=0)
    keep: int = Field(default=7, ge=1, le=10_000)
    quiesce: Quiesce = "auto"


class ScheduleInfo(Answer):
    vm: str
    folder: str
    at: str = ""
    every_s: int = 0
    keep: int = 7
    quiesce: str = "auto"
    since_wall_s: int = 0  # when it was set
    last_wall_s: int = 0  # when the last one was begun; 0 = none was
    good_wall_s: int = 0  # when the last good one was begun
    said: str = ""  # how the last one ended


class BackupClient:
    """Through one agent; see client.py for the promises."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def restore(self, vm: str, wish: RestoreWish, host: str = "") -> RestoreStatus:
        """Begin it. host: whose folder it is; "" = that of the agent that answers.

        Raises NotFound, Conflict, InvalidInput, StorageTrouble for a backup that is damaged.
        """
        raw = wish.model_dump_json(exclude_unset=True).encode()
        return parse(RestoreStatus, self._client.call("POST", _restore(vm, host), raw))

    def restoring(self, vm: str, host: str = "") -> RestoreStatus:
        """Raises NotFound when none was begun."""
        return parse(RestoreStatus, self._client.call("GET", _restore(vm, host)))

    def restore_no_more(self, vm: str, host: str = "") -> RestoreStatus:
        """Break it off. Raises NotFound."""
        return parse(RestoreStatus, self._client.call("DELETE", _restore(vm, host)))

    def schedules(self) -> list[ScheduleInfo]:
        """By VM. Raises StorageTrouble."""
        return parse_list(ScheduleInfo, self._client.call("GET", "/v1/schedules"))

    def schedule(self, vm: str, wish: ScheduleWish) -> PoolWish:
        """Raises NotFound, InvalidInput."""
        raw = wish.model_dump_json(exclude_unset=True).encode()
        return parse(PoolWish, self._client.call("PUT", _schedule(vm), raw))

    def unschedule(self, vm: str) -> PoolWish:
        """Raises NotFound when it has none."""
        return parse(PoolWish, self._client.call("DELETE", _schedule(vm)))


def at_host(host: str) -> str:
    """The end of a path that is said to one host; "" = to whoever answers."""
    return "?" + urlencode({"host": host}) if host else ""


def _restore(vm: str, host: str) -> str:
    return f"/v1/vms/{quote(vm, safe='')}/restore{at_host(host)}"


def _schedule(vm: str) -> str:
    return f"/v1/vms/{quote(vm, safe='')}/schedule"
