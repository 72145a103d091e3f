"""What the kernel says is mounted, and whether it is what was wished. Pure.

Rules:
1. The last mount on a place counts: it hides those below.
2. Only options that a pool is not safe without are judged, and only where the kernel shows them:
   NFS and OCFS2 show theirs, FUSE does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from outlast.mounts.options import Choice, Option

_SHOWN = {
    "nfs": frozenset({"hard", "lookupcache", "acdirmin", "acdirmax"}),
    "ocfs2": frozenset({"coherency"}),
}
_SHOWN_AS = {"lookupcache=positive": "lookupcache=pos"}  # NFS takes both


@dataclass(frozen=True, slots=True)
class Mount:
    point: str
    fs_type: str
    source: str
    options: tuple[str, ...]


def read(mountinfo: str) -> list[Mount]:
    """All mounts in the words of /proc/self/mountinfo, in order."""
    found = []
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if not dash or len(fields) < 6 or len(rest) < 3:
            continue
        options = (*fields[5].split(","), *rest[2].split(","))
        found.append(Mount(_plain(fields[4]), rest[0], _plain(rest[1]), options))
    return found


def at(mounts: Sequence[Mount], path: str) -> Mount | None:
    """What is mounted exactly there."""
    return next((mount for mount in reversed(mounts) if mount.point == path), None)


def trouble(choice: Choice, path: str, mounts: Sequence[Mount]) -> str:
    """Why what is there is not what was wished; "" = it is. Options are judged by `lacking`."""
    found = at(mounts, path)
    if found is None:
        return f"nothing is mounted at {path}"
    wanted = {choice.fs_type, f"fuse.{choice.fs_type}", f"{choice.fs_type}4"}
    if found.fs_type not in wanted:
        return f"{path} is {found.fs_type}, not {choice.kind}"
    if "ro" in found.options[:1]:
        return f"{path} is read-only"
    # a device has many names, so it is not compared
    if choice.kind not in {"ocfs2", "gfs2"} and not _same(choice.source, found.source):
        return f"{path} is mounted from {found.source}, not from {choice.source}"
    return ""


def lacking(wished: Sequence[Option], fs_type: str, shown: Sequence[str]) -> list[str]:
    """Wished options that a mount must have and does not. fs_type: as the kernel calls it."""
    judged = _SHOWN.get(fs_type.removesuffix("4"), frozenset())
    must = [o.text for o in wished if o.name in judged]
    return [text for text in must if _SHOWN_AS.get(text, text) not in shown]


def _same(wished: str, shown: str) -> bool:
    """Of several servers that are wished, one is shown."""
    (servers, _, path), (server, _, shown_path) = wished.rpartition(":"), shown.rpartition(":")
    named = server == servers or server in servers.split(",")
    return named and path.strip("/") == shown_path.strip("/")


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)
