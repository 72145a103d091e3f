"""Building the proving guests: once, whole or not at all, and plain words about what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from outlast.errors import NotFound, OutlastError, StorageTrouble
from outlast.rack.guest import build

pytestmark = pytest.mark.rack


def test_build_makes_a_small_multiboot_kernel_once(tmp_path: Path) -> None:
    path = build.build(tmp_path / "new" / "folder")
    content, made_ns = path.read_bytes(), path.stat().st_mtime_ns
    assert len(content) < 16384
    assert (0x1BADB002).to_bytes(4, "little") in content[:8192]
    assert build.build(path.parent) == path
    assert path.stat().st_mtime_ns == made_ns
    assert not list(path.parent.glob("*.[0-9]*"))


def test_a_damaged_kernel_is_built_again(tmp_path: Path) -> None:
    path = build.build(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert build.build(tmp_path).read_bytes() == content


def test_without_a_compiler_the_build_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="gcc or ld is missing") as trouble:
        build.build(tmp_path)
    assert "install gcc" in trouble.value.hint


def test_demo_without_a_package_source_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("gcc", "ld", "as"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(NotFound, match="no kernel for the demo guest"):
        build.build_demo(tmp_path)


def test_a_compiler_that_refuses_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(build.SOURCE_DIR, sources)
    (sources / "clock.c").write_text("this is not C\n")
    monkeypatch.setattr(build, "SOURCE_DIR", sources)
    with pytest.raises(OutlastError, match=r"gcc refused the guest: clock\.c:1"):
        build.build(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageTrouble, match="cannot be written"):
        build.build(tmp_path / "file" / "below")
