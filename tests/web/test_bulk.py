"""Many VMs at once: the plan before, one confirmation, what became of each; and saved views."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from calling import wait

from conftest import Site
from outlast.errors import Conflict
from outlast.manager.ports import Grant

POOL = "00000000-0000-4000-8000-000000000001"
LAB = "00000000-0000-4000-8000-000000000002"


def names(site: Site, state: str, count: int) -> list[str]:
    found = [v.name for v in site.pools["frankfurt-a"].vms.values() if v.state == state]
    return [str(name) for name in found[:count]]


def words(chosen: list[str], verb: str) -> str:
    return f"verb={verb}&" + "&".join(f"vm={POOL}/{name}" for name in chosen)


def planned(site: Site, query: str, who: str = "anna") -> tuple[str, dict[str, str]]:
    """The plan's text, and what its form repeats beside the VMs."""
    page = site.get(f"/vms/bulk?{query}", who, target="dialog-body").body.decode()
    found = dict(re.findall(r'type="hidden" name="(seen|verb|all|where)" value="([^"]*)"', page))
    return page, {k: v.replace("&amp;", "&") for k, v in found.items()}


def wish(site: Site, form: dict[str, str], chosen: list[str], who: str = "anna") -> str:
    """Where the run is to be seen."""
    pairs = {f"vm{n}": f"{POOL}/{name}" for n, name in enumerate(chosen)}
    body = form | pairs
    said = site.post("/vms/bulk", body, who, rename=dict.fromkeys(pairs, "vm"))
    assert said.status == 303, said.body[:300]
    return str(said.headers["location"])


def test_the_plan_names_who_is_left_alone(own_site: Site) -> None:
    up, off = names(own_site, "running", 2), names(own_site, "stopped", 1)
    page, form = planned(own_site, words(up + off, "stop"))
    assert "Shut down: 2 VMs" in page and "left alone: it is stopped" in page
    assert f"outlast vm stop {up[0]} {up[1]}" in page
    at = wish(own_site, form, up + off)
    page = own_site.until(at, "2 under way, 1 left alone")
    wait(lambda: own_site.wishes() == 2)
    own_site.pools["frankfurt-a"].step()
    own_site.tell()
    page = own_site.until(at, "2 done, 1 left alone")
    assert f"{up[0]} is stopped" in page and "Try those again" not in page
    assert own_site.get(at, "otto").status == 404  # somebody else's


def test_all_that_match_are_meant(own_site: Site) -> None:
    where = quote("/vms?search=state:stopped", safe="")
    page, form = planned(own_site, f"verb=start&all=1&where={where}&vm=nonsense")
    count = sum(v.state == "stopped" for p in own_site.pools.values() for v in p.vms.values())
    assert f"Start: {count} VMs" in page and form["where"] == "/vms?search=state:stopped"
    wish(own_site, form, [])
    wait(lambda: own_site.wishes() == count)


def test_what_some_refuse_is_told_beside_them(own_site: Site) -> None:
    chosen = names(own_site, "running", 3)
    _, form = planned(own_site, words(chosen, "migrate"))
    pool = own_site.pools["frankfurt-a"]
    pool.refuse = {chosen[1]: Conflict("its processor is not there")}
    at = wish(own_site, form, chosen)
    page = own_site.until(at, "2 under way, 1 refused or failed")
    assert "its processor is not there" in page
    wait(lambda: own_site.wishes() == 2)
    pool.step()
    own_site.tell()
    page = own_site.until(at, "2 done, 1 refused or failed")
    again = re.search(r'hx-get="(/vms/bulk[?][^"]+)"[^>]*>Try those again', page)
    assert again is not None and again[1].count("vm=") == 1 and chosen[1] in again[1]


def test_a_plan_that_has_changed_is_shown_anew(own_site: Site) -> None:
    chosen = names(own_site, "running", 2)
    _, form = planned(own_site, words(chosen, "stop"))
    own_site.pools["frankfurt-a"].change_vm(chosen[0], state="stopped", host="")
    own_site.tell()
    body = form | {"vm": f"{POOL}/{chosen[0]}", "vm2": f"{POOL}/{chosen[1]}"}
    said = own_site.post("/vms/bulk", body, scripted=True, rename={"vm2": "vm"})
    assert said.status == 409 and "has changed meanwhile" in said.body.decode()
    assert own_site.wishes() == 0


