"""Making a pool, and all that can be wrong with it; on real directories."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Outlast

from outlast.storage.format import pool_from
from outlast.storage.layout import open_pool
from outlast.storage.posix import PosixRegister
from outlast.wire.seal import client_context

# ---- init


def test_init_makes_a_whole_pool(outlast: Outlast, tmp_path: Path) -> None:
    directory = tmp_path / "pool"
    directory.mkdir()
    said = outlast("pool", "init", str(directory), "--name", "prod", "--local")
    assert said.code == 0
    assert f"outlast host join {directory}" in said.out
    _, value = PosixRegister(directory, "test").read("pool")
    settings = pool_from(value)
    assert (settings.name, settings.timing.preset) == ("prod", "standard")
    assert (settings.watchdog, open_pool(directory).uuid) == ("automatic", settings.uuid)
    key = directory / "pki/ca.key"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert outlast("storage", "dump", str(directory)).out.endswith("everything is sound\n")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--name", "Prod", "--local"], 2, "not a usable pool name"),
        (["--name", "p", "--local", "--preset", "soon"], 2, "no timing preset 'soon'"),
        (["--name", "p", "--local", "--preset", "lab"], 2, "say --lab"),
        (["--name", "p", "--lab", "--preset", "quick"], 2, "leave --preset out"),
        (["--name", "p"], 2, "no shared storage is mounted there"),
        (["--local"], 2, "--name"),
    ],
)
def test_init_refuses_in_words(
    outlast: Outlast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    args: list[str], code: int, words: str,
) -> None:  # fmt: skip
    directory = tmp_path / "pool"
    directory.mkdir()
    if directory.stat().st_dev != Path("/").stat().st_dev:
        pytest.skip("temporary files are on a file system of their own here")
    said = outlast("pool", "init", str(directory), *args)
    assert (said.code, said.out) == (code, "")
    assert words in said.err
    assert list(directory.iterdir()) == []


def test_init_where_nothing_is_mounted_or_no_directory(outlast: Outlast, tmp_path: Path) -> None:
    said = outlast("pool", "init", str(tmp_path / "none"), "--name", "p", "--lab")
    assert said.code == 5 and "there is no directory" in said.err
    (tmp_path / "file").touch()
    said = outlast("pool", "init", str(tmp_path / "file"), "--name", "p", "--lab")
    assert said.code == 2 and "is not a directory" in said.err


def test_a_second_pool_in_the_same_directory(outlast: Outlast, pool: Path) -> None:
    before = (pool / "pki/ca.pem").read_bytes()
    for name in ("lab1", "other"):
        said = outlast("pool", "init", str(pool), "--name", name, "--lab")
        assert said.code == 4
        assert "already holds the pool 'lab1'" in said.err
    assert (pool / "pki/ca.pem").read_bytes() == before


def test_init_on_full_and_read_only_storage(outlast: Outlast, small: Callable[[str], Path]) -> None:
    full, frozen = small("size=64k"), small("size=1M,ro")
    said = outlast("pool", "init", str(full), "--name", "p", "--lab")
    assert (said.code, "storage is full" in said.err) == (5, True)
    assert not (full / "pool.json").exists()
    said = outlast("pool", "init", str(frozen), "--name", "p", "--lab")
    assert (said.code, "read-only" in said.err) == (5, True)


def test_init_on_mounted_storage_needs_no_flag(
    outlast: Outlast, small: Callable[[str], Path]
) -> None:
    where = small("size=8M")
    assert outlast("pool", "init", str(where), "--name", "p", "--preset", "quick").code == 0


# ---- the rest


def test_certificates_for_people(outlast: Outlast, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "anna/pki"
    args = ("pool", "certificate", "anna", "--pool", str(pool), "--out", str(out))
    assert outlast(*args).code == 0
    client_context(out)
    assert outlast(*args).code == 2
    refused = outlast(*args[:-1], str(tmp_path / "x"), "--role", "host")
    assert (refused.code, "no role 'host'" in refused.err) == (2, True)
    seen = ("--role", "monitor", "--json")
    made = outlast(*args[:-1], str(tmp_path / "m"), *seen)
    assert (made.code, made.json["role"]) == (0, "monitor")
    none = outlast("pool", "certificate", "anna", "--pool", str(tmp_path), "--out", "/nowhere/x")
    assert none.code == 3


def test_dump_names_damage(outlast: Outlast, pool: Path, tmp_path: Path) -> None:
    said = outlast("storage", "dump", str(pool), "--json")
    assert (said.code, said.json["pool"]["name"], said.json["sound"]) == (0, "lab1", True)
    secret = (pool / "secret").read_text().strip()
    assert secret not in said.out
    version = next((pool / "reg/pool").iterdir())
    version.write_bytes(version.read_bytes()[:-3])
    assert outlast("storage", "dump", str(pool)).code == 5
    assert outlast("storage", "dump").code == 3
    os.makedirs(tmp_path / "etc", exist_ok=True)  # noqa: PTH103
    (tmp_path / "etc/host.json").write_text(json.dumps({"pool_dir": str(pool)}))
    assert outlast("storage", "dump").out.startswith("pool lab1")


def test_probe(outlast: Outlast, tmp_path: Path) -> None:
    said = outlast("storage", "probe", str(tmp_path), "--rounds", "10", "--json")
    assert said.code in {0, 5} and said.json["path"] == str(tmp_path)
    assert said.err == ""
    assert outlast("storage", "probe", str(tmp_path / "none")).code == 2
