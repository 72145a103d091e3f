"""Pictures, held against kept ones. `python tests/web/test_pictures.py` draws those anew."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from outlast.manager.web.pictures.chart import Frame, Moment, Point, chart
from outlast.manager.web.pictures.lanes import Mark, Span, lanes
from outlast.manager.web.pictures.matrix import HEARD, OUT, UNHEARD, Listener, faults, matrix
from outlast.manager.web.pictures.strip import TICKS, strip

GOLDEN = Path(__file__).parent / "golden"


def hosts(n: int, deaf: dict[str, set[str]] | None = None, out: str = "") -> list[Listener]:
    names = [f"kvm-{k:02d}" for k in range(1, n + 1)]
    rows = []
    for name in names:
        unheard = frozenset((deaf or {}).get(name, set()))
        hears = frozenset(names) - unheard - {name, out}
        member = name != out
        rows.append(Listener(name, member, hears, unheard, HEARD if member else OUT))
    return rows


def half(n: int) -> dict[str, set[str]]:
    names = [f"kvm-{k:02d}" for k in range(1, n + 1)]
    left, right = set(names[: n // 2]), set(names[n // 2 :])
    return {h: (right if h in left else left) for h in names}


EVENTS = [
    Mark("kvm-01", 100, "info", "view 2: kvm-02 <is> dead", "/x?a=1&b=2"),
    Mark("kvm-02", 99, "bad", "kvm-02 is silent"),
    Mark("kvm-03", 101, "ok", "web runs"), Mark("kvm-03", 101.1, "warn", "late"),
    Mark("elsewhere", 101, "ok", "not drawn"), Mark("kvm-01", 5000, "ok", "too late"),
]  # fmt: skip
FRAME = Frame(0, 3600, 60, (
    Moment(1800, "bad", "a is <silent>"), Moment(1805, "info", "b"), Moment(9999, "bad", "late"),
))  # fmt: skip
WAVE = [Point(at, at / 600, at / 900, at / 300) for at in range(0, 3600, 60) if not 900 < at < 1500]
DRAWN = {
    "chart": chart("Cores <busy>", WAVE, FRAME, "{:.3g}".format, 16),
    "chart-empty": chart("Cores", [], FRAME, "{:.3g}".format),
    "chart-below": chart("Room", [Point(60, -3e9, -4e9, 5e9)], FRAME, "{:.3g}".format),
    "matrix-2": matrix(hosts(2)),
    "matrix-8": matrix(hosts(8)),
    "matrix-one-way": matrix(hosts(4, {"kvm-02": {"kvm-03"}})),
    "matrix-split": matrix(hosts(4, half(4))),
    "matrix-fenced": matrix(hosts(4, out="kvm-04")),
    "matrix-64": matrix(hosts(64, {"kvm-02": {"kvm-03"}})),
    "strip": strip(["ok"] * 10 + ["late", "missed", "none"], "Beats of kvm-01"),
    "lanes": lanes(
        ["kvm-01", "kvm-02", "kvm-03"], EVENTS, [Span("kvm-02", 99, 140, "bad", "out")], 90, 150
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_it_is_drawn_as_it_was(name: str) -> None:
    assert DRAWN[name] + "\n" == (GOLDEN / f"{name}.svg").read_text()


@pytest.mark.parametrize("name", DRAWN)
def test_it_is_svg_without_colours_of_its_own_and_says_what_it_shows(name: str) -> None:
    svg = DRAWN[name]
    ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    assert not re.search(r'style=|fill="|stroke="', svg)
    assert "<title" in svg and ("aria-label" in svg or "<desc" in svg)


def test_no_fault_is_left_out_and_none_is_told_twice() -> None:
    assert faults(hosts(8)) == []
    assert faults(hosts(4, {"kvm-02": {"kvm-03"}})) == [
        "kvm-02 does not hear kvm-03, but kvm-03 hears kvm-02"
    ]
    assert len(faults(hosts(4, half(4)))) == 4
    assert faults(hosts(4, half(4)))[0] == "kvm-01 and kvm-03 do not hear each other"
    lost = [*hosts(2), Listener("kvm-03", True, storage=UNHEARD)]
    assert "kvm-03 misses its beats on the storage" in faults(lost)


def test_large_pools_are_few_elements() -> None:
    assert DRAWN["matrix-64"].count("<path") < 6
    assert len(DRAWN["matrix-64"]) < 400_000
    assert DRAWN["strip"].count("<path") == 4
    assert strip(["ok"] * 99, "x").count("M") == TICKS


def test_what_is_not_in_the_span_is_not_drawn() -> None:
    assert "not drawn" not in DRAWN["lanes"] and "too late" not in DRAWN["lanes"]
    assert "&lt;is&gt;" in DRAWN["lanes"] and "a=1&amp;b=2" in DRAWN["lanes"]


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for key, svg in DRAWN.items():
        (GOLDEN / f"{key}.svg").write_text(svg + "\n")
