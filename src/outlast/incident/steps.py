"""A recording as lines of JSON: a start with all of the core's memory, then what changed.

Rules:
1. A line is a JSON object with "kind". "start": format, version, host, wall_s, settings, core.
   "step": now_ns, wall_s, facts, decision. A recording may hold several starts.
2. Of facts only the fields that changed are written, of a mapping only the keys that changed when
   that leaves its order; `["d", [[key, value]...], [gone...]]`. A decision that is the same as the
   last one is left out.
3. Writing and reading are each other's inverse; a line that is not whole ends the reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

from outlast.errors import InvalidInput
from outlast.incident.codec import decode, encode, text
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision
from outlast.pool.facts import Facts
from outlast.settings import PoolSettings

FORMAT = 1
FIELDS = tuple(f.name for f in fields(Facts))


@dataclass(frozen=True, slots=True)
class Start:
    """Where a recording begins: the core as it was before the first step."""

    version: str
    host: str
    wall_s: float
    settings: PoolSettings
    core: object  # as encoded: every replay decodes its own


@dataclass(frozen=True, slots=True)
class Step:
    now_ns: int
    wall_s: float
    facts: Facts
    decision: object  # as encoded


class Writer:
    """Makes the lines of one recording."""

    def __init__(self) -> None:
        self._facts: Facts | None = None
        self._decision = ""

    def start(
        self, version: str, host: str, wall_s: float, settings: PoolSettings, core: object
    ) -> str:
        """core: as encoded."""
        self._facts, self._decision = None, ""
        return text(
            {
                "kind": "start", "format": FORMAT, "version": version, "host": host,
                "wall_s": wall_s, "settings": encode(settings), "core": core,
            }
        )  # fmt: skip

    def step(self, now_ns: int, wall_s: float, facts: Facts, decision: Decision | object) -> str:
        """decision: itself, or as encoded."""
        said = encode(decision) if isinstance(decision, Decision) else decision
        before, self._facts = self._facts, facts
        line: dict[str, object] = {"kind": "step", "now_ns": now_ns, "wall_s": round(wall_s, 3)}
        line["facts"] = {
            name: _change(getattr(before, name) if before else None, getattr(facts, name))
            for name in FIELDS
            if before is None or getattr(before, name) != getattr(facts, name)
        }
        if text(said) != self._decision:
            line["decision"], self._decision = said, text(said)
        return text(line)


def _change(old: object, new: object) -> object:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return encode(new)
    gone = [k for k in old if k not in new]
    fresh = {k: v for k, v in new.items() if k not in old or old[k] != v}
    if list({**{k: v for k, v in old.items() if k in new}, **fresh}) != list(new):
        return encode(new)
    return ["d", [[encode(k), encode(v)] for k, v in fresh.items()], [encode(k) for k in gone]]


def read(lines: Iterable[str]) -> Iterator[Start | Step]:
    """What was recorded. Raises InvalidInput for what is no recording."""
    known: dict[str, object] = {}
    decision: object = None
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            return  # the recorder was ended within this line
        if not isinstance(found, dict):
            raise _wrong("a line is no object")
        if found.get("kind") == "start":
            known, decision = {}, None
            yield _start(found)
        elif found.get("kind") == "step":
            changed = found.get("facts")
            if not isinstance(changed, dict) or changed.keys() - set(FIELDS):
                raise _wrong("a step has other facts")
            known = {**known, **{k: _applied(known.get(k), v) for k, v in changed.items()}}
            decision = found.get("decision", decision)
            if set(FIELDS) - known.keys():
                raise _wrong("a step without a start before it")
            now_ns, wall_s = found.get("now_ns"), found.get("wall_s")
            if not isinstance(now_ns, int) or not isinstance(wall_s, int | float):
                raise _wrong("a step has no time")
            facts = Facts(**known)  # type: ignore[arg-type]
            yield Step(now_ns, wall_s, facts, decision)


def _start(found: Mapping[str, object]) -> Start:
    if found.get("format") != FORMAT or "core" not in found:
        raise InvalidInput(
            f"the recording has format {found.get('format')}, this is for {FORMAT}",
            hint="replay it with the version of outlast that recorded it",
        )
    settings = decode(found.get("settings"))
    if not isinstance(settings, PoolSettings) or not isinstance(found.get("wall_s"), int | float):
        raise _wrong("its start is not whole")
    wall_s = float(str(found["wall_s"]))
    made = Start(str(found.get("version")), str(found.get("host")), wall_s, settings, found["core"])
    if not isinstance(decode(made.core), PoolCore):
        raise _wrong("its start holds no core")
    return made


def _applied(old: object, change: object) -> object:
    if isinstance(change, list) and change[:1] == ["d"]:
        if not isinstance(old, Mapping) or len(change) != 3:
            raise _wrong("a change of what was not there")
        gone = {decode(k) for k in change[2]}
        fresh = {decode(k): decode(v) for k, v in change[1]}
        return {**{k: v for k, v in old.items() if k not in gone}, **fresh}
    return decode(change)


def _wrong(what: str) -> InvalidInput:
    return InvalidInput(
        f"this is no recording of this version: {what}", hint="outlast incident export"
    )
