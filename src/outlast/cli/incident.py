"""`outlast incident export` and `outlast replay`: a recorded incident, decided again."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outlast.cli.context import Options, options, parse_span, print_json, say, warn
from outlast.errors import InvalidInput, NotFound, OutlastError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

app = typer.Typer(no_args_is_help=True, help="Take an incident along and look at it elsewhere.")

NOTES_MAX = 5000
OUTPUT = Path("-")


@app.command()
def export(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="[FILE.zip]", help="What is written. Default: the output.")
    ] = OUTPUT,
    since: Annotated[str, typer.Option(help="How far back: 30m, 2h, 1d.")] = "1h",
    mask: Annotated[
        bool, typer.Option("--mask", help="Without names, paths, addresses, identities.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The recording. Default: this host's.")
    ] = None,
) -> None:
    """What this host knew and decided, and the notes of all hosts, as one file.

    \b
    Examples:
      outlast incident export --since 2h incident.zip
      outlast incident export --since 2h --mask incident.zip
      ssh root@b outlast incident export --since 2h > incident.zip
    """
    from outlast.incident import archive
    from outlast.incident.ring import recorded

    chosen, since_s = options(ctx), time.time() - parse_span(since)
    folder = record or Path(os.environ.get("OUTLAST_VAR") or "/var/lib/outlast") / "record"
    if not folder.is_dir():
        raise NotFound(f"there is no recording in {folder}", hint="export on a host of the pool")
    lacks: list[str] = []
    found = list(recorded(folder, since_s, lacks.append))
    if not archive.steps(found):
        raise NotFound("; ".join([f"{folder} holds nothing that was recorded", *lacks]),
                       hint="does outlast-agent run here, and is its disk full?")  # fmt: skip
    notes = _notes(chosen, min(since_s, found[0].wall_s), lacks)
    lacks += archive.silent(found, notes)
    with _target(file) as path:
        outcome = archive.export(path, found, notes, masked=mask, lacks=lacks)
    for one in lacks:
        warn(f"it lacks something: {one}")
    if not outcome.same:
        warn(f"note: decided again here, it differs at step {outcome.steps}: {outcome.difference}")
    if file == OUTPUT:
        return
    if chosen.json:
        print_json({"file": str(file), "steps": outcome.steps, "notes": len(notes),
                    "difference": outcome.difference, "lacks": lacks})  # fmt: skip
        return
    began, ended = (datetime.fromtimestamp(at, UTC).astimezone() for at in
                    (found[0].wall_s, found[-1].wall_s))  # fmt: skip
    say(f"{file}: {outcome.steps} steps, {len(notes)} notes{', masked' if mask else ''}, "
        f"from {began:%Y-%m-%d %H:%M:%S} to {ended:%Y-%m-%d %H:%M:%S}")  # fmt: skip


def _notes(chosen: Options, since_s: float, lacks: list[str]) -> list[dict[str, Any]]:
    """What the hosts told in this time: from where the recording begins, not later."""
    try:
        notes = [e.model_dump() for e in chosen.client().timeline(since_s, NOTES_MAX)]
    except OutlastError as error:
        lacks.append(f"the notes of all hosts: {error.sentence}")
        return []
    if len(notes) == NOTES_MAX:
        lacks.append(f"older notes: only the newest {NOTES_MAX} are in it")
    lacks += [str(n["sentence"]) for n in notes if n["code"] == "journal-unread"]
    return notes


@contextlib.contextmanager
def _target(file: Path) -> Iterator[Path]:
    """Where to write so that it ends up in the file, or in this program's output."""
    if file != OUTPUT:
        yield file
        return
    if sys.stdout.isatty():
        raise InvalidInput(
            "an incident is no text for a terminal", hint="outlast incident export incident.zip"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "incident.zip"
        yield path
        sys.stdout.buffer.write(path.read_bytes())
        sys.stdout.flush()


def replay(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="Of 'incident export'.")],
    step: Annotated[
        bool, typer.Option("--step", help="Note by note; on a terminal Enter goes on.")
    ] = False,
    save_story: Annotated[
        Path | None,
        typer.Option("--save-story", metavar="FILE", help="The same as a story for the simulator."),
    ] = None,
) -> None:
    """Decide an incident again with the same code; a difference is an error that names it.

    \b
    Examples:
      outlast replay incident.zip
      outlast replay incident.zip --step
      outlast replay incident.zip --save-story whatif.txt
    """
    from outlast.incident import archive
    from outlast.incident.replay import replay as again
    from outlast.incident.story import story

    chosen = options(ctx)
    incident = archive.load(file)

    def look(wall_s: float, said: Sequence[str]) -> None:
        at = datetime.fromtimestamp(wall_s, UTC).astimezone()
        for line in said if step and not chosen.json else ():
            say(f"{at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + f"  {line}")
            if sys.stdin.isatty() and sys.stdout.isatty():
                input()

    for one in incident.lacks:
        warn(f"it lacks something: {one}")
    outcome = again(incident.recorded, look)
    if save_story is not None:
        save_story.write_text(story(incident.recorded, incident.notes), encoding="utf-8")
    if chosen.json:
        print_json(
            {"steps": outcome.steps, "notes": outcome.notes, "same": outcome.same,
             "difference": outcome.difference, "wall_s": outcome.wall_s}
        )  # fmt: skip
    if not outcome.same:
        raise OutlastError(
            f"step {outcome.steps} is decided otherwise: {outcome.difference}",
            hint="another version, or a bug: keep the file",
        )
    if not chosen.json:
        say(f"{outcome.steps} steps and {outcome.notes} notes, each decided the same again")
