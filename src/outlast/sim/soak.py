"""Many seeds on all processors, for as long as one likes; the result is a file that grows.

    {"commit": "1a2b3c4", "first": 1, "next": 5001, "host_seconds": 1.2e6, "cpu_seconds": 610.0,
     "different": 5000, "counts": {"ok": 5000},
     "failures": [{"seed": "7", "kind": "safety", "words": "..."}]}

Rules:
1. Seeds are played in order of their numbers and counted in that order, so that `next` says it all:
   a soak that was ended, by Ctrl-C or kill -9, goes on there.
2. The file is replaced whole, never written in place. It belongs to one commit. Beside it lies
   another, *.courses, with what tells schedules apart: who counts those that differ must know all
   before. It is written first, so that nothing counts twice after a kill -9.
"""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from multiprocessing.pool import AsyncResult
from pathlib import Path

from outlast.errors import InvalidInput
from outlast.sim.branches import branches, is_trunk
from outlast.sim.seeds import Outcome, play

AHEAD = 4  # seeds for each processor that are begun while an earlier one is waited for
SAVED_S = 10.0
BRANCHES = 200  # of one trunk
FAILURES_KEPT = 50
COURSE = 8  # bytes


@dataclass(slots=True)
class Tally:
    """What a run over many seeds has found so far."""

    commit: str
    first: int
    next: int
    host_seconds: float = 0.0
    cpu_seconds: float = 0.0
    different: int = 0  # schedules whose course no other had before: what was done to the pool and
    # what its hosts told, in order, times aside
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, object]] = field(default_factory=list)
    courses: set[bytes] = field(default_factory=set, repr=False)

    def add(self, outcome: Outcome, cpu_s: float) -> None:
        course = bytes.fromhex(outcome.course)
        self.different += course not in self.courses
        self.courses.add(course)
        self.host_seconds += outcome.host_seconds
        self.cpu_seconds += cpu_s
        self.counts[outcome.kind] = self.counts.get(outcome.kind, 0) + 1
        if outcome.kind != "ok" and len(self.failures) < FAILURES_KEPT:
            about: dict[str, object] = {
                "seed": outcome.name,
                "kind": outcome.kind,
                "words": outcome.words,
            }
            self.failures.append(about)

    @property
    def played(self) -> int:
        return sum(self.counts.values())

    def sentence(self) -> str:
        rate = self.host_seconds / max(0.001, self.cpu_seconds)
        found = ", ".join(f"{n} {kind}" for kind, n in sorted(self.counts.items()))
        return (
            f"{self.played:,} schedules ({found or 'none yet'}; {self.different:,} differ), "
            f"{self.host_seconds:,.0f} host-seconds, {rate:,.0f} a CPU second"
        )


def load(path: Path, commit: str, first: int) -> Tally:
    """The tally to go on with. Raises InvalidInput when the file is none, or of another commit."""
    if not path.exists():
        return Tally(commit, first, first)
    try:
        tally = Tally(**json.loads(path.read_text(encoding="utf-8")))
        courses = _beside(path).read_bytes()
    except (ValueError, TypeError, OSError) as error:
        raise InvalidInput(f"{path} is no result of a soak: {error}") from None
    if tally.commit != commit:
        raise InvalidInput(
            f"{path} is about commit {tally.commit}, this is {commit}", hint="name another file"
        )
    tally.courses = {courses[at : at + COURSE] for at in range(0, len(courses), COURSE)}
    return tally


def save(path: Path, tally: Tally) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(_beside(path), b"".join(tally.courses))
    known = {one.name: getattr(tally, one.name) for one in fields(tally) if one.name != "courses"}
    _replace(path, json.dumps(known, indent=1).encode() + b"\n")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.courses")


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    new.replace(path)


def soak(
    tally: Tally, seconds: float, jobs: int = 0, saved: Callable[[Tally], None] = lambda _: None,
    *, branching: bool = False, enough: float = math.inf,
) -> Tally:  # fmt: skip
    """Play seeds from `tally.next` on, or their branches, for so long or until enough of them
    differ. Ctrl-C ends it early, with everything counted kept."""
    jobs = jobs or os.cpu_count() or 1
    until = time.monotonic() + seconds
    save_s = 0.0
    played = _grown if branching else _played
    seeds = itertools.count(tally.next)
    begun: deque[tuple[int, AsyncResult[list[tuple[Outcome, float]]]]] = deque()
    with multiprocessing.Pool(jobs, _quiet) as workers:
        try:
            while True:  # one seed at least
                while len(begun) < AHEAD * jobs:
                    seed = next(seeds)
                    begun.append((seed, workers.apply_async(played, (seed,))))
                seed, outcomes = begun.popleft()
                for outcome, cpu_s in outcomes.get():
                    tally.add(outcome, cpu_s)
                tally.next = seed + 1
                if time.monotonic() >= save_s:
                    saved(tally)
                    save_s = time.monotonic() + SAVED_S
                if time.monotonic() > until or tally.different >= enough:
                    break
        except KeyboardInterrupt:
            workers.terminate()
    saved(tally)
    return tally


def commit_of(folder: Path) -> str:
    """The commit of a checkout, with "+" when it was changed since; "unknown" outside of one."""
    git = ["git", "-C", str(folder)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        return "unknown"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ":/src"], capture_output=True)
    return head.stdout.strip() + ("+" if changed.returncode else "")


def _quiet() -> None:
    """Workers leave Ctrl-C to their parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _played(seed: int) -> list[tuple[Outcome, float]]:
    begun = time.process_time()
    return [(play(seed), time.process_time() - begun)]


def _grown(seed: int) -> list[tuple[Outcome, float]]:
    """The branches of a trunk; none of a seed that is no trunk."""
    return list(branches(seed, 0, BRANCHES)) if is_trunk(seed) else []
