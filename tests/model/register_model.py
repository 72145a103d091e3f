"""Every possible course of the register that publishes versions by link(2), with two writers.

What it shows: a link may be lost, answered late, or executed long after its caller has given up,
even on the name of a version that was collected meanwhile. Harm is

    STALE  a writer acts on a swap that did not follow the newest version
    LOST   a writer was told that it lost, and the register names it all the same

Three safeguards, each a switch: after a success the predecessor must still be there (`check`:
none, by name only, or with the nonce that was read there); an answer that did not come is UNKNOWN
and settled by reading, never taken for a conflict (`three_valued`); the collector removes lowest
first and keeps the newest `keep` versions.

How it is made: the server executes requests one at a time, in any order, at any moment. A time-out
costs one fault. A request that nobody waits for any more stays at the server (`strays`). Versions
are bounded, so every course ends.

Deliberately not here: damaged files, caches of names, storage that goes back in time.

    python tests/model/register_model.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from search import Result, Step, report, search

VERSION_MAX = 4
NAMES = "AB"

Nonce = tuple[int, int]  # writer and how many swaps it had begun
BIRTH: Nonce = (-1, 0)


class Check(IntEnum):
    """What a success has to find under the name of its predecessor."""

    NONE = 0
    NAME = 1
    NONCE = 2


@dataclass(frozen=True)
class Rules:
    check: Check = Check.NONCE
    three_valued: bool = True
    keep: int = 2


class Phase(IntEnum):
    IDLE = 0
    READY = 1  # it has read the newest version
    WAITING = 2  # its link was sent
    UNSURE = 3  # no answer, or one that proves nothing
    ACTING = 4  # it was told OK


class Answer(IntEnum):
    """What became of a writer's own request at the server."""

    QUEUED = 0
    MADE = 1
    TAKEN = 2  # EEXIST


class Writer(NamedTuple):
    phase: Phase = Phase.IDLE
    begun: int = 0
    expected: int = 0
    prev: Nonce = BIRTH
    answer: Answer = Answer.QUEUED
    direct: bool = True  # the server made it directly after the expected version


class World(NamedTuple):
    files: tuple[tuple[int, Nonce], ...]  # sorted by version
    writers: tuple[Writer, Writer]
    strays: frozenset[tuple[int, Nonce]] = frozenset()
    faults: int = 2

    @property
    def newest(self) -> tuple[int, Nonce]:
        return self.files[-1]

    def at(self, version: int) -> Nonce | None:
        return next((nonce for v, nonce in self.files if v == version), None)

    def put(self, i: int, writer: Writer) -> World:
        pair = (writer, self.writers[1]) if i == 0 else (self.writers[0], writer)
        return self._replace(writers=pair)

    def link(self, version: int, nonce: Nonce) -> World:
        return self._replace(files=tuple(sorted((*self.files, (version, nonce)))))


Steps = Iterator[Step[World]]


def steps(rules: Rules, w: World) -> Steps:
    """Everything that can happen next."""
    for i in (0, 1):
        writer = w.writers[i]
        nonce: Nonce = (i, writer.begun)
        if writer.phase is Phase.IDLE and w.newest[0] < VERSION_MAX:
            version, prev = w.newest
            ready = Writer(Phase.READY, writer.begun + 1, version, prev)
            yield Step(f"{NAMES[i]} reads version {version}", w.put(i, ready))
        elif writer.phase is Phase.READY:
            sent = writer._replace(phase=Phase.WAITING)
            yield Step(f"{NAMES[i]} sends link({writer.expected + 1})", w.put(i, sent))
        elif writer.phase is Phase.WAITING:
            yield from _execute(w, i, nonce)
            yield from _answered(rules, w, i, nonce)
        elif writer.phase is Phase.UNSURE:
            yield from _execute(w, i, nonce)
            yield from _settle(rules, w, i, nonce)
        elif writer.phase is Phase.ACTING:
            done = Writer(begun=writer.begun)
            yield Step(f"{NAMES[i]} is done with {writer.expected + 1}", w.put(i, done))
    yield from _server(rules, w)


