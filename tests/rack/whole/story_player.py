"""Plays a story of tests/scenarios on a rack, and finds the pool as the story begins with.

    stage = Stage(folder)
    stage.set(text)              the story's hosts and VMs, each VM on its host
    for part in play(stage, text): print(part.differences)

Rules:
1. Waits are those of the story. What is demanded and what shall be told may come LATE_S later, for
   this machine is slower than a pretended one; the story goes on when all of it is there.
2. Notes are read from the journals themselves, each host's own and the pool's: a host without
   storage tells too.
3. A rack is used again when everything on it can be put back to where a story begins, its master
   too; otherwise a new one is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evidence import BACK_S, Lives, settle
from healing import restore
from story_demands import LATE_S, Demands, view
from story_faults import Faults, Paths
from story_notes import Circumstances, comparable, differences, line

from outlast.errors import OutlastError
from outlast.rack.lab import Lab
from outlast.sim.scenario import Block, Player, blocks
from outlast.sim.verbs import seconds
from outlast.wire.shapes import VmChange

MAKES = 3


@dataclass(frozen=True, slots=True)
class Part:
    """What became of a block."""

    commands: tuple[str, ...]
    told: int  # notes that were compared
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opening:
    """How a story begins, as the simulator plays it."""

    hosts: tuple[str, ...]
    places: Mapping[str, str]  # vm -> host
    view: int  # the newest one before anything is told
    quiet: bool  # False: the story tells how the pool was made

    @classmethod
    def of(cls, text: str) -> Opening:
        player, first = Player(), next(blocks(text))
        player.play("\n".join(first.commands))
        pool = player.pool
        places = {vm: pool.where(vm) for vm in pool.vms}
        view = pool.world.disk.version("view") if first.quiet else 0
        return cls(tuple(pool.hosts), places, view, first.quiet)


def entries(lab: Lab, since_s: float) -> dict[str, dict[str, object]]:
    """All that the hosts told since a moment of the wall clock: by id, in order."""
    found: list[dict[str, object]] = []
    own = [lab.folder / host / "disk/var-outlast/journal.jsonl" for host in lab.hosts]
    for path in [*own, *(lab.pool_dir / "journal").glob("*.jsonl")]:
        with suppress(FileNotFoundError):
            for text in path.read_text(errors="replace").splitlines():
                with suppress(ValueError):  # torn by a crash
                    found.append(json.loads(text))
    found = [entry for entry in found if float(str(entry["wall_s"])) >= since_s]
    found.sort(key=lambda entry: float(str(entry["wall_s"])))
    return {str(entry["id"]): entry for entry in found}


class Play:
    """One story under way."""

    def __init__(self, stage: Stage, opening: Opening, lives: Lives, paths: Paths) -> None:
        lab = self._lab = stage.lab
        self._faults, self._demands = Faults(lab, paths), Demands(lab, lives)
        self._opening = opening
        self._since_s = time.time() if opening.quiet else stage.begun_s
        self._view = view(lab).version if opening.quiet else 0
        self._boots = boot_ids(lab)
        self._down: set[str] = set()
        self._earlier: set[str] = set()  # ids of notes of earlier blocks
        self._story: list[Sequence[str]] = []
        self._real: list[Sequence[str]] = []

    def part(self, block: Block) -> Part:
        wrong = [said for command in block.commands if (said := self._do(command))]
        self._story.append(() if block.quiet else block.told)
        self._real.append(())
        until = time.monotonic() + LATE_S
        while True:
            now = self._told()
            lines = [line(str(e["host"]), str(e["sentence"]), str(e["code"])) for e in now.values()]
            self._real[-1] = () if block.quiet else lines
            told, found = self._compare()
            if not any(text.startswith("-") for text in found) or time.monotonic() > until:
                self._earlier |= now.keys()
                return Part(block.commands, told, (*wrong, *found))
            time.sleep(0.1)

    def _do(self, command: str) -> str:
        match command.split():
            case ["pool", *_] | ["quiet"]:
                return ""
            case ["wait", length]:
                time.sleep(seconds(length))
            case ["expect", *demand]:
                return self._demands.unmet(demand, self._codes)
            case _:
                self._faults.do(command)
        return ""

    def _told(self) -> dict[str, dict[str, object]]:
        """In this block."""
        all_ = entries(self._lab, self._since_s)
        return {id_: entry for id_, entry in all_.items() if id_ not in self._earlier}

    def _codes(self) -> set[str]:
        return {str(entry["code"]) for entry in self._told().values()}

    def _compare(self) -> tuple[int, list[str]]:
        """How many notes were compared in the newest block, and what differs there."""
        now = boot_ids(self._lab)
        self._down |= {host for host, boot in self._boots.items() if now[host] != boot}
        told = comparable(self._story, Circumstances(self._opening.view, self._down))[-1]
        real = comparable(self._real, Circumstances(self._view, self._down))[-1]
        return told.total(), differences(told, real)


def boot_ids(lab: Lab) -> dict[str, str]:
    return {name: str(host["boot_id"]) for name, host in lab.rack.status()["hosts"].items()}


def play(stage: Stage, text: str) -> Iterator[Part]:
    """The parts of a story, each when it is over; at the end: two QEMUs of one VM at once?"""
    lab = stage.lab
    with Lives(lab) as lives, Paths(lab) as paths:
        story = Play(stage, Opening.of(text), lives, paths)
        for block in blocks(text):
            yield story.part(block)
        yield Part(("afterwards",), 0, tuple(lives.overlaps()))


class Stage:
    """Racks for stories, one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.lab = Lab(folder / "0")
        self.begun_s = 0.0  # when its pool was made, by the wall clock

    def set(self, text: str) -> None:
        """A healthy pool as the story begins with."""
        opening = Opening.of(text)
        like = list(opening.hosts) == self.lab.hosts and sorted(opening.places) == self.lab.vms
        if like and opening.quiet and self._put_back(opening):
            return
        for _ in range(MAKES):  # on a busy machine another host may have become master meanwhile
            self._make(opening)
            if self._led():
                return
        raise AssertionError(f"the pool's master is never {self.lab.hosts[0]}, as in every story")

    def _make(self, opening: Opening) -> None:
        self.close()
        self._count += 1
        self.lab = lab = Lab(self._folder / str(self._count))
        self.begun_s = time.time()
        lab.begin(hosts=len(opening.hosts), leashed=True)
        assert lab.hosts == list(opening.hosts), "hosts of a rack are named a, b, c"
        lab.create(sorted(opening.places), start=False)
        for vm in lab.vms:
            lab.client().start(vm)
        lab.wait_running(lab.vms)
        settle(lab, lab.vms)
        if opening.quiet:
            self._place(opening)

    def _put_back(self, opening: Opening) -> bool:
        """False: its master is another one now, or something does not come back."""
        lab = self.lab
        try:
            for vm in lab.vms:
                lab.client().place(vm, VmChange(preferred=[]))
                lab.client().start(vm)
            restore(lab)
            self._place(opening)
        except OutlastError as error:
            print(f"a new rack: {error.sentence}")
            return False
        return self._led()

    def _led(self) -> bool:
        return self.lab.client().status().master == self.lab.hosts[0]

    def _place(self, opening: Opening) -> None:
        """Every VM on its host."""
        lab = self.lab
        for vm, host in opening.places.items():
            if lab.where(vm) != host:
                lab.client().migrate(vm, host)
        lab.wait(lambda: self._placed(opening), BACK_S, "not all VMs move to their hosts")

    def _placed(self, opening: Opening) -> bool:
        alone = {vm: [host for host, _ in at] for vm, at in self.lab.processes().items()}
        told = {vm: (s.host, s.state) for vm, s in self.lab.statuses().items()}
        return all(
            (alone.get(vm), told[vm]) == ([host], (host, "running"))
            for vm, host in opening.places.items()
        )

    def close(self) -> None:
        self.lab.end()
