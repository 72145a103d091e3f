"""The margin: what is measured of beats, when people hear of it, and which preset is advised."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_service import MemoryService

from outlast.agent.api import Api
from outlast.agent.margin import ALARM_EVERY_NS, HOUR_NS, STEP, Margin, Measured, advice
from outlast.agent.margin_file import MarginFile
from outlast.cli.timing import failover_s, margins_of, told, worst_advice
from outlast.pool.journal import note
from outlast.readiness.lights import pool_lights
from outlast.settings import MS, PRESETS, S
from outlast.storage.health import HostHealth

QUICK = PRESETS["quick"]  # a beat each second, the fence window is 12 s


def beats(margin: Margin, *took_s: float, begin_s: float = 1000.0) -> list[int]:
    """Beats that start each second and are confirmed so long after the one before began."""
    margin.hear(1, int((begin_s - 1) * S), int((begin_s - 0.9) * S))
    heard = []
    for n, took in enumerate(took_s):
        started = begin_s + n
        heard.append(margin.hear(n + 2, int(started * S), int((started - 1 + took) * S)))
    return heard


def test_it_counts_from_the_start_of_one_beat_to_the_confirmation_of_the_next() -> None:
    margin = Margin(QUICK)
    assert [took / S for took in beats(margin, 1.1, 1.2, 4.0)] == pytest.approx([1.1, 1.2, 4.0])
    known = margin.measured()
    assert (known.beats, known.longest_ns) == (3, 4 * S)
    assert 1.1 * S <= known.median_ns <= 1.2 * STEP * S


def test_a_beat_said_twice_counts_once_and_a_new_pulse_begins_anew() -> None:
    margin = Margin(QUICK)
    beats(margin, 1.1, 1.2)
    assert margin.hear(3, 1001 * S, 1001 * S + 1) == 0
    assert margin.hear(1, 5000 * S, 5001 * S) == 0, "the pulse began anew"
    assert margin.hear(2, 5001 * S, 5001 * S + MS) == S + MS
    assert margin.measured().beats == 3


def test_a_suspended_host_proves_nothing_about_its_storage() -> None:
    margin = Margin(QUICK)
    margin.hear(1, S, 2 * S)
    assert margin.hear(2, 3600 * S, 3601 * S) == 0
    assert margin.measured() == Measured()


@given(st.lists(st.floats(0.01, 20), min_size=1, max_size=200))
def test_percentiles_are_at_most_a_bucket_too_high(took_s: list[float]) -> None:
    margin = Margin(QUICK)
    heard = sorted(beats(margin, *took_s))
    known = margin.measured()
    for share, found in ((0.5, known.median_ns), (0.99, known.p99_ns), (0.999, known.p999_ns)):
        exact = next(t for n, t in enumerate(heard, 1) if n >= share * len(heard))
        assert exact <= found + 1
        assert found <= max(exact * STEP, MS) + 1
    assert known.longest_ns == heard[-1]


def test_what_is_older_than_a_day_is_forgotten() -> None:
    margin = Margin(QUICK)
    beats(margin, 9.0)
    chance, at = random.Random(1), 2000 * S
    for n in range(3, 3 + 30):
        margin.hear(n * 2, at, at + 1)
        margin.hear(n * 2 + 1, at + S, at + S + chance.randrange(100) * MS)
        at += HOUR_NS + S
    assert margin.measured().longest_ns < 2 * S


def test_people_hear_of_it_once_an_hour() -> None:
    margin = Margin(QUICK)
    assert not margin.alarm(5 * S, 100 * S)
    assert margin.alarm(6 * S, 100 * S)
    assert not margin.alarm(7 * S, 200 * S)
    assert margin.alarm(7 * S, 100 * S + ALARM_EVERY_NS)
    fields = {"host": "a", "took_s": 7.0, "fence_s": 12.0, "advice": "; preset 'tolerant' ..."}
    assert note("margin-small", **fields).sentence.startswith("a beat of a took 7.0 s of the 12 s")


@pytest.mark.parametrize(
    ("longest_s", "preset"),
    [(3.9, ""), (5, "standard"), (20, "tolerant"), (45, "patient"), (99, "patient")],
)
def test_the_preset_that_suits(longest_s: float, preset: str) -> None:
    assert advice(Measured(10, longest_ns=int(longest_s * S)), QUICK) == preset


def test_nothing_measured_advises_nothing() -> None:
    assert advice(Measured(), QUICK) == ""
    assert told("a", None) == ["a has not measured enough beats yet"]


def test_status_check_and_command_tell_it(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)  # standard: the fence window is 40 s
    service.beats = Measured(1000, 2 * S, 3 * S, 9 * S, 25 * S)
    status = Api(service).status({})
    assert status.margin is not None
    assert (status.margin.longest_ms, status.margin.advice) == (25000, "tolerant")
    lights = {light.what: light.sentence for light in pool_lights(status, None)}
    assert "a beat of a took 25.0 s" in lights["margin"] and "'tolerant'" in lights["margin"]
    lines = told("a", status.margin)
    assert "2.00 s in half of them" in lines[0]
    assert "the smallest margin was 15.00 s of 40" in lines[1]
    service.beats = Measured(1000, 2 * S, 3 * S, 9 * S, 9 * S)
    calm = Api(service).status({})
    assert "margin" not in {light.what for light in pool_lights(calm, None)}


def test_the_longest_silence_of_a_link_that_stayed_up() -> None:
    margin = Margin(QUICK)
    margin.hear_links({2: 2 * S})
    assert margin.measured() == Measured(), "nothing is known before the first beat"
    beats(margin, 1.0)
    margin.hear_links({2: S, 3: 3 * S, 4: 5 * S})
    margin.hear_links({2: 2 * S, 3: S, 4: 7 * S})  # after 6 s it is down
    assert margin.measured().unheard_ns == 3 * S
    margin.hear_links({2: 2 * S, 3: S, 4: 0})
    assert margin.measured().unheard_ns == 3 * S, "that host died and is back: no slow link"


def test_links_have_percentiles_too() -> None:
    margin = Margin(QUICK)
    beats(margin, 1.0)
    for age_s in [1.0] * 97 + [4.0] * 3:
        margin.hear_links({2: int(age_s * S)})
        margin.hear_links({2: 0})
    known = margin.measured()
    assert S <= known.unheard_median_ns <= STEP * S
    assert (known.unheard_p99_ns, known.unheard_ns) == (4 * S, 4 * S)


def test_a_day_survives_a_restart_and_a_boot(tmp_path: Path) -> None:
    path, margin = tmp_path / "margin.json", Margin(QUICK)
    file = MarginFile(path, margin)
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    beats(margin, 1.0, 2.0, 5.0, begin_s=now_s)
    margin.hear_links({2: 3 * S})
    margin.hear_links({2: S})
    file.look()
    after = Margin(QUICK)
    MarginFile(path, after)
    assert after.measured() == margin.measured()
    assert after.measured().longest_ns == pytest.approx(5 * S)
    later = Margin(QUICK)
    later.take_up(margin.kept(int(now_s * S), 1000.0), 0, 1000.0 + 25 * 3600)
    assert later.measured() == Measured(), "what is older than a day is forgotten"
    other = Margin(PRESETS["standard"])
    other.take_up(margin.kept(int(now_s * S), 1000.0), 10 * S, 1010.0)
    assert other.measured() == Measured(), "late under one timing is not late under another"


def test_a_longer_beat_is_kept_at_once_and_others_now_and_then(tmp_path: Path) -> None:
    path, margin = tmp_path / "margin.json", Margin(QUICK)
    file = MarginFile(path, margin)
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    beats(margin, 2.0, begin_s=now_s)
    file.look()
    path.unlink()
    margin.hear(9, int((now_s + 9) * S), int((now_s + 1.5) * S))
    file.look()
    assert not path.exists()
    margin.hear(10, int((now_s + 10) * S), int((now_s + 14) * S))
    file.look()
    assert path.exists()


@pytest.mark.parametrize("data", [b"", b"[1]", b"{torn", b"\xff", b'{"fence_ns": 12000000000}'])
def test_a_damaged_file_is_measured_anew(tmp_path: Path, data: bytes) -> None:
    path, margin = tmp_path / "margin.json", Margin(QUICK)
    path.write_bytes(data)
    MarginFile(path, margin).look()
    assert margin.measured() == Measured()


def test_the_command_speaks_for_all_hosts(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    service.beats = Measured(1000, 2 * S, 3 * S, 9 * S, 9 * S)
    service.health[2] = HostHealth(2, beats=9, median_ns=2 * S, p99_ns=5 * S, longest_ns=45 * S)
    status = Api(service).status({})
    margins = margins_of(status)
    assert list(margins) == ["a", "b"]
    assert worst_advice(margins) == "patient"
    soon, late = failover_s(status, PRESETS["standard"], [4.0] * 20)
    assert soon == 60
    assert late == pytest.approx(60 + 4 * (2 + 3) + 4), "b is slow: 3 s beyond the beat"
