"""Does this mount keep the promises a pool lives on? `outlast storage probe PATH`.

It makes a hidden directory in the path under test, works in it and removes it. What it finds out:

1. link(2) and O_EXCL give a name to exactly one of several processes, every time;
2. a direct read that starts after a write was acknowledged shows it, whole;
3. a directory can be synced; there is room;
4. how long a heartbeat (write of a block, read of all) and a swap take;
5. which timing presets that leaves, with the file system's own time of recovery in mind.

It cannot see what only two hosts can show, like caches of names between hosts: meeting.py does.
Nor can it see whether an export forgets what it acknowledged; docs/operating says how to mount.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from outlast.errors import InvalidInput, StorageTrouble
from outlast.settings import PRESETS, S
from outlast.storage.bench import bench_swap as bench_swap
from outlast.storage.bench import bench_text as bench_text
from outlast.storage.beneath import FLOORS, mount_of
from outlast.storage.etcd_heartbeat import EtcdArea
from outlast.storage.etcd_register import EtcdRegister
from outlast.storage.files import trouble_of
from outlast.storage.format import BLOCK_SIZE
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.posix import PosixRegister

CONTESTANTS = 4
ROUNDS_MIN = 10
ROOM_MIN = 64 * 1024 * 1024
Progress = Callable[[str, int, int], None]

_ORDER = ("quick", "standard", "tolerant", "patient")


@dataclass(frozen=True, slots=True)
class Check:
    """One promise. `needed`: a pool is not safe without it."""

    name: str
    good: bool
    sentence: str
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, in milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class ProbeReport:
    path: str
    fs_type: str
    mount: str  # where it is mounted, with its options
    checks: tuple[Check, ...]
    beat: Spread
    swap: Spread
    presets: tuple[str, ...]  # those that qualify, shortest first
    verdict: str

    @property
    def usable(self) -> bool:
        return bool(self.presets) and all(c.good or not c.needed for c in self.checks)


def probe(
    path: Path | str, rounds: int = 200, progress: Progress = lambda _step, _done, _all: None
) -> ProbeReport:
    """Put a directory to the test; `progress(step, done, all)` is called before each step.

    Raises InvalidInput for a path that is no directory, StorageTrouble when nothing can be done
    in it at all (read-only, full). A promise that is not kept is no error but in the report.
    """
    root = Path(path).absolute()
    if not root.is_dir():
        raise InvalidInput(f"{root} is not a directory", hint="is the storage mounted?")
    if rounds < ROUNDS_MIN:
        raise InvalidInput(f"a probe needs at least {ROUNDS_MIN} rounds")
    work = root / f".outlast-probe-{secrets.token_hex(8)}"
    steps = 6
    try:
        work.mkdir(mode=0o700)
        (work / "reg").mkdir()
        (work / "tmp").mkdir()
        HeartbeatFile.create(work / "hb", "0" * 32)
        checks = []
        for number, (step, check) in enumerate(_CHECKS):
            progress(step, number, steps)
            checks.append(check(work, rounds))
        progress("timing heartbeats", 4, steps)
        beat = spread(beats(work, rounds))
        progress("timing swaps", 5, steps)
        swap = spread(swaps(work, rounds))
        progress("done", steps, steps)
    except OSError as error:
        raise trouble_of(error, root) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report_of(root, checks, beat, swap)


def report_of(root: Path, checks: Sequence[Check], beat: Spread, swap: Spread) -> ProbeReport:
    """What was found, with the verdict that follows from it."""
    return judged(str(root), *mount_of(root), checks, beat, swap)


def judged(
    path: str, fs_type: str, mount: str, checks: Sequence[Check], beat: Spread, swap: Spread
) -> ProbeReport:
    """The same of any storage: its kind in `fs_type`, where it comes from in `mount`."""
    presets = _qualifying(fs_type, beat, swap)
    return ProbeReport(
        path, fs_type, mount, tuple(checks), beat, swap, presets,
        _verdict(checks, fs_type, presets, beat),
    )  # fmt: skip


def report_json(report: ProbeReport) -> dict[str, object]:
    return {**asdict(report), "usable": report.usable}


def report_text(report: ProbeReport) -> str:
    """The report as lines for people."""
    lines = [f"{report.path}: {report.fs_type} on {report.mount}"]
    for check in report.checks:
        mark = "ok  " if check.good else "FAIL" if check.needed else "note"
        lines.append(f"  {mark}  {check.name}: {check.sentence}")
    for name, spread in (("heartbeat", report.beat), ("swap", report.swap)):
        lines.append(
            f"  {name:9}  median {spread.p50_ms:.2f} ms, 99 % within {spread.p99_ms:.2f} ms, "
            f"worst {spread.max_ms:.2f} ms ({spread.count} times)"
        )
    lines.append(f"  presets that qualify: {', '.join(report.presets) or 'none'}")
    lines.append(report.verdict)
    return "\n".join(lines) + "\n"


def _race_check(kind: str, words: str) -> Callable[[Path, int], Check]:
    def check(work: Path, rounds: int) -> Check:
        folder = work / kind
        folder.mkdir()
        tasks = [
            {"kind": kind, "folder": str(folder), "me": me, "rounds": rounds}
            for me in range(CONTESTANTS)
        ]
        return judge_race(words, folder, rounds, _contest(tasks))

    return check


def judge_race(
    words: str, folder: Path, rounds: int, results: Sequence[dict[str, Any]],
    who: str = f"{CONTESTANTS} processes",
) -> Check:  # fmt: skip
    """What the contestants' results and the files they left say about a race."""
    failed = [r["failed"] for r in results if "failed" in r]
    errors = [e for r in results for e in r.get("errors", [])]
    winners: dict[int, list[int]] = {}
    for me, result in enumerate(results):
        for number in result.get("won", []):
            winners.setdefault(number, []).append(me)
    twice = [n for n, who in winners.items() if len(who) > 1]
    wrong = [n for n, who in winners.items() if (folder / f"prize-{n}").read_text() != str(who[0])]
    nobody = rounds - len(winners)
    good = not (failed or errors or twice or wrong or nobody)
    sentence = f"{who}, {rounds} rounds, one winner each time"
    if not good:
        sentence = (
            f"of {rounds} rounds {len(twice)} had two winners, {nobody} none, {len(wrong)} "
            f"the wrong file; {', '.join([*failed, *errors][:2]) or 'no errors'}"
        )
    return Check(words, good, sentence)


