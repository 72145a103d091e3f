"""Backups that are due: by the right host, once, late ones told, and how they ended."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent.backup_timer import BackupTimer
from outlast.errors import InvalidInput, NotFound
from outlast.images import qemu_img, schedules
from outlast.images.schedules import Schedule, due
from outlast.model import Desired, Disk, VmRecord, VmSpec
from outlast.pool.journal import Note

ZONE = datetime.timezone(datetime.timedelta(hours=2))
NOON = datetime.datetime(2026, 6, 1, 12, 0, tzinfo=ZONE)
HOUR = 3600


def at(hour: int, minute: int = 0, day: int = 1) -> int:
    return int(NOON.replace(day=day, hour=hour, minute=minute).timestamp())


@pytest.mark.parametrize(
    ("clock", "last", "wanted"),
    [
        ("11:00", 0, at(11)),
        ("12:00", at(11), at(12)),
        ("13:00", at(13) - 24 * HOUR, 0),  # yesterday's was made, today's is not due yet
        ("11:00", at(11), 0),
        ("11:00", at(11, 5), 0),
        ("11:00", at(11) - 72 * HOUR, at(11)),  # three were missed: one is due
        ("13:00", at(13) - 25 * HOUR, at(13) - 24 * HOUR),  # yesterday's was missed
    ],
)
def test_when_one_is_due_by_the_clock(clock: str, last: int, wanted: int) -> None:
    assert due(Schedule("web", "/x", at=clock, last_wall_s=last), NOON) == wanted


def test_when_one_is_due_by_a_pause() -> None:
    every = Schedule("web", "/x", every_s=6 * HOUR, since_wall_s=at(6, 1))
    assert due(every, NOON) == 0
    assert due(every, NOON + datetime.timedelta(minutes=1)) == at(12, 1)
    assert due(replace(every, last_wall_s=at(12)), NOON) == 0


def test_nothing_is_due_before_it_was_set() -> None:
    assert due(Schedule("web", "/x", at="11:00", since_wall_s=at(11, 30)), NOON) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"folder": "x"}, {"at": "25:00"}, {"at": "3:00"}, {"at": "", "every_s": 60}, {"keep": 0},
        {"every_s": 6 * HOUR}, {"at": ""}, {"vm": "X"},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes: dict[str, object]) -> None:
    good = Schedule("web", "/x", at="03:00")
    schedules.check(good)
    with pytest.raises(InvalidInput):
        schedules.check(replace(good, **changes))  # type: ignore[arg-type]


class Stage:
    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "pool/images").mkdir(parents=True)
        self.vault = tmp_path / "vault"
        self.vault.mkdir()
        self.service = MemoryService(tmp_path / "pool", obedient=False)
        disk = tmp_path / "pool/images/web.qcow2"
        qemu_img.create(disk, 1 << 20)
        self.service.write_vm(0, VmRecord(VmSpec("web", "u", 64, 1, (Disk(str(disk), "qcow2"),))))
        self.told: list[Note] = []
        self.now = NOON
        schedules.write(
            self.service.register, 0, Schedule("web", str(self.vault), at="11:55", keep=2)
        )

    def look(self) -> list[str]:
        before = len(self.told)
        timer = BackupTimer(self.service, self.service.register, self.told.append, lambda: self.now)
        timer.look()
        return [note.code for note in self.told[before:]]

    @property
    def made(self) -> list[Path]:
        return sorted(self.vault.iterdir())

    @property
    def schedule(self) -> Schedule:
        return schedules.read(self.service.register, "web")[1]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("OUTLAST_RUN", str(tmp_path / "run"))
    return Stage(tmp_path)


def test_the_master_backs_up_what_stands_still_and_only_once(stage: Stage) -> None:
    assert stage.look() == ["backup-made"]
    assert len(stage.made) == 1 and stage.schedule.good_wall_s == at(12)
    assert stage.told[0].sentence.endswith("on a, as its schedule wants")
    assert stage.look() == []
    stage.now += datetime.timedelta(days=1)
    assert stage.look() == ["backup-made"]


def test_the_host_of_a_running_vm_does_it_and_nobody_else(stage: Stage) -> None:
    held = stage.service.read_vm("web")
    assert held is not None
    stage.service.write_vm(held.version, replace(held.value, desired=Desired.RUNNING))
    stage.service.hold("web", 2)
    assert stage.look() == [] and not stage.made
    stage.service.hold("web", 1)
    stage.service.run("web")
    assert stage.look() == ["backup-made"] and len(stage.made) == 1


def test_one_that_was_missed_is_made_late_and_told(stage: Stage) -> None:
    stage.now = NOON + datetime.timedelta(hours=3)
    assert stage.look() == ["backup-late", "backup-made"]
    assert "185 minutes after it was due" in stage.told[0].sentence


def test_one_that_fails_says_why_and_waits_for_the_next_time(stage: Stage) -> None:
    stage.vault.rmdir()
    assert stage.look() == ["backup-failed"]
    assert "there is no folder" in stage.told[0].sentence
    assert stage.look() == []
    assert (stage.schedule.good_wall_s, "there is no folder" in stage.schedule.said) == (0, True)


def test_a_new_vm_of_the_same_name_has_no_schedule(stage: Stage) -> None:
    version, before = schedules.read(stage.service.register, "web")
    schedules.write(stage.service.register, version, replace(before, uuid="another"))
    assert stage.look() == [] and not stage.made


def test_a_schedule_that_was_removed_is_no_more(stage: Stage) -> None:
    schedules.remove(stage.service.register, ["web"])
    assert stage.look() == [] and schedules.schedules(stage.service.register) == []
    with pytest.raises(NotFound):
        schedules.remove(stage.service.register, ["web"])
