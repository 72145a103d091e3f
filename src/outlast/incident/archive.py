"""An incident as one file: a zip with `incident.json`, `record.jsonl` and `notes.jsonl`.

Rules:
1. What is exported was replayed first; whether the decisions agreed then stands in the manifest,
   and so does what it lacks. An incident without a single step is refused.
2. The file is made beside its name and appears whole or not at all, readable by its owner only.
3. Reading refuses what is too large, as writing does, or has other members; nothing is ever
   unpacked to a disk.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast import __version__
from outlast.errors import InvalidInput, NotFound, OutlastError
from outlast.incident.codec import encode
from outlast.incident.mask import Mask
from outlast.incident.replay import Outcome, core_of, replay
from outlast.incident.steps import Start, Step, Writer, read
from outlast.pool.core import PoolCore

MEMBER_MAX = 512 << 20
MANIFEST, RECORD, NOTES = "incident.json", "record.jsonl", "notes.jsonl"
Note = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Incident:
    manifest: Mapping[str, object]
    recorded: tuple[Start | Step, ...]
    notes: tuple[Note, ...]

    @property
    def lacks(self) -> list[str]:
        """What should be part of it and is not, in sentences."""
        said = self.manifest.get("lacks")
        return [str(one) for one in said] if isinstance(said, list) else []


def export(
    path: Path, recorded: Sequence[Start | Step], notes: Sequence[Note], *, masked: bool,
    lacks: Sequence[str] = (),
) -> Outcome:  # fmt: skip
    """Write an incident; how its replay went. Raises InvalidInput, OutlastError.

    lacks: sentences about what should be part of it and is not.
    """
    outcome = replay(recorded)
    if masked:
        if not outcome.same:
            raise InvalidInput(
                f"what was recorded is decided otherwise now: {outcome.difference}",
                hint="mask it with the version that recorded it, or export it unmasked",
            )
        mask = Mask(recorded, notes)
        lacks = [mask.text(one) for one in lacks]
        recorded = _masked(mask, recorded)
        notes = [mask.note(one) for one in notes]
    writer = Writer()
    lines = [
        writer.start(one.version, one.host, one.wall_s, one.settings, one.core)
        if isinstance(one, Start)
        else writer.step(one.now_ns, one.wall_s, one.facts, one.decision)
        for one in recorded
    ]
    first, last = recorded[0], recorded[-1]
    manifest = {
        "outlast": __version__, "masked": masked, "steps": outcome.steps,
        "host": first.host if isinstance(first, Start) else "", "difference": outcome.difference,
        "from_wall_s": first.wall_s, "to_wall_s": last.wall_s, "lacks": list(lacks),
    }  # fmt: skip
    record = "".join(line + "\n" for line in lines).encode()
    if len(record) > MEMBER_MAX:
        said = (
            f"{len(record) >> 20} MiB were recorded in this time, {MEMBER_MAX >> 20} are the most"
        )
        raise InvalidInput(said, hint="a shorter --since")
    body: dict[str, str | bytes] = {
        MANIFEST: json.dumps(manifest, indent=2),
        RECORD: record,
        NOTES: "".join(json.dumps(dict(note), default=str) + "\n" for note in notes),
    }
    _write(path, body)
    return outcome


def steps(recorded: Sequence[Start | Step]) -> list[Step]:
    return [one for one in recorded if isinstance(one, Step)]


def silent(recorded: Sequence[Start | Step], notes: Sequence[Note]) -> list[str]:
    """Hosts of which there is no note, while others have some, in sentences."""
    facts = steps(recorded)[-1].facts
    hosts = {facts.me.host, *(r.host for r in facts.slots.values() if r.active)}
    quiet = hosts - {str(n.get("host")) for n in notes}
    return [
        f"notes of {host}: it told nothing in this time, or it has not reached the pool's storage "
        "since" for host in sorted(quiet if notes else ())
    ]  # fmt: skip


def _write(path: Path, body: Mapping[str, str | bytes]) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as raw:
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in body.items():
                    archive.writestr(name, content)
            raw.flush()
            os.fsync(raw.fileno())
        fresh.replace(path)
    except OSError as error:
        raise OutlastError(
            f"{path}: {error.strerror}", hint="is its folder there, and room in it?"
        ) from error
    finally:
        fresh.unlink(missing_ok=True)


def _masked(mask: Mask, recorded: Sequence[Start | Step]) -> list[Start | Step]:
    inputs: list[Start | Step] = [
        mask.start(one) if isinstance(one, Start)
        else Step(one.now_ns, one.wall_s, mask.facts(one.facts), None)
        for one in recorded
    ]  # fmt: skip
    return decided(inputs)


def decided(inputs: Sequence[Start | Step]) -> list[Start | Step]:
    """The same facts with what this version's core decides about them."""
    made: list[Start | Step] = []
    core: PoolCore | None = None
    for one in inputs:
        if isinstance(one, Start):
            core = core_of(one)
            made.append(one)
        elif core is not None:
            said = encode(core.step(one.now_ns, one.facts))
            made.append(Step(one.now_ns, one.wall_s, one.facts, said))
    return made


def load(path: Path) -> Incident:
    """Raises NotFound, InvalidInput."""
    try:
        with zipfile.ZipFile(path) as archive:
            bodies = {name: _member(archive, name) for name in (MANIFEST, RECORD, NOTES)}
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except (OSError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise InvalidInput(f"{path} is no incident: {error}") from None
    try:
        manifest = json.loads(bodies[MANIFEST])
        notes = [json.loads(line) for line in bodies[NOTES].splitlines()]
    except ValueError as error:
        raise InvalidInput(f"{path} is damaged: {error}") from None
    if not isinstance(manifest, dict) or not all(isinstance(n, dict) for n in notes):
        raise InvalidInput(f"{path} is no incident: its manifest or its notes have another shape")
    return Incident(manifest, tuple(read(io.StringIO(bodies[RECORD]))), tuple(notes))


def _member(archive: zipfile.ZipFile, name: str) -> str:
    if archive.getinfo(name).file_size > MEMBER_MAX:
        raise InvalidInput(f"{name} is too large to be part of an incident")
    return archive.read(name).decode("utf-8", "replace")
