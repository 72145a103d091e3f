"""`outlast incident export` and `outlast replay`, as a person calls them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from command_line import Outlast

sys.path.insert(0, str(Path(__file__).parent.parent / "incident"))

from memory_service import MemoryService
from recorded_pool import record

from outlast.incident import archive
from outlast.incident.replay import replay
from outlast.incident.ring import recorded

STORY = Path(__file__).parent.parent / "scenarios/hosts/one_host_dies.txt"


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    """A recording where the command line looks by default."""
    folder = tmp_path / "var/record"
    folder.mkdir(parents=True)
    (folder / "000000000000001.jsonl").write_text("\n".join(record(STORY).lives[0]) + "\n")
    return folder


def test_there_and_back(ring: Path, outlast: Outlast, tmp_path: Path) -> None:
    file, told = tmp_path / "i.zip", tmp_path / "story.txt"
    said = outlast("incident", "export", "--since", "1h", str(file))
    assert said.code == 0, said.err
    assert "it lacks something: the notes of all hosts" in said.err
    said = outlast("replay", str(file), "--step", "--save-story", str(told))
    assert said.code == 0, said.err
    assert "c is silent" in said.out
    assert "each decided the same again" in said.out
    assert "pool hosts=a,b,c" in told.read_text()
    assert outlast("--json", "replay", str(file)).json["same"] is True


def test_it_goes_to_where_the_output_goes(ring: Path, tmp_path: Path) -> None:
    """As `outlast incident export --since 1h > incident.zip`, with what is said beside it."""
    env = {**os.environ, "OUTLAST_VAR": str(tmp_path / "var"), "OUTLAST_RUN": str(tmp_path)}
    words = [sys.executable, "-m", "outlast.cli.main", "incident", "export", "--since", "1h"]
    with (tmp_path / "i.zip").open("wb") as out:
        done = subprocess.run(words, env=env, stdout=out, stderr=subprocess.PIPE, check=True)
    assert b"it lacks something: the notes of all hosts" in done.stderr
    assert replay(archive.load(tmp_path / "i.zip").recorded).same


def test_what_it_lacks_is_said_when_it_is_made_and_when_it_is_looked_at(
    ring: Path, outlast: Outlast, tmp_path: Path
) -> None:
    newest = f"{int(time.time() * 1000):015d}.jsonl"
    (ring / f"{newest}.gz").write_bytes(b"\x1f\x8b no")
    file = tmp_path / "i.zip"
    said = outlast("--json", "incident", "export", str(file))
    assert (said.code, len(said.json["lacks"])) == (0, 2)
    assert f"it lacks something: {newest} is damaged" in said.err
    assert "it lacks something: the notes of all hosts: no agent answers" in said.err
    said = outlast("replay", str(file))
    assert said.code == 0
    assert f"it lacks something: {newest} is damaged" in said.err


def test_an_incident_without_a_step_is_refused(outlast: Outlast, tmp_path: Path) -> None:
    (tmp_path / "var/record").mkdir(parents=True)
    (tmp_path / "var/record/000000000000001.jsonl").touch()
    said = outlast("incident", "export", "--mask", str(tmp_path / "i.zip"))
    assert said.code == 3
    assert "holds nothing that was recorded" in said.err
    assert not (tmp_path / "i.zip").exists()


def test_notes_begin_where_the_recording_begins(
    ring: Path, agent: MemoryService, outlast: Outlast, tmp_path: Path
) -> None:
    """What is recorded begins before the time that is wanted; without its notes it told nothing."""
    first_s = next(r for r in recorded(ring, 0, print)).wall_s
    agent.notes = [
        {"wall_s": first_s + at, "host": host, "code": "vm-stopped", "sentence": "x", "id": host}
        for host, at in (("a", -1), ("b", 1))
    ]  # fmt: skip
    said = outlast("--json", "incident", "export", "--since", "1s", str(tmp_path / "i.zip"))
    assert [n["host"] for n in archive.load(tmp_path / "i.zip").notes] == ["b"]
    assert [one.split(":")[0] for one in said.json["lacks"]] == ["notes of a", "notes of c"]


def test_masked(ring: Path, outlast: Outlast, tmp_path: Path) -> None:
    file = tmp_path / "i.zip"
    assert outlast("incident", "export", "--mask", str(file)).code == 0
    said = outlast("replay", str(file), "--step")
    assert said.code == 0, said.err
    assert "vm-001" in said.out
    assert "host-01 forms the pool's first view" in said.out, "the pool's own words stay readable"
    assert "web" not in said.out


def test_a_difference_is_an_error_that_names_the_note(
    ring: Path, outlast: Outlast, tmp_path: Path
) -> None:
    file, other = tmp_path / "i.zip", tmp_path / "other.zip"
    assert outlast("incident", "export", str(file)).code == 0
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            text = old.read(name).decode()
            new.writestr(name, text.replace('["limit_s",3.0]', '["limit_s",4.0]'))
    said = outlast("replay", str(other))
    assert said.code == 1
    assert "decided otherwise" in said.err
    assert "is silent" in said.err


@pytest.mark.parametrize("args", [("incident", "export", "x.zip"), ("replay", "none.zip")])
def test_nothing_there(args: tuple[str, ...], outlast: Outlast) -> None:
    said = outlast(*args)
    assert said.code == 3
