"""One contestant of a probe's races: a process of its own, started by probe.py.

Its whole task comes as one JSON object on the command line, its result is one JSON object on
standard output. The contestants keep step through a small file in memory on this machine, not
through the storage under test, so that they really meet there.

    link, create   round by round, all try to give the same name to a file; who won what
    write          writes its heartbeat block again and again, saying each time what is acknowledged
    look           reads the area and checks that it shows what was acknowledged before the read
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from outlast.storage.format import BLOCK_SIZE
from outlast.storage.heartbeat import HeartbeatFile

_PATIENCE_S = 60.0  # a contestant that waits this long for the others gives up
_WORD = 8
NO_MORE = 2**62


class Meeting(ABC):
    """How contestants keep step: a number for each of them, seen by all."""

    def __init__(self, count: int) -> None:
        self._count = count

    @abstractmethod
    def set(self, me: int, value: int) -> None: ...

    @abstractmethod
    def get(self, who: int) -> int: ...

    def pause(self) -> None:
        """Between two looks."""
        time.sleep(0)

    def meet(self, me: int, value: int) -> None:
        """Wait until all have come this far. Raises TimeoutError."""
        self.set(me, value)
        end = time.monotonic() + _PATIENCE_S
        while any(self.get(who) < value for who in range(self._count)):
            if time.monotonic() > end:
                raise TimeoutError("the other contestants did not come")
            self.pause()


class Pace(Meeting):
    """In memory, for contestants on one machine."""

    def __init__(self, path: str, count: int) -> None:
        super().__init__(count)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(fd, count * _WORD)
        finally:
            os.close(fd)

    def set(self, me: int, value: int) -> None:
        self._memory[me * _WORD : (me + 1) * _WORD] = value.to_bytes(_WORD, "little")

    def get(self, who: int) -> int:
        return int.from_bytes(self._memory[who * _WORD : (who + 1) * _WORD], "little")


def race(task: dict[str, Any], pace: Meeting) -> dict[str, Any]:
    """Rounds of link(2) or of O_EXCL on one name: {"won": [rounds], "errors": [texts]}."""
    folder, me = Path(task["folder"]), task["me"]
    won: list[int] = []
    errors: list[str] = []
    for number in range(task["rounds"]):
        mine, prize = folder / f"c{me}-{number}", folder / f"prize-{number}"
        try:
            if task["kind"] == "link":
                mine.write_text(str(me))
            pace.meet(me, number + 1)
            if task["kind"] == "link":
                os.link(mine, prize)
            else:
                fd = os.open(prize, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                os.write(fd, str(me).encode())
                os.close(fd)
            won.append(number)
        except FileExistsError:
            pass
        except OSError as error:
            errors.append(f"round {number}: {error}")
            pace.set(me, number + 1)  # the others need not wait
    return {"won": won, "errors": errors}


def write(task: dict[str, Any], pace: Meeting) -> dict[str, Any]:
    """Write block after block; the number of each goes to the pace once it is acknowledged.

    At least `rounds` of them, and until every reader has read ten times.
    """
    me, end = task["me"], time.monotonic() + _PATIENCE_S
    readers = [who for who in range(task["count"]) if who != me]
    with HeartbeatFile(task["hb"], 1) as area:
        pace.meet(me, 1)
        number = 1
        while number <= task["rounds"] or any(pace.get(who) <= 10 for who in readers):
            number += 1
            area.write_block(number.to_bytes(_WORD, "little") * (BLOCK_SIZE // _WORD))
            pace.set(me, number)
            if time.monotonic() > end:
                break
        direct = area.direct
    pace.set(me, NO_MORE)
    return {"direct": direct}


def look(task: dict[str, Any], pace: Meeting) -> dict[str, Any]:
    """Read until the writer has ended: {"reads", "stale", "torn"}."""
    reads = stale = torn = 0
    with HeartbeatFile(task["hb"], 2) as area:
        pace.meet(task["me"], 1)
        while (acknowledged := pace.get(task["writer"])) < NO_MORE:
            block = area.read_all()[1]
            words = {block[at : at + _WORD] for at in range(0, BLOCK_SIZE, _WORD)}
            reads += 1
            pace.set(task["me"], 1 + reads)
            torn += len(words) > 1
            newest = int.from_bytes(block[:_WORD], "little")
            stale += acknowledged > 1 and newest < acknowledged
    return {"reads": reads, "stale": stale, "torn": torn}


def main() -> int:
    task = json.loads(sys.argv[1])
    pace = Pace(task["pace"], task["count"])
    deed = {"link": race, "create": race, "write": write, "look": look}[task["kind"]]
    try:
        result = deed(task, pace)
    except (OSError, TimeoutError) as error:
        result = {"failed": str(error)}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
