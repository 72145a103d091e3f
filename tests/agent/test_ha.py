"""The switches of high availability: what is written, shown, and when they are on again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent.api import Api
from outlast.agent.pool_wishes import switch
from outlast.errors import InvalidInput, NotFound
from outlast.model import HaOff
from outlast.pool import availability
from outlast.storage import beneath
from outlast.wire.shapes import BadField, HaSwitch, PoolChange, VmCreate, make

OFF = make(HaSwitch, on=False, why="restoring a backup", for_s=7200)


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    (tmp_path / "images").mkdir()
    made = MemoryService(tmp_path)
    Api(made).wishes.create(make(VmCreate, name="web", memory="512MiB"))
    return made


def test_off_with_a_reason_a_person_and_an_end(service: MemoryService) -> None:
    api, now_s = Api(service), 1_800_000_000.0
    off = switch(OFF, "anna", now_s)
    assert off == HaOff("restoring a backup", "anna", 1_800_007_200)
    said = api.wishes.set_ha("web", replace(off, until_wall_s=4_000_000_000))
    assert (said.changed, said.sentence) == (True, "HA of web is off")
    shown = api.vm("web", {}).ha_off
    assert shown is not None
    assert (shown.by, shown.why) == ("anna", "restoring a backup")
    assert api.wishes.set_ha("web", None).changed
    assert api.vm("web", {}).ha_off is None
    assert not api.wishes.set_ha("web", None).changed
    with pytest.raises(NotFound):
        api.wishes.set_ha("nothing", None)


def test_past_its_end_it_is_on_again(service: MemoryService) -> None:
    api = Api(service)
    api.wishes.set_ha("web", HaOff("why", "anna", until_wall_s=1))
    assert api.vm("web", {}).ha_off is None
    off = HaOff("", "", until_wall_s=100)
    assert availability.holds(off, 99)
    assert not availability.holds(off, 100)
    assert availability.holds(HaOff(), 1 << 40), "without an end it lasts"
    assert not availability.holds(None, 0)


def test_the_pools_switch_counts_for_every_vm(service: MemoryService) -> None:
    api = Api(service)
    assert api.pool_wishes.set_ha(HaOff("new switches", "anna")).changed
    assert not api.pool_wishes.set_ha(HaOff("new switches", "anna")).changed
    status = api.status({})
    assert status.ha_off is not None
    held = service.read_vm("web")
    assert held is not None
    facts = service.facts(0)
    said = availability.off(facts, held.value)
    assert said == "the pool's HA was switched off by anna: new switches"
    api.pool_wishes.set_ha(None)
    assert api.status({}).ha_off is None
    assert availability.off(service.facts(0), held.value) == ""
    assert availability.off(facts, replace(held.value, ha=False)) == "it is not highly available"


def test_a_timing_that_one_death_would_end_everywhere_is_refused(
    service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(service)
    monkeypatch.setattr(beneath, "mount_of", lambda _path: ("ocfs2", "/srv/pool (rw)"))
    with pytest.raises(InvalidInput, match="all would end their VMs") as caught:
        api.pool_wishes.set(make(PoolChange, timing="standard"))
    assert "tolerant" in caught.value.hint
    assert api.pool_wishes.set(make(PoolChange, timing="tolerant")).changed
    monkeypatch.undo()
    assert api.pool_wishes.set(make(PoolChange, timing="standard")).changed


@pytest.mark.parametrize("more", [{"for_s": 0}, {"for_s": -5}, {"why": "a\nb"}, {"why": "x" * 201}])
def test_wishes_that_are_none(more: dict[str, object]) -> None:
    with pytest.raises(BadField):
        make(HaSwitch, on=False, **more)
