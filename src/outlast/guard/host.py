"""The guard's part of the host file (/etc/outlast/host.json) and of the environment.

    reset            "watchdog" (default) | "sysrq" | "none": how this host may be reset
    watchdog         "off" | "automatic" (default) | "required"; the pool's own wish, which comes
                     with `open`, wins
    watchdog_device  default /dev/watchdog; "testing:<socket>" for a pretend one
    cgroup           path of the VMs' subtree; "" = <mount of cgroup v2>/outlast/vms

A missing file means the defaults: the guard runs before the host joins a pool. Unknown fields
belong to others and are ignored. OUTLAST_RUN and OUTLAST_ETC move the two folders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import InvalidInput
from outlast.guard.watchdog import MODES, RESETS


@dataclass(frozen=True, slots=True)
class HostPart:
    reset: str = "watchdog"
    watchdog: str = "automatic"
    watchdog_device: str = "/dev/watchdog"
    cgroup: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the guard finds and leaves things."""

    run: Path
    host_file: Path
    sysrq_trigger: Path = Path("/proc/sysrq-trigger")

    @property
    def socket(self) -> Path:
        return self.run / "guard.sock"

    @property
    def state(self) -> Path:
        return self.run / "guard.state"

    @property
    def lock(self) -> Path:
        return self.run / "guard.lock"


def places(environment: Mapping[str, str]) -> Places:
    run = Path(environment.get("OUTLAST_RUN") or "/run/outlast")
    return Places(run, Path(environment.get("OUTLAST_ETC") or "/etc/outlast") / "host.json")


def read(path: Path) -> HostPart:
    """The guard's part of the host file; the defaults if there is none.

    Raises InvalidInput naming what cannot be taken.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return HostPart()
    except (OSError, ValueError) as trouble:
        raise InvalidInput(f"the host file {path} cannot be read: {trouble}") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"the host file {path} is not an object")
    part = HostPart(
        _text(path, value, "reset", "watchdog", RESETS),
        _text(path, value, "watchdog", "automatic", MODES),
        _text(path, value, "watchdog_device", "/dev/watchdog"),
        _text(path, value, "cgroup", ""),
    )
    if part.cgroup and not part.cgroup.startswith("/"):
        raise InvalidInput(f"{path}: cgroup must be an absolute path")
    return part


def _text(
    path: Path, value: Mapping[str, object], name: str, default: str, known: tuple[str, ...] = ()
) -> str:
    text = value.get(name, default)
    if not isinstance(text, str):
        raise InvalidInput(f"{path}: {name} must be a text")
    if known and text not in known:
        raise InvalidInput(f"{path}: {name} must be one of {', '.join(known)}")
    return text or default
