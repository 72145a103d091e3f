"""Rolling maintenance of a pretend pool: begun on its page, followed, stopped, ended, outliving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import V
from test_pages import check_page

from conftest import Site, made
from outlast.errors import Conflict
from outlast.manager import rounds as module
from outlast.manager.ports import Grant
from outlast.manager.repository import records, rounds
from outlast.manager.rounds import Rounds
from outlast.readiness.rolling import Round

LAB = "00000000-0000-4000-8000-000000000002"
AT = f"/pools/{LAB}/rolling"
FORM = {"host": "lab-kvm-01", "h2": "lab-kvm-02", "why": "new <kernel>", "bring_back": "1"}
TWO = {"h2": "host"}  # a form may name several hosts


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(module, "EVERY_S", 0.02)
    found = made(tmp_path)
    yield found
    found.close()


def now(site: Site) -> Round:
    return site.run(site.manager.rounds.of(LAB))  # type: ignore[return-value]


def until(site: Site, holds: Callable[[Round], bool]) -> Round:
    """The round, once it is so; what was wished of the pool happens meanwhile."""
    end = time.monotonic() + 60
    while not holds(found := now(site)):
        assert time.monotonic() < end, found
        assert not found.stopped, found
        site.pools["lab"].step()
        site.tell()
        time.sleep(0.02)
    return found


def test_from_the_plan_to_the_end(site: Site) -> None:
    lab = site.pools["lab"]
    page = check_page(site.get(AT), AT)
    assert "VMs move away" in page and "outlast pool maintain-all" in page
    assert site.post(AT, FORM, "vera", rename=TWO).status == 403
    assert site.post(AT, {"why": "x"}).status == 422
    before = {v.name: v.host for v in lab.vms.values()}
    said = site.post(AT, FORM, "otto", rename=TWO)
    assert (said.status, said.headers["location"]) == (303, AT)
    again = site.post(AT, FORM, rename=TWO)
    assert again.status == 409
    assert "already" in again.body.decode()
    for host in ("lab-kvm-01", "lab-kvm-02"):
        until(site, lambda r, h=host: (r.host, r.phase) == (h, "work"))
        assert [v for v in lab.vms.values() if v.host == host] == []
        page = check_page(site.get(AT), AT)
        assert f"The work on {host} is done" in page and "new &lt;kernel&gt;" in page
        assert "is done</button>" not in site.get(AT, "vera").body.decode()
        wrong = site.post(f"{AT}/said", {"host": "lab-kvm-03"})
        assert wrong.status == 409
        assert site.post(f"{AT}/said", {"host": host}).status == 303
    found = until(site, lambda r: not r.open)
    assert (found.phase, found.who, found.sentence) == ("done", "otto", "all 2 hosts are done")
    assert {v.name: v.host for v in lab.vms.values()} == before, "all came back"
    assert [w[:2] for w in lab.wishes] == [
        ("maintain", "lab-kvm-01"), ("resume", "lab-kvm-01"),
        ("maintain", "lab-kvm-02"), ("resume", "lab-kvm-02"),
    ]  # fmt: skip
    assert "All 2 hosts are done" in check_page(site.get(AT), AT)
    lines: Any = site.run(site.manager.repository.read(records.list_audit))
    who = {row.action: row.who for row in lines[0] if row.ok}
    assert who["rolling-begin"] == who["maintain"] == who["resume"] == "otto"
    assert who["rolling-said"] == "anna"
    told = {row.action: (row.before, row.after) for row in lines[0]}
    assert told["rolling-begin"] == ("", "lab-kvm-01, lab-kvm-02")
    words = "runs no VMs: say when the work is done"
    assert told["rolling-said"] == (
        f"lab-kvm-01, work: lab-kvm-01 {words}", f"lab-kvm-01, work, done: lab-kvm-01 {words}",
    )  # fmt: skip
    assert site.post(AT, FORM, rename=TWO).status == 303, "another one may begin"


def test_it_stops_goes_on_and_is_ended(site: Site) -> None:
    lab = site.pools["lab"]
    lab.change_vm("api-prod-0000", host="lab-kvm-01")
    assert site.post(AT, FORM, rename=TWO).status == 303
    until(site, lambda r: r.phase == "empties")
    with lab.lock:
        lab.hosts.pop("lab-kvm-01")
    site.tell()
    page = site.until(AT, "lab-kvm-01 is no host of the pool any more")
    assert "Go on" in page and "End it here" in page
    assert site.post(f"{AT}/go-on", who="vera").status == 403
    assert site.post(f"{AT}/go-on").status == 303
    site.until(AT, "lab-kvm-01 is no host of the pool any more")
    assert site.post(f"{AT}/end", who="otto").status == 303
    page = check_page(site.get(AT), AT)
    assert "It was ended by otto; lab-kvm-01 stays as it is" in page
    assert site.post(f"{AT}/end").status == 409
    assert site.post(f"{AT}/go-on").status == 409


def test_another_manager_goes_on_and_nothing_is_done_twice(site: Site) -> None:
    site.person("anna")
    leads = site.manager.leader
    leads.leads, hold = False, leads._set
    leads._set = lambda _: None
    try:
        assert site.post(AT, FORM, rename=TWO).status == 303
        manager = site.manager
        parts = (manager.repository, manager.reads, manager.acts, manager.people)
        one, two = Rounds(*parts), Rounds(*parts)
        site.run(one.round())
        assert now(site).phase == "empties"
        # what the first did last was not written down
        kept: Any = site.run(manager.repository.read(lambda c: rounds.of(c, LAB)))
        back = kept[0].model_copy(update={"phase": "begins"})
        assert site.run(manager.repository.write(lambda c: rounds.change(c, LAB, back, kept[1])))
        site.tell()
        site.run(two.round())
        assert now(site).phase == "empties"
        assert [w[0] for w in site.pools["lab"].wishes] == ["maintain"]
        # an old look changes nothing
        old = site.run(manager.repository.write(lambda c: rounds.change(c, LAB, back, kept[1])))
        assert old is False
        assert now(site).phase == "empties"
    finally:
        leads._set = hold
        leads.leads = True


def test_whoever_may_not_any_more_stops_it(site: Site) -> None:
    site.person("rolf", Grant("operator", LAB))
    site.pools["lab"].answers = False
    site.tell()
    site.manager.reads.age()
    site.pools["lab"].answers = True
    site.tell()
    assert site.post(AT, FORM, "rolf", rename=TWO).status == 303
    people = site.manager.people
    boss = site.run(people.session(site.person("anna")[0]))
    until(site, lambda r: r.phase == "work")
    site.run(people.change_user(boss, "rolf", roles=(Grant("viewer"),)))  # type: ignore[arg-type]
    assert site.post(f"{AT}/said", {"host": "lab-kvm-01"}).status == 303
    page = site.until(AT, "rolf may not do this any more")
    assert "End it here" in page
    assert [w[0] for w in site.pools["lab"].wishes] == ["maintain"]


def test_over_the_api(site: Site) -> None:
    token = site.run(site.manager.people.add_token(  # type: ignore[index]
        site.run(site.manager.people.session(site.person("otto")[0])), "otto", "ci",
        (Grant("operator"),), 1,
    ))[0]  # fmt: skip
    at = f"{V}/pools/lab/rolling-maintenance"

    def call(method: str, more: str = "", body: object = None) -> Any:
        return site.desk.call(method, at + more, body, token=token)

    assert call("GET").status == 404
    for body, said in (({"hosts": ["zoe"]}, 404), ({"until": "never"}, 422), ({"x": 1}, 422)):
        assert call("POST", body=body).status == said, body
    made_ = call("POST", body={"hosts": ["lab-kvm-02"], "until": "reboot"})
    assert (made_.status, made_.json["hosts"]) == (201, ["lab-kvm-02"])
    until(site, lambda r: r.phase == "work")
    lab = site.pools["lab"]
    lab.change_host("lab-kvm-02", state="silent", sentence="lab-kvm-02 is silent for 20 s")
    until(site, lambda r: r.away)
    lab.change_host("lab-kvm-02", state="member", sentence="lab-kvm-02 is a member")
    found = until(site, lambda r: not r.open)
    assert (found.phase, found.who) == ("done", "otto/ci")
    assert call("GET").json["phase"] == "done"
    assert call("POST", "/end").error["code"] == Conflict.code
