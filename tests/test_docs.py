"""The documents, held against the code. `python tests/test_docs.py` renews what is made from it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from outlast.errors import ALL
from outlast.settings import DEFAULT_PRESET, PRESETS, S

ROOT = Path(__file__).parent.parent
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROTOCOL = ROOT / "docs" / "PROTOCOL.md"
BEGIN, END = "<!-- presets: made from src/outlast/settings.py -->\n", "<!-- end -->"


def presets_table() -> str:
    lines = [
        "| preset | beat | F | K | W | X | T_dead | grace | VMs of a dead host run again after |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, t in PRESETS.items():
        times = [t.beat_ns, t.fence_ns, t.kill_ns, t.watchdog_s * S, t.settle_ns, t.dead_ns]
        cells = [f"{ns / S:g} s" for ns in (*times, t.partition_grace_ns)]
        shown = f"**{name}** (default)" if name == DEFAULT_PRESET else name
        after = f"{t.dead_ns / S:g} s and a few beats"
        lines.append(f"| {shown} | {' | '.join(cells)} | {after} |")
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    before, rest = text.split(BEGIN)
    return before + BEGIN + presets_table() + END + rest.split(END, 1)[1]


def links(path: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_the_presets_in_the_protocol_are_those_of_the_code() -> None:
    text = PROTOCOL.read_text()
    assert text == renewed(text), "run: .venv/bin/python tests/test_docs.py"


def test_the_picture_of_the_timing_is_drawn_from_the_code() -> None:
    draw = runpy.run_path(str(ROOT / "scripts" / "draw_timing.py"))
    drawn = draw["drawn"](PRESETS[DEFAULT_PRESET])
    assert draw["PICTURE"].read_text() == drawn, "run: .venv/bin/python scripts/draw_timing.py"


def test_every_error_is_explained_with_its_numbers() -> None:
    text = (ROOT / "docs" / "operating" / "troubles.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `([a-z-]+)` \| (\d+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    told = {(int(code), name, int(http)) for code, name, http, _, _ in rows}
    assert told == {(e.exit_code, e.code, e.status) for e in ALL}
    assert len(rows) == len(ALL)


def test_every_invariant_that_is_checked_is_told() -> None:
    checked = set(re.findall(r"\bI[1-9]\b", (ROOT / "src/outlast/pool/invariants.py").read_text()))
    told = set(re.findall(r"^\| (I[1-9]|L[12]) \|", PROTOCOL.read_text(), re.MULTILINE))
    assert checked
    assert checked <= told
    assert told == {*(f"I{n}" for n in range(1, 10)), "L1", "L2"}


def test_every_rule_of_the_model_is_told() -> None:
    world = (ROOT / "tests/model/core_world.py").read_text().split("class Guard")[0]
    switches = re.findall(r"^    (\w+): bool = True", world, re.MULTILINE)
    text = PROTOCOL.read_text()
    assert len(switches) > 9
    assert [s for s in switches if f"[{s}]" not in text] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    broken = [
        link
        for link in links(path)
        if "://" not in link and not (path.parent / link.partition("#")[0]).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_are_named_exist(path: Path) -> None:
    named = re.findall(r"`((?:src|tests|docs|packaging|requirements)/[\w./-]+)`", path.read_text())
    assert [n for n in named if not (ROOT / n).exists()] == []


def test_decisions_are_numbered_and_have_a_status() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert len(pages) >= 4
    for number, page in enumerate(pages, 1):
        text = page.read_text()
        assert page.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number}. ")
        assert re.search(r"^Status: (accepted|replaced by \d+)$", text, re.MULTILINE)


def test_every_make_target_that_is_told_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = {
        name
        for path in DOCS
        for name in re.findall(r"(?:`|^    )make ([a-z-]+)", path.read_text(), re.MULTILINE)
    }
    assert {"demo", "test", "unit"} <= told
    assert told <= targets


if __name__ == "__main__":
    PROTOCOL.write_text(renewed(PROTOCOL.read_text()))
