"""`outlast storage probe --hosts N`: the probe from several hosts at once, who meet on the storage.

Each host runs the same command; they find each other in a hidden folder of the path under test and
keep step through a small area there, read and written as a heartbeat area is. So what only two
hosts can show is seen: caches of names and of data that a mount keeps although it must not.

1. link(2) and O_EXCL have one winner among the hosts, every time;
2. a direct read on one host shows what another host was told is written;
3. a name that another host has just made is found, even if it was looked for a moment before;
4. how long heartbeats and swaps take while all hosts are at it.

Rules:
1. A host that does not come, or goes away, ends the probe with a sentence; what a killed one left
   is taken away by the next one, once nothing in it has moved for a while.
2. All hosts judge from the same results, so all say the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from outlast.errors import Conflict, InvalidInput, StorageTrouble, TimedOut
from outlast.storage import probe as alone
from outlast.storage.files import trouble_of
from outlast.storage.format import BLOCK_SIZE
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.probe import Check, ProbeReport, Progress, Spread
from outlast.storage.racer import NO_MORE, Meeting, look, race, write

RACES = (("link", "a link has one winner"), ("create", "a new file has one creator"))
FOLDER = ".outlast-meet"
HOSTS_MAX = 8
LEAVING = NO_MORE  # the phase of a host that is done
WAIT_S, STILL_S, POLL_S, RESULT_S = 600.0, 4.0, 0.1, 20.0
_WORDS = struct.Struct("<16sQQQ")  # who, phase, value, beat


@dataclass(frozen=True, slots=True)
class Together:
    """What the probe of several hosts found, and who they were."""

    report: ProbeReport
    hosts: tuple[str, ...]


class StoragePace(Meeting):
    """Keeps step with the other hosts through the storage. Phases never go back."""

    def __init__(self, area: HeartbeatFile, me: int, count: int) -> None:
        super().__init__(count)
        self._area, self._me = area, me
        self._nonce = secrets.token_bytes(16)
        self._phase = self._value = self._beat = 0

    def begin(self, phase: int) -> None:
        """A new phase: everybody's values count from 0 again."""
        self._phase, self._value = phase, 0
        self._put()

    def beat(self) -> None:
        """Show that this host is there."""
        self._put()

    def set(self, me: int, value: int) -> None:
        self._value = value
        self._put()

    def get(self, who: int) -> int:
        """As far as this host is in this phase; NO_MORE when it is past it."""
        block = self._area.read_all()[who + 1]
        _, phase, value, _ = _WORDS.unpack_from(block)
        return value if phase == self._phase else NO_MORE if phase > self._phase else 0

    def pause(self) -> None:
        time.sleep(0.001)

    def _put(self) -> None:
        self._beat += 1
        words = _WORDS.pack(self._nonce, self._phase, self._value, self._beat)
        self._area.write_block(words.ljust(BLOCK_SIZE, b"\0"))


def together(
    path: Path | str, hosts: int, rounds: int = 100,
    progress: Progress = lambda _step, _done, _all: None, *, wait_s: float = WAIT_S, name: str = "",
) -> Together:  # fmt: skip
    """Probe with so many hosts; each calls this with the same path and number.

    Raises InvalidInput, Conflict when others are at it, TimedOut when they do not come,
    StorageTrouble.
    """
    root = Path(path).absolute()
    if not root.is_dir():
        raise InvalidInput(f"{root} is not a directory", hint="is the storage mounted?")
    if not 2 <= hosts <= HOSTS_MAX or rounds < 10:
        raise InvalidInput(f"2 to {HOSTS_MAX} hosts, and at least 10 rounds")
    try:
        folder = _enter(root)
        seat = _seat(folder, hosts, name or socket.gethostname())
        with HeartbeatFile(folder / "hb", seat + 1) as area:
            probe = _Probe(folder, area, seat, hosts, rounds, progress)
            try:
                probe.await_others(wait_s)
                return probe.run(root)
            finally:
                probe.leave()
    except OSError as error:
        raise trouble_of(error, root) from error


