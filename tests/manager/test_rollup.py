"""Rolling up: the whole is what its parts are, in whatever order; and how it is packed."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from outlast.manager.rollup import (
    DAY_S,
    HOSTS,
    LEVELS,
    POINTS_MAX,
    Roll,
    Sheet,
    begin_s,
    level_for,
    merged,
    merged_sheets,
    note,
    of_one,
    packed,
    part_of,
    unpacked,
)

VALUES = st.floats(min_value=-1e12, max_value=1e12, allow_nan=False)
SAMPLES = st.lists(st.tuples(st.integers(0, 40 * DAY_S), VALUES), min_size=1, max_size=60)


def rolled(samples: list[tuple[int, float]], step_s: int) -> dict[int, Roll]:
    """Straight from the samples, without the code under test."""
    buckets: dict[int, list[float]] = {}
    for at, value in samples:
        buckets.setdefault(at - at % step_s, []).append(value)
    return {
        at: Roll(len(found), math.fsum(found), min(found), max(found))
        for at, found in buckets.items()
    }


@given(SAMPLES, st.randoms())
def test_a_coarser_roll_of_finer_ones_is_the_roll_of_the_samples(
    samples: list[tuple[int, float]], chance: object
) -> None:
    chance.shuffle(samples)  # type: ignore[attr-defined]
    fine: dict[int, Sheet] = {}
    for at, value in samples:
        note(fine.setdefault(begin_s(at, LEVELS[0].step_s), {}), "h", {"m": value, "gone": None})
    sheets = fine
    for level in LEVELS[1:]:
        windows: dict[int, list[Sheet]] = {}
        for at, sheet in sheets.items():
            windows.setdefault(begin_s(at, level.step_s), []).append(sheet)
        sheets = {at: merged_sheets(found) for at, found in windows.items()}
        wanted = rolled(samples, level.step_s)
        assert sheets.keys() == wanted.keys()
        for at, sheet in sheets.items():
            assert sheet.keys() == {"m"}
            mine, other = sheet["m"]["h"], wanted[at]
            assert (mine.count, mine.low, mine.high) == (other.count, other.low, other.high)
            assert math.isclose(mine.total, other.total, rel_tol=1e-9, abs_tol=1e-3)


@given(st.dictionaries(st.text(max_size=8), st.lists(VALUES, min_size=1, max_size=5), max_size=9))
def test_what_is_packed_is_there_again_to_four_digits(found: dict[str, list[float]]) -> None:
    sheet: Sheet = {}
    for name, values in found.items():
        for value in values:
            note(sheet, name, {"m": value})
    body = packed(sheet)
    for name, values in found.items():
        for roll in (unpacked(body)["m"][name], of_one(body, name)["m"]):
            assert roll.count == len(values)
            for is_, was in ((roll.mean, math.fsum(values) / len(values)),
                             (roll.low, min(values)), (roll.high, max(values))):  # fmt: skip
                largest = max(map(abs, values))
                assert math.isclose(is_, was, rel_tol=1e-3, abs_tol=largest * 1e-9)
    assert of_one(body, "somebody else") == {}


def test_merging_keeps_the_extremes() -> None:
    assert merged([Roll(2, 3, 1, 2), Roll(1, 9, 9, 9)]) == Roll(3, 12, 1, 9)


def test_levels_fit_into_each_other_and_are_kept_until_the_next_one_has_them() -> None:
    for finer, level in itertools.pairwise(LEVELS):
        assert level.step_s % finer.step_s == 0
        assert level.hosts_days >= finer.hosts_days
        assert level.vms_days >= finer.vms_days
        # a manager that was away for a while still finds what it has to roll up
        assert finer.hosts_days * DAY_S >= 2 * level.step_s
        assert not finer.vms_days or finer.vms_days * DAY_S >= 2 * level.step_s


def test_the_level_is_the_finest_that_knows_the_time_and_is_not_too_much() -> None:
    now_s, vm = 1e9, part_of("web")
    spans = {3600: 60, DAY_S: 600, 7 * DAY_S: 3600, 31 * DAY_S: 6 * 3600, 366 * DAY_S: DAY_S}
    for span_s, step_s in spans.items():
        found = level_for(now_s - span_s, now_s, now_s, HOSTS)
        assert found.step_s == step_s
        assert span_s / found.step_s <= POINTS_MAX
    assert level_for(now_s - 3600, now_s, now_s, vm).step_s == 600
    # an hour of three weeks ago is known by the hour, for VMs by six
    assert level_for(now_s - 21 * DAY_S, now_s - 21 * DAY_S + 3600, now_s, HOSTS).step_s == 3600
    assert level_for(now_s - 21 * DAY_S, now_s - 21 * DAY_S + 3600, now_s, vm).step_s == 6 * 3600


def test_shares_of_vms_never_change() -> None:
    assert [part_of(name) for name in ("web", "db", "")] == ["vms-1", "vms-8", "vms-0"]