def _direct_check(work: Path, rounds: int) -> Check:
    hb = str(work / "hb")
    results = _contest([
        {"kind": "write", "hb": hb, "me": 0, "rounds": rounds},
        *({"kind": "look", "hb": hb, "me": me, "writer": 0} for me in (1, 2)),
    ])  # fmt: skip
    return judge_direct(results)


def judge_direct(results: Sequence[dict[str, Any]]) -> Check:
    """What the writer's result (the first) and the readers' say about direct reads."""
    name = "direct reads show what was written"
    wrote, *looked = results
    failed = [r["failed"] for r in results if "failed" in r]
    if failed:
        return Check(name, False, failed[0])
    reads, stale, torn = (sum(r[key] for r in looked) for key in ("reads", "stale", "torn"))
    if stale or torn or not reads:
        sentence = f"of {reads} reads {stale} were older than what was acknowledged, {torn} torn"
        return Check(name, False, sentence)
    if not wrote["direct"]:
        return Check(name, False, "the file system takes no O_DIRECT; right on one machine only")
    return Check(name, True, f"{reads} reads, none old, none torn")


def sync_check(work: Path, _rounds: int = 0) -> Check:
    """Room, and whether names can be put on the disk. Raises OSError."""
    name = "directories can be synced, there is room"
    usage = shutil.disk_usage(work)
    room = f"{usage.free // 1024**2} MiB are free"
    if not usage.total:
        room = "it does not say how much room there is (Ceph does when its manager, mgr, runs)"
    elif usage.free < ROOM_MIN:
        return Check(name, False, f"only {room}")
    fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        needed = error.errno != errno.EINVAL
        return Check(name, False, f"fsync of a directory: {error.strerror}", needed)
    finally:
        os.close(fd)
    return Check(name, bool(usage.total), room, needed=bool(usage.total))


