"""The dump shows all of a pool and names what is damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from outlast.errors import StorageTrouble
from outlast.model import Block, BlockState
from outlast.settings import preset
from outlast.storage.dump import dump, dump_json, dump_text
from outlast.storage.format import encode_block, encode_header, version_text
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.layout import PoolDir, create_pool

OTHER = "ffffffff-4455-6677-8899-aabbccddeeff"


@pytest.fixture
def pool(tmp_path: Path) -> PoolDir:
    pool = create_pool(tmp_path, "east", preset("standard"))
    block = Block(
        pool.uuid, OTHER, OTHER, 3, 1, "ab" * 16, "0" * 32, BlockState.MEMBER, 77, 52000, 2000, 4,
        frozenset({5}), 0, 2, 1024, 3, 9,
    )  # fmt: skip
    for slot in (3, 5):
        with HeartbeatFile(pool.hb, slot) as area:
            area.write_block(encode_block(replace(block, slot=slot)))
    register = pool.register(3)
    for version in range(3):
        assert register.swap("lease/web", version, {"n": version}).ok
    assert register.swap("vm/web", 0, {"spec": "ü"}).ok
    return pool


def test_a_sound_pool(pool: PoolDir) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in pool.root.rglob("*"))
    report = dump(pool.root)
    assert report.sound
    assert [(line.slot, line.block.seq) for line in report.blocks if line.block] == [
        (3, 77),
        (5, 77),
    ]
    shown = {line.name: (line.version, line.oldest, line.value) for line in report.registers}
    assert shown["lease/web"] == (3, 1, {"n": 2})
    assert shown["vm/web"] == (1, 1, {"spec": "ü"})
    assert list(shown) == ["lease/web", "pool", "vm/web"]
    text = dump_text(report)
    for words in ("pool east", pool.uuid, "slot  3  member", "seq 77", "lease/web  version 3  by 3",
                  '{"n": 2}', "everything is sound"):  # fmt: skip
        assert words in text
    value = json.loads(json.dumps(dump_json(report)))
    assert value["sound"] is True
    assert value["blocks"][0]["block"]["term"] == "ab" * 16
    assert value["registers"][0]["value"] == {"n": 2}
    assert sorted((path, path.stat().st_mtime_ns) for path in pool.root.rglob("*")) == before
    secret = (pool.root / "secret").read_text().strip()
    assert secret not in text + json.dumps(value)


def test_damage_is_named_and_the_rest_is_shown(pool: PoolDir) -> None:
    raw = bytearray(pool.hb.read_bytes())
    raw[5 * 4096 + 300] ^= 1
    raw[9 * 4096] = 1
    pool.hb.write_bytes(raw)
    newest = pool.reg / "lease" / "web" / version_text(3)
    newest.write_bytes(newest.read_bytes()[:-3])
    (pool.reg / "junk").mkdir()
    report = dump(pool.root)
    assert not report.sound
    assert {line.slot: bool(line.trouble) for line in report.blocks} == {3: False, 5: True, 9: True}
    web = next(line for line in report.registers if line.name == "lease/web")
    assert (web.version, web.value) == (3, None)
    assert any(line.name == "vm/web" and line.value for line in report.registers)
    text = dump_text(report)
    assert "slot  5  BAD: the checksum" in text
    assert "lease/web  version 3  BAD: version 3 of register lease/web is damaged" in text
    assert "reg/junk is not a class" in text
    assert "THERE IS TROUBLE" in text


def test_a_foreign_or_absent_heartbeat_area_is_named(pool: PoolDir) -> None:
    raw = bytearray(pool.hb.read_bytes())
    raw[:4096] = encode_header(OTHER)
    pool.hb.write_bytes(raw)
    assert "another pool" in dump(pool.root).troubles[0]
    pool.hb.write_bytes(b"short")
    report = dump(pool.root)
    assert "cannot be read" in report.troubles[0]
    assert report.registers
    pool.hb.unlink()
    with pytest.raises(StorageTrouble, match="not complete"):
        dump(pool.root)