@pytest.mark.parametrize("query", ["verb=kill&vm=x/y", "verb=stop", "verb=stop&vm=x/none"])
def test_what_is_no_plan_is_refused(site: Site, query: str) -> None:
    assert site.get(f"/vms/bulk?{query}").status in (404, 422)


def test_each_vm_is_asked_for_by_itself(own_site: Site) -> None:
    mine, other = names(own_site, "running", 2)
    own_site.person("owner", Grant("viewer"), Grant("own", POOL, mine))
    page, form = planned(own_site, words([mine, other], "stop"), "owner")
    assert "Shut down: 1 VM" in page and "left alone: you may not" in page
    own_site.until(wish(own_site, form, [mine, other], "owner"), "1 under way", "owner")
    wait(lambda: own_site.pools["frankfurt-a"].wishes == [("stop", mine)])
    page, _ = planned(own_site, words([mine, other], "stop"), "vera")
    assert "There is nothing to do" in page
    assert 'id="bulk"' not in own_site.get("/vms", "vera").body.decode()
    own_site.person("stranger", Grant("viewer", LAB))
    assert own_site.get(f"/vms/bulk?{words([mine], 'stop')}", "stranger").status == 404


def test_views_are_kept_for_each_person(own_site: Site) -> None:
    form = {"name": "Down in the lab", "at": "/vms?state=down&pool=lab&page=7&junk=1"}
    said = own_site.post("/vms/views", form)
    assert (said.status, said.headers["location"]) == (303, "/vms?pool=lab&state=down")
    page = own_site.get("/vms").body.decode()
    assert 'href="/vms?pool=lab&amp;state=down">Down in the lab</a>' in page
    assert "Down in the lab" not in own_site.get("/vms", "otto").body.decode()
    for name in ("", "x" * 41, "a\nb"):
        assert own_site.post("/vms/views", form | {"name": name}).status == 422
    for n in range(19):
        assert own_site.post("/vms/views", form | {"name": f"view {n}"}).status == 303
    full = own_site.post("/vms/views", form | {"name": "one more"})
    assert full.status == 409 and "20 views already" in full.body.decode()
    own_site.post("/vms/views/forget", {"name": "Down in the lab", "at": "//evil.example"})
    assert "Down in the lab" not in own_site.get("/vms").body.decode()


def test_many_are_deleted_after_their_number_was_typed(own_site: Site) -> None:
    off, up = names(own_site, "stopped", 2), names(own_site, "running", 1)
    page, form = planned(own_site, words(off + up, "delete"))
    assert "Delete: 2 VMs" in page and "left alone: it is running" in page
    assert f"for vm in {' '.join(off)}; do outlast vm delete $vm; done" in page
    pairs = {f"vm{n}": f"{POOL}/{name}" for n, name in enumerate(off + up)}
    for typed in ("", "4", "two"):
        body = form | pairs | {"typed": typed}
        said = own_site.post("/vms/bulk", body, rename=dict.fromkeys(pairs, "vm"))
        assert said.status == 422 and "ype 2 to confirm" in said.body.decode()
    assert own_site.wishes() == 0
    wish(own_site, form | {"typed": "2", "with_disks": "1"}, off + up)
    pool = own_site.pools["frankfurt-a"]
    wait(lambda: own_site.wishes() == 2)
    assert sorted(pool.wishes) == [("delete", name, True) for name in sorted(off)]


def test_ha_and_priority_of_many(own_site: Site) -> None:
    pool = own_site.pools["frankfurt-a"]
    chosen = [v.name for v in pool.vms.values() if v.ha][:2]
    other = next(v.name for v in pool.vms.values() if not v.ha)
    page, form = planned(own_site, words([*chosen, other], "ha-off"))
    assert "Switch HA off: 2 VMs" in page and "left alone: it has no HA" in page
    wish(own_site, form | {"why": "moving racks", "for": "2h"}, [*chosen, other])
    wait(lambda: own_site.wishes() == 2)
    assert {pool.vms[n].ha_off.why for n in chosen} == {"moving racks (anna)"}
    _, form = planned(own_site, words(chosen, "priority"))
    wish(own_site, form | {"priority": "high"}, chosen)
    wait(lambda: own_site.wishes() == 4)
    assert {pool.vms[n].priority for n in chosen} == {"high"}