_CHECKS: tuple[tuple[str, Callable[[Path, int], Check]], ...] = (
    ("racing for links", _race_check("link", "a link has one winner")),
    ("racing for new files", _race_check("create", "a new file has one creator")),
    ("reading behind a writer", _direct_check),
    ("syncing a directory", sync_check),
)


def _contest(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run each task in a process of its own, all at once."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with tempfile.NamedTemporaryFile(prefix="outlast-probe-") as pace:
        pace.write(bytes(8 * len(tasks)))
        pace.flush()
        running: list[subprocess.Popen[str]] = []
        try:
            for task in tasks:
                full = {**task, "pace": pace.name, "count": len(tasks)}
                running.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "outlast.storage.racer", json.dumps(full)],
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
                    )
                )  # fmt: skip
            return [_result(process) for process in running]
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                process.wait()
                for pipe in (process.stdout, process.stderr):
                    if pipe:
                        pipe.close()


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        return {"failed": "a contestant did not end within 600 s: the storage hangs"}
    try:
        result: dict[str, Any] = json.loads(out)
    except ValueError:
        return {"failed": f"a contestant died: {err.strip()[-200:]}"}
    return result


def beats(work: Path, rounds: int) -> list[float]:
    """Seconds that heartbeats took, each a write of a block and a read of all. Raises OSError."""
    with HeartbeatFile(work / "hb", 1) as area:
        return beats_of(area, rounds)


def beats_of(area: HeartbeatFile | EtcdArea, rounds: int) -> list[float]:
    """The same of an area that is open. Raises OSError, StorageTrouble."""
    took = []
    for number in range(rounds):
        start = time.perf_counter()
        area.write_block(bytes([number % 256]) * BLOCK_SIZE)
        area.read_all()
        took.append(time.perf_counter() - start)
    return took


def swaps(work: Path, rounds: int) -> list[float]:
    """Seconds that swaps took. Raises StorageTrouble."""
    return swaps_of(PosixRegister(work, "1"), rounds)


def swaps_of(register: PosixRegister | EtcdRegister, rounds: int) -> list[float]:
    """The same of a register that is open. Raises StorageTrouble."""
    took = []
    for number in range(rounds):
        name = f"lease/vm{number // 8}"
        start = time.perf_counter()
        version, _ = register.read(name)
        if not register.swap(name, version, {"n": number}).ok:
            raise StorageTrouble(
                f"an uncontended swap did not succeed ({register.trouble or 'conflict'})",
                hint="this storage is not usable as it is mounted",
            )
        took.append(time.perf_counter() - start)
    return took


def spread(took_s: Sequence[float]) -> Spread:
    """How seconds are spread."""
    ranked = sorted(1000 * t for t in took_s)
    at = [round(ranked[min(len(ranked) - 1, int(q * len(ranked)))], 3) for q in (0.5, 0.99)]
    return Spread(len(ranked), at[0], at[1], round(ranked[-1], 3))


def _qualifying(fs_type: str, beat: Spread, swap: Spread) -> tuple[str, ...]:
    """Presets whose interval holds two beats, and whose fence window holds three worst cases."""
    floor = _ORDER.index(FLOORS.get(fs_type, "quick"))
    return tuple(
        name
        for name in _ORDER[floor:]
        if 2 * beat.p99_ms < PRESETS[name].beat_ns / S * 1000
        and 3 * max(beat.max_ms, swap.max_ms) < PRESETS[name].fence_ns / S * 1000
    )


def _verdict(
    checks: Sequence[Check], fs_type: str, presets: tuple[str, ...], beat: Spread
) -> str:  # fmt: skip
    broken = [c.name for c in checks if c.needed and not c.good]
    if broken:
        return f"Not usable for a pool: it does not keep the promise '{broken[0]}'."
    if not presets:
        return f"Not usable for a pool: too slow (worst heartbeat {beat.max_ms / 1000:.1f} s)."
    why = ""
    if fs_type in FLOORS:
        why = f" {fs_type} may itself take long to recover; shorter ones are not offered."
    return f"Usable for a pool; the shortest timing it can hold is '{presets[0]}'.{why}"
