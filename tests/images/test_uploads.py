"""Images that come in pieces: kept on the disk, resumed, checked, and never half an image."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from outlast.errors import Conflict, InvalidInput, NotFound
from outlast.images.clean import clean, found
from outlast.images.library import Library
from outlast.images.pace import silent
from outlast.images.uploads import PART, PREFIX, Uploads


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    file = tmp_path / "source.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "1M"], check=True)
    return file.read_bytes()


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUTLAST_RUN", str(tmp_path / "run"))
    (tmp_path / "pool/images").mkdir(parents=True)
    (tmp_path / "pool/reg").mkdir()
    return tmp_path / "pool"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_pieces_become_an_image_and_nothing_is_left(pool: Path, data: bytes) -> None:
    uploads = Uploads(pool)
    assert uploads.begin("tiny", len(data), digest(data)).got_bytes == 0
    assert uploads.append("tiny", 0, data[:1000]) == 1000
    assert Library(pool).all() == []
    with pytest.raises(Conflict, match="have not come yet"):
        uploads.take("tiny", 0, silent)
    again = Uploads(pool).begin("tiny", len(data), digest(data))  # after whatever broke it off
    assert again.got_bytes == 1000
    Uploads(pool).append("tiny", 1000, data[1000:])
    image = uploads.take("tiny", 0, silent)
    assert (image.source, image.sha256) == ("an upload of tiny", digest(data))
    assert [path.name for path in (pool / "images/library").iterdir()] == ["tiny"]
    with pytest.raises(NotFound):
        uploads.get("tiny")
    with pytest.raises(Conflict, match="an image 'tiny' already"):
        uploads.begin("tiny", len(data), digest(data))


def test_a_piece_is_taken_only_where_the_last_one_ended(pool: Path, data: bytes) -> None:
    uploads = Uploads(pool)
    uploads.begin("tiny", len(data), digest(data))
    uploads.append("tiny", 0, data[:10])
    for offset in (0, 9, 11):
        with pytest.raises(Conflict, match="10 bytes of 'tiny' are there"):
            uploads.append("tiny", offset, b"x")
    with pytest.raises(InvalidInput, match="larger"):
        uploads.append("tiny", 10, data)
    assert uploads.get("tiny").got_bytes == 10


def test_another_file_of_that_name_begins_anew(pool: Path, data: bytes) -> None:
    uploads = Uploads(pool)
    uploads.begin("tiny", len(data), digest(data))
    uploads.append("tiny", 0, data[:10])
    assert uploads.begin("tiny", 3, digest(b"abc")).got_bytes == 0
    assert (pool / "images/library" / f"{PREFIX}tiny" / PART).stat().st_size == 0


def test_what_came_and_is_not_what_was_said_is_thrown_away(pool: Path, data: bytes) -> None:
    uploads = Uploads(pool)
    uploads.begin("tiny", len(data), digest(b"something else"))
    uploads.append("tiny", 0, data)
    with pytest.raises(InvalidInput, match="SHA-256 of an upload of tiny is"):
        uploads.take("tiny", 0, silent)
    with pytest.raises(NotFound):
        uploads.get("tiny")
    assert Library(pool).all() == []


@pytest.mark.parametrize(
    ("name", "size", "sha256"),
    [("../x", 1, "a" * 64), ("x", 0, "a" * 64), ("x", 1 << 60, "a" * 64), ("x", 1, "a")],
)
def test_what_cannot_be_is_refused(pool: Path, name: str, size: int, sha256: str) -> None:
    with pytest.raises(InvalidInput):
        Uploads(pool).begin(name, size, sha256)


def test_one_that_was_given_up_is_cleaned_and_one_under_way_is_not(pool: Path) -> None:
    uploads = Uploads(pool)
    for name in ("old", "new"):
        uploads.begin(name, 3, digest(b"abc"))
    os.utime(pool / "images/library" / f"{PREFIX}old" / PART, (0, 0))
    assert [left.name for left in found(pool)] == ["old"]
    clean(pool)
    assert uploads.get("new").size_bytes == 3
    with pytest.raises(NotFound):
        uploads.get("old")
