"""What is on a block device? Asked before anything is written to it; changes nothing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.errors import Conflict, InvalidInput, NotFound, StorageTrouble

LIMIT_S = 20


@dataclass(frozen=True, slots=True)
class OnDevice:
    size_bytes: int
    model: str
    signatures: tuple[str, ...]  # in words: ocfs2 'pool', gpt
    in_use: str  # why it must be left alone on this machine; "" = nothing uses it

    @property
    def sentence(self) -> str:
        what = ", ".join(self.signatures) or "nothing that is known"
        model = f", {self.model}" if self.model else ""
        return f"{self.size_bytes / 2**30:.1f} GiB{model}; on it: {what}"


def look(device: str) -> OnDevice:
    """Raises NotFound, InvalidInput for what is no block device, StorageTrouble."""
    path = Path(device)
    try:
        mode = path.stat().st_mode
    except OSError:
        raise NotFound(f"there is no device {device}", hint="lsblk; iscsiadm -m session") from None
    if not stat.S_ISBLK(mode):
        raise InvalidInput(f"{device} is no block device")
    columns = ("--json", "--bytes", "--output", "NAME,SIZE,MODEL,MOUNTPOINTS,TYPE", device)
    (disk,) = json.loads(_run("lsblk", *columns))["blockdevices"]
    found = json.loads(_run("wipefs", "--json", "--no-act", device) or "{}").get("signatures", [])
    return OnDevice(
        int(disk["size"]), str(disk.get("model") or "").strip(),
        tuple(_named(one) for one in found), _in_use(disk, path),
    )  # fmt: skip


def check_free(device: str, found: OnDevice) -> None:
    """Raises Conflict when it must not be made anew, here or because another host has it."""
    if found.in_use:
        raise Conflict(f"{device} is in use: {found.in_use}", hint="unmount it first")
    if any(one.startswith("ocfs2") for one in found.signatures):
        said = _run("mounted.ocfs2", "-f", device).splitlines()
        hosts = said[-1].split(None, 3)[-1] if len(said) > 1 else ""
        if hosts not in {"Not mounted", ""}:
            raise Conflict(f"{device} is mounted by {hosts}", hint="unmount it there first")


def _named(one: dict[str, Any]) -> str:
    label = f" '{one['label']}'" if one.get("label") else ""
    return f"{one['type']}{label}"


def _in_use(disk: dict[str, Any], path: Path) -> str:
    points = [point for point in disk.get("mountpoints") or [] if point]
    if points:
        return f"it is mounted at {points[0]}"
    if disk.get("children"):
        return f"it holds {disk['children'][0]['name']} ({disk['children'][0]['type']})"
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return f"another program has it ({error.strerror})"
    return ""


def _run(*argv: str) -> str:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=LIMIT_S, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        raise NotFound(f"there is no {argv[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise StorageTrouble(f"'{' '.join(argv)}' does not end: does the device answer?") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it failed"]
        raise StorageTrouble(f"'{' '.join(argv)}': {said[-1]}")
    return done.stdout
