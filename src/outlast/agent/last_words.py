"""What this host said last before it went down: the agent's next life tells it.

Rules:
1. One small file, replaced whole, written by a thread: at once when the guard's state or its
   reason, the storage's or the number of VMs changes, else every KEEP_S. Nothing waits for it and
   no trouble with it matters.
2. Another boot than the file's means that the host went down in between. Why is told from the
   file alone: the guard closed, the storage was away, or nothing was amiss (power, reset, crash).
3. An agent that was asked to stop takes leave; a host that then goes down has nothing to explain.
4. The same boot and another term, or none: the guard ended the VMs while no agent was there. That
   is told too, when the guard has been heard.
5. A drill that takes the host down is its last word: nothing that comes after it is kept.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from outlast.model import GuardState
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.settings import S, Timing
from outlast.words import plural

KEEP_S = 5.0
MARKED = ("state", "reason", "good", "vms", "farewell", "drill")
NEW_TERM = "a new term is open since, and journalctl -u outlast-guard says why the old one ended"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
Words = Mapping[str, object]


class LastWords:
    def __init__(self, path: Path, host: str, boot: str = "") -> None:
        self._path, self._host = path, host
        self._boot = boot or _boot_id()
        self._before: Words | None = None  # of a life in this boot, until the guard is heard
        self._newest: Words | None = None
        self._written: tuple[object, float] = (None, 0.0)
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="last-words", daemon=True)

    def begin(self) -> list[Note]:
        """What the last life of this host has to explain, once; then the file is kept anew."""
        found = load(self._path)
        self._thread.start()
        if found is not None and found.get("boot") == self._boot:
            self._before = found
        if found is None or found.get("farewell") or self._before is not None:
            return []
        ago_s = max(0.0, time.time() - _number(found, "wall_s"))
        return [note("guard-ended", host=self._host, ago_s=ago_s, why=post_mortem(found))]

    def keep(self, facts: Facts, timing: Timing, reason: str) -> list[Note]:
        """Remember this moment; what there is to explain, once.

        reason: the guard's own word about its state.
        """
        guard, told = facts.guard, self._between(facts, reason)
        if self._newest and self._newest.get("drill"):  # rule 5
            young = time.time() - _number(self._newest, "wall_s") < KEEP_S
            if young or guard.state is not GuardState.OPEN:
                return told
        self._newest = {
            "boot": self._boot, "wall_s": round(time.time(), 3), "state": guard.state.value,
            "term": guard.term, "reason": reason, "remaining_s": guard.remaining_ns / S,
            "unconfirmed_s": (timing.fence_ns - guard.remaining_ns) / S,
            "vms": len(facts.local), "good": facts.sample.good,
        }  # fmt: skip
        self._wake.set()
        return told

    def _between(self, facts: Facts, reason: str) -> list[Note]:
        """Rule 4."""
        before, guard = self._before, facts.guard
        if before is None or not facts.local_ready:
            return []
        self._before = None
        vms, opened = int(_number(before, "vms")), guard.state is GuardState.OPEN
        goes_on = opened and before.get("term") in (None, guard.term)
        if goes_on or not vms or before.get("state") != GuardState.OPEN.value:
            return []
        why = NEW_TERM if opened else reason
        return [note("term-ended", host=self._host, vms=f"{vms} VM{'s' * (vms > 1)}", why=why)]

    def drill(self, kind: str) -> None:
        """A drill of this kind begins here and may take the host down."""
        self._newest = {**(self._newest or {}), "boot": self._boot, "wall_s": time.time(),
                        "drill": kind}  # fmt: skip
        self._wake.set()

    def close(self) -> None:
        """Take leave: the agent was asked to stop."""
        self._newest = {**(self._newest or {}), "boot": self._boot, "farewell": True,
                        "wall_s": time.time()}  # fmt: skip
        self._closed = True
        self._wake.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            closed, words = self._closed, self._newest
            if words is None:
                continue
            mark = tuple(words.get(n) for n in MARKED)
            if mark != self._written[0] or time.monotonic() - self._written[1] >= KEEP_S:
                self._written = (mark, time.monotonic())
                with suppress(OSError):
                    _replace(self._path, json.dumps(words).encode())
            if closed:
                return


def load(path: Path) -> Words | None:
    """The words of the last life; None when there are none that can be read."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else None
    return None


def post_mortem(words: Words) -> str:
    """Why the host went down, from its last words."""
    vms, away_s = int(_number(words, "vms")), _number(words, "unconfirmed_s")
    held = f"{plural(vms, 'VM')} ran there"
    if words.get("drill"):
        return f"a drill of its {words['drill']} was under way; {held}"
    if words.get("state") != GuardState.OPEN.value:
        reason = words.get("reason") or "it did not say why"
        return f"its guard had ended its VMs ({reason}), and the host went down after that"
    if not words.get("good"):
        left_s = max(0.0, _number(words, "remaining_s"))
        return (
            f"its storage had not confirmed a beat for {away_s:.1f} s and its guard would have "
            f"ended its VMs {left_s:.1f} s later; {held}"
        )
    return f"nothing was amiss in its last word (power, a reset or a crash); {held}"


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.replace(path)


def _number(words: Words, name: str) -> float:
    found = words.get(name)
    return float(found) if isinstance(found, int | float) else 0.0


def _boot_id() -> str:
    with suppress(OSError):
        return BOOT_ID.read_text().strip()
    return ""