def _server(rules: Rules, w: World) -> Steps:
    for version, nonce in w.strays:
        gone = w._replace(strays=w.strays - {(version, nonce)})
        if w.at(version) is None:
            harm = ""
            if version > w.newest[0]:
                harm = f"LOST: {NAMES[nonce[0]]} was told it lost, now the register names it"
            label = f"server executes a forgotten link({version}) of {NAMES[nonce[0]]}"
            yield Step(label, gone.link(version, nonce), harm)
        else:
            yield Step("server drops a forgotten link", gone)
    lowest = w.files[0][0]
    if lowest <= w.newest[0] - rules.keep:
        yield Step(f"collector removes {lowest}", w._replace(files=w.files[1:]))


def _execute(w: World, i: int, nonce: Nonce) -> Steps:
    writer = w.writers[i]
    if writer.answer is not Answer.QUEUED:
        return
    version = writer.expected + 1
    if w.at(version) is not None:
        taken = writer._replace(answer=Answer.TAKEN)
        yield Step(f"server answers EEXIST to {NAMES[i]}", w.put(i, taken))
        return
    direct = w.newest[0] == writer.expected
    made = writer._replace(answer=Answer.MADE, direct=direct)
    late = "" if direct else f" although {w.newest[0]} is the newest"
    label = f"server executes link({version}) of {NAMES[i]}{late}"
    yield Step(label, w.put(i, made).link(version, nonce))


def _answered(rules: Rules, w: World, i: int, nonce: Nonce) -> Steps:
    writer = w.writers[i]
    unsure = w.put(i, writer._replace(phase=Phase.UNSURE))
    if w.faults:
        yield Step(f"{NAMES[i]} TIMES OUT", unsure._replace(faults=w.faults - 1))
    if writer.answer is Answer.MADE:
        before = w.at(writer.expected)
        good = (
            rules.check is Check.NONE
            or (rules.check is Check.NAME and before is not None)
            or before == writer.prev
        )
        if good:
            yield _act(w, i, f"{NAMES[i]} sees success and acts")
        else:
            yield Step(f"{NAMES[i]} sees success, but the predecessor is gone", unsure)
    elif writer.answer is Answer.TAKEN:
        if w.at(writer.expected + 1) == nonce:
            yield _act(w, i, f"{NAMES[i]} finds its own nonce and acts")
        else:
            yield Step(f"{NAMES[i]} sees a conflict", w.put(i, Writer(begun=writer.begun)))


def _act(w: World, i: int, label: str) -> Step[World]:
    writer = w.writers[i]
    harm = "" if writer.direct else f"STALE: {NAMES[i]} acts on version {writer.expected + 1}"
    return Step(label, w.put(i, writer._replace(phase=Phase.ACTING)), harm)


def _settle(rules: Rules, w: World, i: int, nonce: Nonce) -> Steps:
    """No usable answer: read until it is known, or take it for a failure."""
    writer = w.writers[i]
    gone = w.put(i, Writer(begun=writer.begun))
    if writer.answer is Answer.QUEUED:
        gone = gone._replace(strays=w.strays | {(writer.expected + 1, nonce)})
    version, owner = w.newest
    if not rules.three_valued:
        harm = f"LOST: {NAMES[i]} was told it lost, the register names it" if owner == nonce else ""
        yield Step(f"{NAMES[i]} takes it for a failed swap", gone, harm)
    elif owner == nonce:
        yield _act(w, i, f"{NAMES[i]} reads its own value and acts")
    elif version > writer.expected:
        yield Step(f"{NAMES[i]} reads somebody else's {version}", gone)


def explore(rules: Rules) -> Result:
    start = World(((0, BIRTH),), (Writer(), Writer()))
    return search(start, partial(steps, rules))


def main() -> None:
    for title, rules in (
        ("all safeguards", Rules()),
        ("all safeguards, three versions kept", Rules(keep=3)),
        ("predecessor checked by name only", Rules(check=Check.NAME)),
        ("predecessor not checked", Rules(check=Check.NONE)),
        ("no answer taken for a conflict", Rules(three_valued=False)),
        ("draft: neither", Rules(check=Check.NONE, three_valued=False)),
    ):
        report(title, partial(explore, rules))


if __name__ == "__main__":
    main()
