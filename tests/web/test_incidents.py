"""One story of failures: its verdict in numbers, VM by VM, live, and as JSON."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from test_web_live import Stream

from conftest import Site
from outlast.manager.ports import Grant
from outlast.manager.repository.records import EventRow
from outlast.manager.web.verdicts import verdict

POOL = "00000000-0000-4000-8000-000000000001"
T = 1_000_000.0


def event(at_s: float, code: str, by: str, vm: str = "", **fields: Any) -> EventRow:
    return EventRow(int(at_s * 10) + 1, POOL, T + at_s, by, code, vm, f"{code} {vm}", fields)


STEPS = (
    event(0, "host-silent", "a", host="c", still_s=15.0),
    event(0.5, "view-changed", "a", view=8),
    event(1, "order-given", "a", "db", host="b", why="most memory is left there"),
    event(2, "vm-starts", "b", "db", host="b", why="c is dead"),
    event(4, "vm-runs", "b", "db", host="b"),
    event(5, "vm-runs", "a", "web", host="a"),
    event(5.5, "vm-crashed", "b", "mail", host="b", why="killed"),
    event(7.5, "vm-runs", "b", "mail", host="b"),
    event(8, "no-room", "a", "big", why="no host has 64 GiB free"),
    event(9, "lease-freed", "b", "other", why="stopped"),
)


def test_vms_were_down_from_the_last_sign_of_life_of_their_host() -> None:
    found = verdict(STEPS, ["a", "b", "c"])
    assert (found.dead, found.noticed_s, found.agreed_s) == (("c",), 15.0, 0.5)
    spans = {fate.vm: fate.down_s for fate in found.fates}
    assert spans == {"big": None, "db": 19.0, "web": 20.0, "mail": 2.0}
    assert (found.median_s, found.longest_s, found.waiting) == (19.0, 20.0, 1)
    first = found.fates[0]
    assert (first.vm, first.to, first.why) == ("big", "", "no host has 64 GiB free")
    assert next(f.why for f in found.fates if f.vm == "db") == "c is dead"
    assert found.mute == ("c",), "its own notes are not here"


def test_without_a_death_nothing_was_noticed() -> None:
    found = verdict(STEPS[6:8], ["a", "b"])
    assert (found.dead, found.noticed_s, found.agreed_s) == ((), None, None)
    assert [(f.vm, f.down_s) for f in found.fates] == [("mail", 2.0)]
    nothing = verdict((event(0, "member", "b"),), ["b"])
    assert (nothing.fates, nothing.median_s, nothing.longest_s) == ((), None, None)


def begin(site: Site) -> int:
    """The first event of the failure, by the way that people take."""
    page = site.get(f"/failovers?pool={POOL}&span=1d").body.decode()
    return int(re.findall(rf"/pools/{POOL}/incidents/(\d+)", page)[-1])


def test_the_page_and_its_evidence(site: Site) -> None:
    at = f"/pools/{POOL}/incidents/{begin(site)}"
    page = site.get(at).body.decode()
    for words in ("Noticed after", "15.2", "fra-kvm-06 was out", "did not in this story",
                  "no host has room", "Would it be survived again?", "fail=fra-kvm-06",
                  "the clock of the host that wrote"):  # fmt: skip
        assert words in page, words
    one = site.get(f"{at}?host=fra-kvm-03&zoom=decision").body.decode()
    assert one.count('class="l-name"') == 1 and page.count('class="l-name"') == 8
    assert one.count("l-mark") < page.count("l-mark")
    told = json.loads(site.get(f"{at}/evidence").body)
    assert told["steps"][0]["code"] == "host-silent" and told["steps"][0]["evidence"]["blocks"]
    assert "fra-kvm-06" in told["without_notes"]
    assert site.get(f"/pools/{POOL}/incidents/999999").status == 404
    site.person("only-db", Grant("own", POOL, "db-*"))
    for path in (at, f"{at}/evidence"):
        assert site.get(path, "only-db").status in (403, 404)


def test_it_is_told_while_it_goes_on(own_site: Site) -> None:
    pool = own_site.pools["frankfurt-a"]
    query = f"page=incident%3Fpool%3D{POOL}%26event%3D{begin_of_link(own_site)}"
    stream = Stream(own_site, query)
    pool.change_host("fra-kvm-06", sentence="fra-kvm-06 counts as dead in 6 s")
    own_site.tell()
    end = time.monotonic() + 20
    while "counts as dead in 6 s" not in (told := stream.next()):
        assert time.monotonic() < end, told
    stream.close()
    for wrong in ("x", "9" * 40, "0"):
        broken = Stream(own_site, f"page=incident%3Fpool%3D{POOL}%26event%3D{wrong}")
        assert broken.status == 200 and 'id="incident"' not in broken.next()
        broken.close()


def begin_of_link(site: Site) -> int:
    """The link fault, 40 s ago: it goes on."""
    page = site.get(f"/failovers?pool={POOL}").body.decode()
    return int(re.findall(r'id="story-(\d+)"', page)[0])


def test_stories_are_told_by_what_they_are_about(site: Site) -> None:
    def told(kind: str) -> list[str]:
        page = site.get(f"/failovers?pool={POOL}&kind={kind}").body.decode()
        return re.findall(r'id="story-(\d+)"', page)

    every = told("")
    out, link = told("a+host+was+out"), told("a+link+or+the+storage+failed")
    assert len(every) == 2 and {*out, *link} == {*every} and len(out) == len(link) == 1
    assert told("it+was+planned") == [] and told("nonsense") == every
