"""When regular drills are due."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from outlast.errors import InvalidInput
from outlast.readiness.appointments import LATE_S, check_when, due

SUNDAY = datetime(2026, 11, 29, 3, 0)


@pytest.mark.parametrize(
    ("text", "now", "found"),
    [
        ("sun 03:00", SUNDAY, "2026-11-29 03:00"),
        ("Sun 3:00", SUNDAY + timedelta(seconds=LATE_S), "2026-11-29 03:00"),
        ("sun 03:00", SUNDAY + timedelta(seconds=LATE_S + 1), ""),
        ("sun 03:00", SUNDAY - timedelta(seconds=1), ""),
        ("mon 03:00", SUNDAY, ""),
        ("sat 23:59", SUNDAY.replace(hour=0, minute=1), "2026-11-28 23:59"),
        ("daily 23:59", SUNDAY.replace(hour=0, minute=1), "2026-11-28 23:59"),
        ("daily 03:00", SUNDAY + timedelta(days=3, minutes=2), "2026-12-02 03:00"),
        ("", SUNDAY, ""),
    ],
)
def test_the_newest_appointment(text: str, now: datetime, found: str) -> None:
    assert due(text, now) == found


def test_each_week_has_one_of_each_day() -> None:
    looks = [SUNDAY + timedelta(minutes=10 * n) for n in range(7 * 24 * 6)]
    assert len({found for at in looks if (found := due("wed 12:34", at))}) == 1
    assert len({found for at in looks if (found := due("daily 12:34", at))}) == 7


@pytest.mark.parametrize("text", ["sunday 03:00", "sun", "sun 24:00", "sun 3", "sun 03:60", "x"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_when(text)
