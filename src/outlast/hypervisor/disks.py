"""The port to the disks of VMs that run: snapshots and copies while they write (pure).

Promises:
1. `snapshot` keeps what all named disks hold at one moment, inside their own files; all of them
   have it afterwards, or none.
2. `backup` writes what the disks hold at the moment it begins, into new qcow2 files; the VM goes
   on. One at a time for each VM; what a process that died began is ended by the next one.
3. A mirror copies a disk into a file while the VM writes to both; the disk is the first one until
   `pivot`, and the second one alone after it. A mirror outlives whoever began it.
4. `freeze` has the systems inside bring their file systems to rest, and says whether they did; a VM
   is never left frozen: whoever froze it thaws it, and the port does so by itself after a while; a
   process that died in between does it when it begins again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from outlast.hypervisor.mover import Progress


class Copy(Protocol):
    """A backup under way."""

    def wait(self, limit_s: float) -> bool:
        """Wait for its end; True when it has ended."""

    @property
    def trouble(self) -> str:
        """Why it failed; "" when it worked or has not ended."""

    def progress(self) -> Progress: ...

    def abort(self) -> None:
        """Give up; the files are worth nothing then."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """How a mirror stands. level: all is copied, and from now on both get every write."""

    done_bytes: int
    total_bytes: int
    level: bool


class Disks(Protocol):
    """Of one host. All methods raise NotFound when the VM does not run here, LibvirtGone,
    HypervisorTrouble."""

    def freeze(self, name: str) -> bool:
        """False when no guest agent answers inside it."""

    def thaw(self, name: str) -> None:
        """Let file systems go on that were frozen; never raises."""

    def snapshot(self, name: str, paths: Sequence[str], snapshot: str) -> None:
        """Keep what these qcow2 disks hold now, under this name."""

    def drop_snapshot(self, name: str, paths: Sequence[str], snapshot: str) -> None:
        """Forget it; what is not there already is no trouble."""

    def backup(self, name: str, targets: Mapping[str, str], rate_bytes_s: int) -> Copy:
        """Copy disks, path -> file that is made; begun when it returns. rate: 0 = no limit.

        Raises Conflict while this process copies disks of it already.
        """

    def limit(self, name: str, rate_bytes_s: int) -> None:
        """How fast its copies and mirrors under way go from now on; 0 = no limit."""

    def files(self, name: str) -> Sequence[str]:
        """The files of its disks, as its QEMU has them now."""

    def mirror(self, name: str, path: str, target: str, kind: str, rate_bytes_s: int) -> None:
        """Begin to copy a disk into a file of this format, which is there and is empty."""

    def mirrored(self, name: str, path: str) -> Mirror | None:
        """How far it is; None when nothing mirrors this disk (any more)."""

    def give_up(self, name: str, path: str) -> None:
        """End a mirror; the VM goes on with the disk it has. Nothing happens when there is none."""

    def hold(self, name: str) -> None:
        """Stop the VM's processors, with all it wrote in its disks. It stays so until `go_on`."""

    def go_on(self, name: str) -> None:
        """Undo `hold`; a VM that runs is left as it is."""

    def pivot(self, name: str, path: str, target: str) -> None:
        """The target is the disk from now on. For a VM that is held, and whose mirror is level.

        Raises HypervisorTrouble when it is not known to be; look at `files` then.
        """
