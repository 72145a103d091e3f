"""The heartbeat area on real file systems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outlast.storage.format import AREA_SIZE, decode_header
from outlast.storage.heartbeat import HeartbeatFile

POOL = "00112233-4455-6677-8899-aabbccddeeff"


@pytest.fixture(params=["disk", "memory"])
def hb(request: pytest.FixtureRequest, tmp_path: Path):
    """On the disk and in memory: where direct access is taken, and where it may not be."""
    path = tmp_path / "hb" if request.param == "disk" else Path(f"/dev/shm/outlast-{os.getpid()}")
    HeartbeatFile.create(path, POOL)
    yield path
    path.unlink()


def test_each_host_writes_its_own_block_and_reads_all(hb: Path) -> None:
    assert hb.stat().st_size == AREA_SIZE
    with HeartbeatFile(hb, 1) as a, HeartbeatFile(hb, 64) as b, HeartbeatFile(hb) as reader:
        a.write_block(b"a" * 4096)
        b.write_block(b"b" * 4096)
        a.write_block(b"c" * 4096)
        for host in (a, b, reader):
            pieces = host.read_all()
            assert len(pieces) == 65
            assert decode_header(pieces[0]) == POOL
            assert pieces[1] == b"c" * 4096
            assert pieces[64] == b"b" * 4096
            assert not any(b"".join(pieces[2:64]))
        assert reader.read_all(2) == pieces[:3]
        assert b"c" * 4096 + bytes(4096) in hb.read_bytes()


def test_a_disk_is_used_past_its_cache(tmp_path: Path) -> None:
    HeartbeatFile.create(tmp_path / "hb", POOL)
    with HeartbeatFile(tmp_path / "hb", 1) as area:
        assert area.direct, "the disk of the tests takes O_DIRECT"


def test_wrong_use_is_refused(hb: Path) -> None:
    with HeartbeatFile(hb) as reader, pytest.raises(ValueError, match="reading only"):
        reader.write_block(bytes(4096))
    with HeartbeatFile(hb, 1) as area:
        for size in (0, 4095, 8192):
            with pytest.raises(ValueError, match="4096 bytes"):
                area.write_block(bytes(size))
    for slot in (-1, 65):
        with pytest.raises(ValueError, match="slot"):
            HeartbeatFile(hb, slot)
    with pytest.raises(FileExistsError):
        HeartbeatFile.create(hb, POOL)
    assert hb.stat().st_size == AREA_SIZE


def test_trouble_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HeartbeatFile(tmp_path / "none", 1)
    short = tmp_path / "short"
    short.write_bytes(bytes(8192))
    with pytest.raises(OSError, match="could be read"):
        HeartbeatFile(short, 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(OSError):
            HeartbeatFile(short, 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "no descriptor is left open"
    good = tmp_path / "good"
    HeartbeatFile.create(good, POOL)
    with HeartbeatFile(good, 1) as area:
        os.truncate(good, 4096 * 3)
        with pytest.raises(OSError, match="12288 of 266240"):
            area.read_all()
    area.close()
    with pytest.raises(OSError):
        area.read_all()
