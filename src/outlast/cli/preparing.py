"""`outlast host prepare`: what libvirt and AppArmor must be told before VMs can start on a host.

Rules:
1. Only lines that are missing or different are written; the file before is kept beside it with the
   ending `.before-outlast`, once. What else stands in these files stays.
2. Nothing is touched before the person agreed to the list of changes.
3. It may be run again at any time: then there is nothing to do. Running VMs notice nothing.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast.cli.machine import LIBVIRT_FOR_TPMS, LIBVIRT_WANTED, QEMU_CONF
from outlast.errors import HypervisorTrouble, NotFound, StorageTrouble
from outlast.wire.files import write_file

SETTINGS = {**LIBVIRT_WANTED, **LIBVIRT_FOR_TPMS}
RULE = "/var/lib/outlast/qemu PUx,"
PROFILE = Path("etc/apparmor.d/usr.sbin.libvirtd")
LOCAL_RULES = Path("etc/apparmor.d/local/usr.sbin.libvirtd")
KEPT = ".before-outlast"


@dataclass(frozen=True, slots=True)
class Edit:
    """One file as it shall be."""

    path: Path
    text: str
    why: str
    after: tuple[str, ...] = ()  # the command that makes it count; () = somebody else does


def plan(root: Path = Path("/")) -> list[Edit]:
    """What has to change on this machine; [] = nothing. Raises NotFound without libvirt."""
    conf = root / QEMU_CONF
    try:
        before = conf.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(
            f"there is no {conf}: libvirt is not installed",
            hint="apt-get install libvirt-daemon-system qemu-system-x86 qemu-utils",
        ) from None
    edits = []
    wanted = with_settings(before)
    if wanted != before:
        lines = ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())
        edits.append(Edit(conf, wanted, f"QEMU starts through the guard: {lines}",
                          ("systemctl", "try-restart", "libvirtd")))  # fmt: skip
    if (root / PROFILE).exists():
        rules = root / LOCAL_RULES
        known = rules.read_text(encoding="utf-8") if rules.exists() else ""
        if RULE not in known:
            why = f"libvirtd may start the guard's wrapper: {RULE}"
            edits.append(Edit(rules, f"{known.rstrip()}\n{RULE}\n".lstrip(), why,
                              ("apparmor_parser", "-r", str(root / PROFILE))))  # fmt: skip
    return edits


def with_settings(text: str) -> str:
    """qemu.conf with the lines that the guard needs; its other lines stay as they are."""
    lacking = dict(SETTINGS)
    lines: list[str] = []
    inside = False  # a list of ours that goes on over several lines
    for line in text.splitlines():
        if inside:
            inside = "]" not in line
            continue
        match = re.match(r"\s*([a-z_]+)\s*=(.*)", line)
        if match is None or match[1] not in SETTINGS:
            lines.append(line)
            continue
        inside = "[" in match[2] and "]" not in match[2]
        if match[1] in lacking:  # a second one of this name is left out: it would win over ours
            lines.append(f"{match[1]} = {lacking.pop(match[1])}")
    if lacking:
        lines += ["", "# for Outlast: QEMU starts through its guard, which then owns the VM"]
        lines += [f"{name} = {value}" for name, value in lacking.items()]
    return "\n".join(lines) + "\n"


def carry_out(edits: Sequence[Edit]) -> list[str]:
    """Write them and make them count; notes about what could not be made to count.

    Raises StorageTrouble when a file cannot be written, HypervisorTrouble when a service refuses.
    """
    notes = []
    for edit in edits:
        try:
            edit.path.parent.mkdir(parents=True, exist_ok=True)
            kept = edit.path.with_name(edit.path.name + KEPT)
            mode = 0o644
            if edit.path.exists():
                mode = edit.path.stat().st_mode & 0o777
                if not kept.exists():
                    write_file(kept, edit.path.read_bytes(), mode)
            write_file(edit.path, edit.text.encode(), mode)
        except OSError as error:
            raise StorageTrouble(f"{edit.path}: {error.strerror}", hint="run it as root") from error
        notes += _make_count(edit.after) if edit.after else []
    return notes


def _make_count(argv: tuple[str, ...]) -> list[str]:
    said = " ".join(argv)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return [f"there is no {argv[0]} here; what was written counts after a reboot"]
    except subprocess.TimeoutExpired:
        raise HypervisorTrouble(f"'{said}' does not end", hint="run it by hand") from None
    if not done.returncode:
        return []
    if argv[0] == "systemctl" and not Path("/run/systemd/system").is_dir():
        return [f"systemd does not run here; restart {argv[-1]} another way"]
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    raise HypervisorTrouble(f"'{said}' failed: {lines[-1]}", hint="run it by hand")
