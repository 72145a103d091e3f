"""docs/reference/on-disk-format.md says what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from outlast import equipment, model, report, settings
from outlast.images.schedules import Schedule
from outlast.storage import drills, health
from outlast.storage import format as form
from outlast.storage.names import CLASSES

PAGE = (Path(__file__).parents[2] / "docs/reference/on-disk-format.md").read_text(encoding="utf-8")
TYPES = (
    model.View, model.SlotRecord, equipment.JoinToken, model.Fence, model.GroupWish, model.Lease,
    model.VmRecord, model.DiskMove, model.SnapshotAct, equipment.Repository, Schedule,
    equipment.PowerSwitch, equipment.Network, model.OrderBook, settings.PoolSettings, model.Member,
    model.Proof, model.VmSpec, model.Disk,
    model.Order, model.Move, model.Handover, model.HaOff, settings.Timing,
    report.Report, report.VmReport, report.Lack,
    drills.DrillRecord, drills.Foreseen, health.HostHealth, health.HostLight,
)  # fmt: skip


def test_every_row_of_the_specification_is_on_the_page() -> None:
    rows = re.findall(r"^ +(\d+) +(\d+)  (.+)$", form.__doc__ or "", re.MULTILINE)
    assert len(rows) > 25
    for at, size, content in rows:
        assert f"| {at} | {size} | {content} |" in PAGE


@pytest.mark.parametrize("kind", TYPES)
def test_every_field_is_on_the_page(kind: type) -> None:
    row = next(line for line in PAGE.splitlines() if f"| {kind.__name__} |" in line)
    wanted = ", ".join(f"`{f.name}`" for f in fields(kind))
    assert f"| {wanted} |" in row


def test_every_class_is_on_the_page() -> None:
    for kind in CLASSES:
        if kind != "fence":  # reserved: nothing writes it yet
            assert re.search(rf"^\| `{kind}(/\w+)?` \|", PAGE, re.MULTILINE), kind


def test_the_example_is_a_record() -> None:
    data = form.record_bytes("lease/web", 3, "ab", "1", {}, "cd")
    head, rest = data.decode().split("\n")
    assert head.startswith("OUTLAST1 lease/web 3 ")
    assert re.findall(r'"(\w+)":', rest) == ["nonce", "prev", "value", "writer"]
