"""`outlast image` and `outlast template`, on a pool of their own."""

from __future__ import annotations

from pathlib import Path

from command_line import Outlast


def test_an_images_whole_life(outlast: Outlast, pool: Path, tmp_path: Path) -> None:
    there = ("--pool", str(pool))
    (tmp_path / "disk.img").write_bytes(b"x" * (1 << 20))
    assert "no images yet" in outlast("image", "list", *there).out
    source = str(tmp_path / "disk.img")
    said = outlast("image", "import", "web", source, "--limit", "none", *there)
    assert said.out.startswith("web is imported: 1 disk, 1 MiB; SHA-256 of its source: ")
    assert "converting 100 %" in said.err
    again = outlast("image", "import", "web", source, *there)
    assert (again.code, "hint: take another name, or: outlast image remove web" in again.err) == (
        4, True,
    )  # fmt: skip
    assert outlast("image", "list", *there).out.splitlines()[1].split()[:2] == ["web", "1"]
    assert outlast("image", "list", "--json", *there).json["images"][0]["virtual_bytes"] == 1 << 20
    shown = outlast("image", "show", "web", "--json", *there).json
    assert (shown["source"], len(shown["files"])) == (source, 1)
    assert f"from {source} (raw)" in outlast("image", "show", "web", *there).out
    out = tmp_path / "out.raw"
    said = outlast("image", "export", "web", str(out), "--format", "raw", *there)
    assert (said.code, out.read_bytes() == (tmp_path / "disk.img").read_bytes()) == (0, True)
    assert outlast("image", "remove", "web", *there).out == "the image web is deleted\n"
    assert outlast("image", "show", "web", *there).code == 3
    assert outlast("image", "clean", *there).out == "nothing is left over\n"


def test_without_a_pool_it_says_so(outlast: Outlast) -> None:
    said = outlast("image", "list")
    assert (said.code, "outlast host join DIR" in said.err) == (3, True)
