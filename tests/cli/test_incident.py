"""`outlast incident export` and `outlast replay`, as a person calls them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_line import Outlast

sys.path.insert(0, str(Path(__file__).parent.parent / "incident"))

from recorded_pool import record

from outlast.incident import archive
from outlast.incident.replay import replay

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
    assert "without the notes of the pool" in said.err
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
    assert b"without the notes of the pool" in done.stderr
    assert replay(archive.load(tmp_path / "i.zip").recorded).same


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
