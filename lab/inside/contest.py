"""Run in two machines at once: swaps of one register and heartbeats, for so many seconds.

    python contest.py DIR WRITER SECONDS

The writer 0 only makes what the others meet at.
What comes out (JSON) lets the two runs be compared: no version may have two winners, none that was
acknowledged may be lost. It holds its own register to that with each read.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from outlast.errors import OutlastError
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.posix import PosixRegister
from outlast.storage.register import Outcome

NAME, BEAT_S = "lease/web", 1.0


class Contest:
    def __init__(self, folder: Path, writer: int, seconds: float) -> None:
        self.folder, self.writer = folder, writer
        self.until = time.monotonic() + seconds
        self.won: list[int] = []
        self.unknown: list[int] = []
        self.wrong: list[str] = []
        self.troubles: list[str] = []
        self.swaps_ms: list[float] = []
        self.beats_ms: list[float] = []
        self.conflicts = 0

    def swaps(self) -> None:
        register = PosixRegister(self.folder, str(self.writer))
        seen = 0
        while time.monotonic() < self.until:
            began = time.monotonic()
            try:
                version, value = register.read(NAME)
                count = int(str(value["count"])) if value else 0
                if count != version or version < max([seen, *self.won[-1:]]):
                    self.wrong.append(f"version {version} says {count}, {seen} was seen before")
                seen = version
                answer = register.swap(NAME, version, {"count": version + 1, "by": self.writer})
            except OutlastError as trouble:
                self.troubles.append(trouble.sentence)
                time.sleep(0.2)
                continue
            if answer.ok:
                self.won.append(answer.version)
                self.swaps_ms.append(1000 * (time.monotonic() - began))
            elif answer.outcome is Outcome.UNKNOWN:
                self.unknown.append(version + 1)
            else:
                self.conflicts += 1

    def beats(self) -> None:
        """Each host counts in its block; no block may ever go back."""
        counts: dict[int, int] = {}
        mine = 0
        with HeartbeatFile(self.folder / "hb", self.writer) as area:
            while time.monotonic() < self.until:
                began, mine = time.monotonic(), mine + 1
                try:
                    area.write_block(mine.to_bytes(8, "little").ljust(4096, b"\0"))
                    pieces = area.read_all(8)
                except (OSError, OutlastError) as trouble:
                    self.troubles.append(str(trouble))
                    time.sleep(0.2)
                    continue
                self.beats_ms.append(1000 * (time.monotonic() - began))
                for slot, piece in enumerate(pieces[1:], 1):
                    count = int.from_bytes(piece[:8], "little")
                    if count < counts.get(slot, 0) or (slot == self.writer and count != mine):
                        self.wrong.append(f"block {slot} went from {counts.get(slot)} to {count}")
                    counts[slot] = count
                time.sleep(max(0.0, BEAT_S - (time.monotonic() - began)))


def lay_out(folder: Path) -> None:
    for name in ("reg", "tmp"):
        (folder / name).mkdir(parents=True)
    HeartbeatFile.create(folder / "hb", "0" * 32)


def main() -> None:
    if sys.argv[2] == "0":
        lay_out(Path(sys.argv[1]))
        return
    contest = Contest(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    beating = threading.Thread(target=contest.beats)
    beating.start()
    contest.swaps()
    beating.join()
    last = PosixRegister(contest.folder, str(contest.writer)).read(NAME)[0]
    hidden = {"folder", "until"}
    told = {key: value for key, value in vars(contest).items() if key not in hidden}
    sys.stdout.write(json.dumps(told | {"last": last}))


if __name__ == "__main__":
    main()
