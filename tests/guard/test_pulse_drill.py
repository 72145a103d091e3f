"""A drill takes away and never gives: pure rules, and two real pulses of which one is drilled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_process import why_not
from pulse_process import TIMING, Host, block_on_disk, make_pool, write_view
from pulse_world import BEAT, World

from outlast.errors import InvalidInput
from outlast.guard.pulse_drill import AWAY, Drill, Muting, read_drill
from outlast.guard.pulse_facts import Close
from outlast.guard.pulse_windows import Instant
from outlast.settings import S
from outlast.storage.layout import PoolDir

needs_guard = pytest.mark.skipif(bool(why_not()), reason=why_not())


def member() -> World:
    """A pulse whose guard is open."""
    world = World()
    while world.core.life.value == "looking":
        world.cycle()
    world.admit()
    for _ in range(3):
        world.cycle()
    assert world.core.life.value == "member"
    return world


# ---- pure


@pytest.mark.parametrize(
    ("kind", "storage", "network"),
    [("storage", True, False), ("network", False, True), ("power", True, True)],
)
def test_each_kind_takes_away_its_own(kind: str, storage: bool, network: bool) -> None:
    world, muting = member(), Muting()
    now = world.now()
    commands = muting.begin(Drill(kind, 5 * S), world.core, now)
    assert (muting.storage(now), muting.network(now)) == (storage, network)
    assert [type(c) for c in commands] == ([Close] if kind == "power" else [])
    assert muting.to_json(now) == {"kind": kind, "left_ms": 5000}
    late = Instant(now.boot_ns + 5 * S, now.raw_ns + 5 * S)
    assert not muting.storage(late)
    assert not muting.network(late)
    assert muting.to_json(now) == {}, "what is over does not come back"


def test_power_ends_the_term_and_asks_for_a_reset() -> None:
    world = member()
    (close,) = Muting().begin(Drill("power", S), world.core, world.now())
    assert isinstance(close, Close)
    assert (close.term, close.reset_if_running) == (world.core.term, True)


def test_the_slower_clock_ends_it() -> None:
    world, muting = member(), Muting()
    now = world.now()
    muting.begin(Drill("storage", 5 * S), world.core, now)
    assert muting.storage(Instant(now.boot_ns + 6 * S, now.raw_ns + 4 * S))


def test_the_network_comes_back_when_the_storage_goes() -> None:
    world, muting = member(), Muting()
    muting.begin(Drill("network", 60 * S), world.core, world.now())
    for _ in range(5):
        world.cycle()
        assert muting.network(world.now())
    world.hang(4 * BEAT)
    assert not muting.network(world.now())
    world.cycle()
    assert not muting.network(world.now()), "it is over for good"


def test_a_good_cycle_counts_as_failed_and_confirms_nothing() -> None:
    world, muting = member(), Muting()
    muting.begin(Drill("storage", 60 * S), world.core, world.now())
    world.cycle()
    assert world.sample is not None
    spoiled = muting.cycled(world.sample, world.now())
    assert (spoiled.area, spoiled.acked, spoiled.views) == (None, None, ())
    assert spoiled.error == AWAY
    world.heed()
    assert world.core.finish(spoiled, world.now()) == []
    assert not world.core.good


@pytest.mark.parametrize(
    "said",
    [None, {}, {"kind": "meteor", "for_ms": 5}, {"kind": "power"}, {"kind": "power", "for_ms": 0},
     {"kind": "power", "for_ms": -1}, {"kind": "power", "for_ms": 10**9},
     {"kind": "power", "for_ms": 1.5}],
)  # fmt: skip
def test_what_is_no_drill_is_refused(said: object) -> None:
    with pytest.raises(InvalidInput):
        read_drill({"drill": said})
    assert read_drill({"publish": {}}) is None


# ---- real pulses and guards


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[PoolDir, Host, Host]]:
    pool = make_pool(tmp_path / "pool")
    hosts = Host(pool, tmp_path / "a", 1), Host(pool, tmp_path / "b", 2)
    for host in hosts:
        host.register()
        host.launch()
    for host in hosts:
        host.until_state("joining")
    write_view(pool, *hosts)
    for host in hosts:
        host.until_state("member")
    yield pool, *hosts
    for host in hosts:
        host.clean()


@needs_guard
def test_a_real_network_drill_and_its_end(pair: tuple[PoolDir, Host, Host]) -> None:
    _, a, b = pair
    a.until(lambda: a.said("links", "2", "hears_me"), "they hear each other")
    lost_ns = TIMING.link_lost_ns
    assert b.client.drill("network", 3)
    a.until(lambda: (a.said("links", "2", "heard_ns_ago") or 0) > lost_ns, "a hears nothing of b")
    b.until(lambda: (b.said("links", "1", "heard_ns_ago") or 0) > lost_ns, "nor b of a")
    assert b.said("drill", "kind") == "network"
    assert b.said("storage", "ok") is True
    a.until(lambda: a.said("links", "2", "heard_ns_ago") < lost_ns, "b is heard again, unasked")
    b.until(lambda: b.said("drill") == {}, "it is over")


@needs_guard
def test_a_real_storage_drill_ends_the_term(pair: tuple[PoolDir, Host, Host]) -> None:
    pool, a, b = pair
    term, seq = b.said("term"), block_on_disk(pool, 2).seq
    assert b.client.drill("storage", 5)
    b.until(lambda: b.said("guard", "state") == "closed", "the guard closed at its deadline")
    assert block_on_disk(pool, 2).seq <= seq + 2, "it writes nothing"
    a.until(lambda: (a.said("blocks", "2", "still_ns") or 0) > TIMING.fence_ns, "a sees it still")
    b.until(lambda: b.said("state") == "joining", "it begins anew when the drill is over")
    assert b.said("term") != term


@needs_guard
def test_a_new_pulse_knows_of_no_drill(pair: tuple[PoolDir, Host, Host]) -> None:
    _, _, b = pair
    b.client.drill("network", 600)
    b.until(lambda: b.said("drill", "kind") == "network", "it is under way")
    b.kill9()
    b.launch()
    b.until(lambda: b.said("drill") == {} and b.said("state") == "member", "it ended with it")


@needs_guard
def test_nonsense_is_refused_with_a_sentence(pair: tuple[PoolDir, Host, Host]) -> None:
    _, _, b = pair
    b.client.drill("meteor", 5)
    b.client.drill("network", 10**6)
    before = b.snapshots
    b.until(lambda: b.snapshots > before + 3, "it goes on")
    assert b.said("drill") == {}