def judge_names(results: Sequence[dict[str, Any]]) -> Check:
    """What the readers of fresh names say."""
    name = "a name made elsewhere is seen at once"
    failed = [r["failed"] for r in results if "failed" in r]
    looked, stale = (sum(r.get(key, 0) for r in results) for key in ("looked", "stale"))
    if failed or stale or not looked:
        sentence = failed[0] if failed else f"of {looked} fresh names {stale} were not found"
        advice = "; this mount caches names: NFS wants lookupcache=none" if stale else ""
        return Check(name, False, f"{sentence}{advice}")
    return Check(name, True, f"{looked} fresh names, all found")


class _Probe:
    """One host's part."""

    def __init__(
        self, folder: Path, area: HeartbeatFile, seat: int, hosts: int, rounds: int,
        progress: Progress,
    ) -> None:  # fmt: skip
        self._folder, self._me, self._hosts = folder, seat, hosts
        self._rounds, self._progress = rounds, progress
        self._pace = StoragePace(area, seat, hosts)
        self._area = area
        self._phase = 0
        self._steps = len(RACES) + hosts + 2  # as in `run`

    def await_others(self, wait_s: float) -> None:
        """Raises TimedOut."""
        self._pace.begin(1)
        self._phase = 1
        end = time.monotonic() + wait_s
        while True:
            here = sum(self._pace.get(who) >= 1 or who == self._me for who in range(self._hosts))
            self._pace.set(self._me, 1)
            if here == self._hosts:
                break
            self._progress(
                f"waiting for {self._hosts - here} more: run the same command there", 0, self._steps
            )
            if time.monotonic() > end:
                raise TimedOut(
                    f"only {here} of {self._hosts} hosts came within {wait_s:g} s",
                    hint="run the same command on each of them, on the same storage",
                )
            time.sleep(POLL_S)
        self._pace.meet(self._me, 1)

    def run(self, root: Path) -> Together:
        who = f"{self._hosts} hosts"
        checks = []
        for kind, words in RACES:
            results = self._step(f"racing for names ({kind})", partial(self._race, kind))
            races = self._folder / kind
            checks.append(alone.judge_race(words, races, self._rounds, results, who))
        for writer in range(self._hosts):
            results = self._step("reading what another writes", partial(self._direct, writer))
            results.insert(0, results.pop(writer))
            checks.append(alone.judge_direct(results))
        checks.append(judge_names(self._step("looking for fresh names", self._names)))
        checks.append(alone.sync_check(self._folder))
        timed = self._step("timing heartbeats and swaps", self._time)
        seats = [json.loads((self._folder / f"seat-{n}").read_text()) for n in range(self._hosts)]
        report = _report(root, checks, timed)
        return Together(report, tuple(str(seat["host"]) for seat in seats))

    def leave(self) -> None:
        """The last one out takes the folder away."""
        with contextlib.suppress(OSError, TimeoutError):
            self._pace.begin(LEAVING)
            if self._me:
                return
            end = time.monotonic() + STILL_S
            while self._still_here() and time.monotonic() < end:
                time.sleep(POLL_S)
        _away(self._folder)

    def _still_here(self) -> bool:
        """True while another host that came has not said that it leaves."""
        blocks = self._area.read_all()[2 : self._hosts + 1]
        return any(_WORDS.unpack_from(block)[1] not in {0, LEAVING} for block in blocks)

    # ---- steps

    def _step(self, what: str, act: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
        """One phase: everybody acts, then knows what it came to for all."""
        self._progress(what, (self._phase + 1) // 2, self._steps)  # a step has two phases
        self._phase += 1
        self._pace.begin(self._phase)
        try:
            mine = act()
        except (OSError, TimeoutError) as error:
            mine = {"failed": str(error)}
        _publish(self._folder / f"result-{self._phase}-{self._me}", mine)
        self._phase += 1
        self._pace.begin(self._phase)
        try:
            self._pace.meet(self._me, 1)
        except TimeoutError:
            raise StorageTrouble(
                "another host went away in the middle of the probe", hint="do it again on all"
            ) from None
        before = self._phase - 1
        return [_result(self._folder / f"result-{before}-{n}") for n in range(self._hosts)]

    def _task(self, **more: object) -> dict[str, Any]:
        return {"me": self._me, "count": self._hosts, "rounds": self._rounds, **more}

    def _race(self, kind: str) -> dict[str, Any]:
        folder = self._folder / kind
        folder.mkdir(exist_ok=True)
        return race(self._task(kind=kind, folder=str(folder)), self._pace)

    def _direct(self, writer: int) -> dict[str, Any]:
        area = self._folder / f"direct-{writer}"
        if self._me == writer:
            fresh = area.with_suffix(".new")  # the others must never see a part of it
            HeartbeatFile.create(fresh, "0" * 32)
            fresh.rename(area)
            return write(self._task(hb=str(area)), self._pace)
        _until_there(area)
        return look(self._task(hb=str(area), writer=writer), self._pace)

    def _names(self) -> dict[str, Any]:
        """In turns one host makes a name that the others have just looked for in vain."""
        looked = stale = 0
        for number in range(self._rounds):
            name, source = self._folder / f"fresh-{number}", self._folder / f"raw-{number}"
            maker = number % self._hosts == self._me
            if not maker:
                name.exists()
            self._pace.meet(self._me, 2 * number + 1)
            if maker:
                source.touch()
                os.link(source, name)
            self._pace.meet(self._me, 2 * number + 2)
            if not maker:
                looked += 1
                stale += not name.exists()
        return {"looked": looked, "stale": stale}

    def _time(self) -> dict[str, Any]:
        work = self._folder / f"work-{self._me}"
        for part in ("reg", "tmp"):
            (work / part).mkdir(parents=True)
        HeartbeatFile.create(work / "hb", "0" * 32)
        self._pace.meet(self._me, 1)
        return {"beats": alone.beats(work, self._rounds), "swaps": alone.swaps(work, self._rounds)}


def _report(root: Path, checks: list[Check], timed: list[dict[str, Any]]) -> ProbeReport:
    failed = [r["failed"] for r in timed if "failed" in r]
    if failed:
        raise StorageTrouble(f"heartbeats could not be timed: {failed[0]}")
    spreads: dict[str, Spread] = {}
    for kind in ("beats", "swaps"):
        spreads[kind] = alone.spread([float(took) for result in timed for took in result[kind]])
    return alone.report_of(root, checks, spreads["beats"], spreads["swaps"])


def _enter(root: Path) -> Path:
    """The folder where the hosts meet; one that nobody moves in any more is replaced."""
    folder = root / FOLDER
    if folder.is_dir() and not _lively(folder):
        _away(folder)
    folder.mkdir(mode=0o700, exist_ok=True)
    fresh = folder / f"hb-{secrets.token_hex(4)}"
    HeartbeatFile.create(fresh, "0" * 32)
    with contextlib.suppress(FileExistsError):
        os.link(fresh, folder / "hb")
    fresh.unlink()
    return folder


def _lively(folder: Path) -> bool:
    """True when something changes there within a while."""
    before: list[bytes] | None = None
    end = time.monotonic() + STILL_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), HeartbeatFile(folder / "hb") as area:
            now = area.read_all()
            if before is not None and now != before:
                return True
            before = now
        time.sleep(POLL_S)
    return False


def _seat(folder: Path, hosts: int, host: str) -> int:
    for number in range(hosts):
        with contextlib.suppress(FileExistsError):
            path = folder / f"seat-{number}"
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "w") as file:
                file.write(json.dumps({"host": host, "hosts": hosts}))
                file.flush()
                os.fsync(file.fileno())
            return number
    raise Conflict(f"{hosts} other hosts are probing this storage", hint="wait for their end")


def _publish(path: Path, value: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(value))
    fresh.rename(path)


def _result(path: Path) -> dict[str, Any]:
    _until_there(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _until_there(path: Path) -> None:
    """Wait for a file of another host, whose name may be seen late. Raises TimeoutError."""
    end = time.monotonic() + RESULT_S
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path.name} of another host was not seen for {RESULT_S:g} s")
        time.sleep(0.01)


def _away(folder: Path) -> None:
    aside = folder.with_name(f"{FOLDER}-{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
