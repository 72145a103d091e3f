"""What a guard that was killed hands to the next one: one small JSON file on a tmpfs.

Rules:
1. Replaced by rename: a reader sees the old state or the new one, never half of one.
2. It counts only within the boot that wrote it; another boot id means nothing runs and no term is
   known, so it is ignored.
3. A file that cannot be believed is reported and counts as no state: the guard then starts IDLE
   and kills whatever it finds, which is always safe.
4. If it cannot be written it is removed instead: no state is safer than an old one that says OPEN
   about a term that closed.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import OutlastError
from outlast.guard.facts import GuardTiming, Memory, Reading
from outlast.guard.killer import Entered
from outlast.model import GuardState

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class BadState(OutlastError):
    """The state file of an earlier guard cannot be believed."""

    code = "bad-state"


@dataclass(frozen=True, slots=True)
class Heritage:
    """Everything one guard leaves to the next."""

    boot_id: str
    memory: Memory
    ran_ns: int = -1
    members: tuple[Entered, ...] = ()


def boot_id() -> str:
    return BOOT_ID.read_text().strip()


def to_bytes(heritage: Heritage) -> bytes:
    memory = heritage.memory
    value = {
        "outlast_guard": 1,
        "boot_id": heritage.boot_id,
        "state": memory.state.value,
        "term": memory.term,
        "start": [memory.start.boot_ns, memory.start.raw_ns],
        "beat": [memory.beat.boot_ns, memory.beat.raw_ns],
        "timing": [
            memory.timing.fence_ns, memory.timing.kill_ns,
            memory.timing.margin_ns, memory.timing.watchdog_s,
        ],
        "watchdog_s": memory.watchdog_s,
        "reason": memory.reason,
        "closed_ns": memory.closed_ns,
        "closed_terms": list(memory.closed_terms),
        "reset_wanted": memory.reset_wanted,
        "quiesced_possible": memory.quiesced_possible,
        "unsafe_reset": memory.unsafe_reset,
        "drains": memory.drains,
        "undrained": [memory.undrained.boot_ns, memory.undrained.raw_ns]
        if memory.undrained
        else None,
        "stores": list(memory.stores),
        "ran_ns": heritage.ran_ns,
        "members": [[e.vm, e.pid, e.start_ticks] for e in heritage.members],
    }  # fmt: skip
    return json.dumps(value).encode()


def from_bytes(data: bytes) -> Heritage:
    """The inverse of to_bytes. Raises BadState on anything else."""
    try:
        value = json.loads(data)
        if value["outlast_guard"] != 1:
            raise ValueError("another format")
        memory = Memory(
            state=GuardState(value["state"]),
            term=str(value["term"]),
            start=Reading(*_ints(value["start"], 2)),
            beat=Reading(*_ints(value.get("beat", value["start"]), 2)),  # 0.1.0 knew one of them
            timing=GuardTiming(*_ints(value["timing"], 4)),
            watchdog_s=int(value["watchdog_s"]),
            reason=str(value["reason"]),
            closed_ns=int(value["closed_ns"]),
            closed_terms=tuple(str(term) for term in value["closed_terms"]),
            reset_wanted=value["reset_wanted"] is True,
            quiesced_possible=value["quiesced_possible"] is True,
            unsafe_reset=str(value["unsafe_reset"]),
            drains=value.get("drains") is True,  # 0.1.0 knew neither
            undrained=Reading(*_ints(value["undrained"], 2)) if value.get("undrained") else None,
            stores=tuple(str(name) for name in value.get("stores", ())),
        )
        members = tuple(Entered(str(vm), *_ints(rest, 2)) for vm, *rest in value["members"])
        return Heritage(str(value["boot_id"]), memory, int(value["ran_ns"]), members)
    except (ValueError, KeyError, TypeError) as trouble:
        raise BadState(f"the guard's state file cannot be believed: {trouble}") from None


def load(path: Path) -> Heritage | None:
    """The heritage of an earlier guard of this boot, or None.

    Raises BadState if there is one that cannot be believed.
    """
    try:
        heritage = from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as trouble:
        raise BadState(f"the guard's state file cannot be read: {trouble.strerror}") from None
    return heritage if heritage.boot_id == boot_id() else None


def save(path: Path, heritage: Heritage) -> str:
    """Write it down; "" or the reason why that failed (then the old one was removed, rule 4)."""
    fresh = path.with_suffix(".new")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, to_bytes(heritage))
        finally:
            os.close(fd)
        fresh.replace(path)
    except OSError as trouble:
        with contextlib.suppress(OSError):
            path.unlink()
        return f"the guard's state cannot be saved in {path}: {trouble.strerror}"
    return ""


def _ints(value: object, count: int) -> list[int]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{count} numbers expected")
    if not all(isinstance(number, int) for number in value):
        raise ValueError("whole numbers expected")
    return value
