"""Pages as browsers without scripts get them: whole, safe, and honest about trouble."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from conftest import PASSWORD, Site
from outlast.manager.ports import COOKIE, Grant

FORBIDDEN = re.compile(
    r"""\sstyle=|\son[a-z]+=["']|<script(?![^>]*\ssrc=)|\shx-on|["']js:|javascript:|<style""", re.I
)
# addresses that forms are sent to, and files
SENT = re.compile(
    r"^/static/|/(sign-out|tokens|password|change|remove|start|stay|ha-on|views|forget|bulk)$"
    r"|/(webhooks|test|try/\w+|said|go-on|end)$"
)
POOL = "00000000-0000-4000-8000-000000000001"
VM, HOST = f"/pools/{POOL}/vms/db-prod-0018", f"/pools/{POOL}/hosts/fra-kvm-02"


def text(said: object) -> str:
    return said.body.decode()  # type: ignore[attr-defined]


def check_page(said: object, path: str) -> str:
    page = text(said)
    assert page.startswith("<!doctype html>"), path
    assert not FORBIDDEN.search(page), (path, FORBIDDEN.search(page))
    csp = said.headers["content-security-policy"]  # type: ignore[attr-defined]
    assert "unsafe" not in csp and "default-src 'none'" in csp
    ids = Counter(re.findall(r'\sid="([^"]+)"', page))
    assert [i for i, n in ids.items() if n > 1] == [], path
    assert "<title>" in page and 'lang="en"' in page
    return page


def test_every_link_leads_to_a_page(site: Site) -> None:
    """From the first page on, a few of each kind of address."""
    todo, seen, kinds = ["/"], set(), Counter()
    while todo:
        path = todo.pop()
        kind = re.sub(r"/(pools|vms|hosts)/[^/?]+", r"/\1/_", urlsplit(path).path)
        if path in seen or kinds[kind] >= 4:
            continue
        seen.add(path)
        kinds[kind] += 1
        said = site.get(path)
        if said.status == 303:  # to a page of the pool that comes first
            said = site.get(said.headers["location"])
        assert said.status == 200, (path, said.body[:300])
        page = text(said)
        if said.headers["content-type"].startswith("text/html") and "<html" in page:
            check_page(said, path)
            found = re.findall(r'(?:href|hx-get|action)="(/[^"#]*)', page)
            todo += [f.replace("&amp;", "&") for f in found if not SENT.search(f)]
    assert {"/", "/vms", "/failovers", "/tasks", "/users", "/audit", "/me"} <= seen
    assert len(kinds) > 20, kinds


def test_whoever_is_not_signed_in_is_sent_to_the_door_and_back(site: Site) -> None:
    said = site.get("/vms?search=db", who="")
    assert (said.status, said.headers["location"]) == (303, "/sign-in?next=%2Fvms%3Fsearch%3Ddb")
    wrong = site.post("/sign-in", {"name": "anna", "password": "no", "next": "/vms"}, who="")
    assert wrong.status == 403
    page = check_page(wrong, "/sign-in")
    assert 'role="alert"' in page and 'value="anna"' in page and 'value="no"' not in page
    right = {"name": "anna", "password": PASSWORD, "next": "/vms?search=db"}
    said = site.post("/sign-in", right, who="")
    assert (said.status, said.headers["location"]) == (303, "/vms?search=db")
    cookie = said.headers["set-cookie"]
    assert COOKIE in cookie
    assert all(w in cookie for w in ("Secure", "HttpOnly", "SameSite=strict", "Path=/"))


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/\\evil.example", "x"])
def test_the_door_leads_only_inside(site: Site, to: str) -> None:
    said = site.post("/sign-in", {"name": "anna", "password": PASSWORD, "next": to}, who="")
    assert (said.status, said.headers["location"]) == (303, "/")


def test_a_form_of_another_site_changes_nothing(own_site: Site) -> None:
    before = own_site.wishes()
    for more in ({"csrf": ""}, {"csrf": "x" * 40}, {"origin": "https://evil.example"}):
        said = own_site.post(f"/pools/{POOL}/vms/api-stage-0040/start", **more)
        assert said.status == 403, more
    assert own_site.post("/sign-in", {"name": "anna", "password": PASSWORD}, who="",
                         origin="https://evil.example").status == 403  # fmt: skip
    assert own_site.wishes() == before


def test_the_first_start(tmp_path: object) -> None:
    from desk import Desk

    from outlast.manager.serve import pages

    desk = Desk(tmp_path)  # type: ignore[arg-type]
    try:
        pages(desk.app, desk.manager)
        assert desk.call("GET", "/").headers["location"].startswith("/sign-in")
        assert desk.call("GET", "/sign-in").headers["location"] == "/first-start"
        check_page(desk.call("GET", "/first-start"), "/first-start")
        code = desk.place.setup_code.read_text().strip()

        def send(**fields: str) -> object:
            from urllib.parse import urlencode

            good = {"code": code, "name": "anna", "password": PASSWORD, "again": PASSWORD}
            return desk.call("POST", "/first-start", raw=urlencode(good | fields).encode(),
                             content_type="application/x-www-form-urlencoded")  # fmt: skip

        for fields in ({"code": "wrong"}, {"again": "other"}, {"name": "Anna!"}):
            said = send(**fields)
            assert said.status in (403, 422)
            assert 'role="alert"' in text(said)
            assert PASSWORD not in text(said)
        said = send()
        assert (said.status, said.headers["location"]) == (303, "/")
        assert desk.call("GET", "/first-start").headers["location"] == "/sign-in"
        assert send().status == 403
    finally:
        desk.close()


# ---- what is shown


def test_the_overview_counts_and_names_what_needs_a_look(site: Site) -> None:
    page = text(site.get("/"))
    assert page.index("frankfurt-a") < page.index(">lab<")
    assert "fra-kvm-06 is silent for 25 min" in page
    assert "2 hosts need a look" in page
    assert "Healthy" in page
    rows = dict(re.findall(r'<th scope="row"><a href="[^"]+">([^<]+)(.+?)</tr>', page, re.S))
    failed = re.search(
        r'href="(/pools/[^"]+/incidents/[0-9]+)" title="fra-kvm-06 is silent', rows["frankfurt-a"]
    )
    assert failed is not None and site.get(failed[1]).status == 200
    assert "incidents" not in rows["lab"]
    only = text(site.get("/?problems=1"))
    assert ">lab<" not in only and "frankfurt-a" in only


def test_the_overview_counts_wishes_and_how_full_the_storage_is(own_site: Site) -> None:
    count = re.compile(rf'id="pool-{POOL}">.+?<td class="is-number">(\d+)</td>\s*<td><a', re.S)
    assert count.findall(text(own_site.get("/"))) == ["0"]
    assert own_site.post(f"/pools/{POOL}/vms/api-stage-0040/start").status == 303
    assert count.findall(text(own_site.get("/"))) == ["1"]
    tasks = own_site.manager.tasks
    task = replace(tasks.tasks()[0], percent=50.0, started_wall_s=time.time() - 60)
    tasks._tasks[task.id] = task
    assert re.search(r"50 %, about \d+ s left", text(own_site.get("/tasks")))
    cell = text(own_site.get(f"/pools/{POOL}/room", target="x"))
    assert "62 %" in cell and "of 3.9 TiB" in cell
    # whoever sees one VM alone learns nothing of hosts, wishes and failures
    own_site.person("lone", Grant("viewer", POOL, "db-prod-0018"))
    page = text(own_site.get("/", "lone"))
    assert "frankfurt-a" in page and "/room" not in page and "/incidents/" not in page


def test_a_pool_shows_who_hears_whom_in_words_too(site: Site) -> None:
    page = text(site.get(f"/pools/{POOL}"))
    assert "fra-kvm-02 does not hear fra-kvm-07, but fra-kvm-07 hears fra-kvm-02." in page
    assert page.count('class="o-host is-') == 8
    assert text(site.get("/pools/frankfurt-a")).count('class="o-host is-') == 8
    assert "Any <small>of 7</small>" in text(site.get(f"/pools/{POOL}/spare", target="x"))
    assert "yes, any" in text(site.get(f"/pools/{POOL}/spare?cell=1", target="x"))


def test_the_list_of_vms_finds_sorts_and_turns_pages(site: Site) -> None:
    page = text(site.get("/vms"))
    assert "1–50 of 132" in page and page.count('<tr id="vm-') == 50
    assert "51–100 of 132" in text(site.get("/vms?page=2"))
    found = text(site.get("/vms?search=db+prod+pool:frankfurt-a"))
    names = re.findall(r'<th scope="row"><a href="[^"]+">([^<]+)', found)
    assert names and all("db-prod" in n for n in names)
    assert "1–1 of 1" in text(site.get("/vms?search=state:waiting"))
    assert text(site.get("/vms?sort=memory&down=1")).index("8 GiB") < 20_000
    assert 'aria-sort="descending"' in text(site.get("/vms?sort=memory&down=1"))
    assert "No VM is like that" in text(site.get("/vms?search=nothing-like-it"))
    for bad in ("sort=x", "pool=none", "page=0", "page=x", "limit=x", "search=" + "x" * 300):
        said = site.get(f"/vms?{bad}")
        assert said.status in (200, 422) and "Traceback" not in text(said)
        assert 'role="alert"' in text(said) or said.status == 422, bad


def test_a_script_gets_the_table_alone_and_its_canonical_address(site: Site) -> None:
    said = site.get("/vms?search=db&state=&pool=&ha=&limit=50&sort=name", target="vm-table")
    assert text(said).lstrip().startswith('<div id="vm-table">')
    assert "<html" not in text(said)
    assert said.headers["hx-push-url"] == "/vms?search=db"
    assert "HX-Request" in said.headers["vary"]


def test_what_people_typed_is_escaped(site: Site) -> None:
    evil = "<script>alert(1)</script>\"'"
    for path in ("/vms?search=", "/vms?state=", "/vms?host=", "/failovers?vm=", "/failovers?host=",
                 "/audit?who=", "/sign-in?next=", "/?x="):  # fmt: skip
        from urllib.parse import quote

        said = site.get(path + quote(evil))
        assert "<script>alert" not in text(said), path
        assert not FORBIDDEN.search(text(said)), path


def test_a_vm_says_why_where_and_what_it_is(site: Site) -> None:
    page = text(site.get(VM))
    assert "db-prod-0018 runs on" in page and "images/db-prod-0018.raw" in page
    why = re.sub(r"<[^>]+>", "", text(site.get(f"{VM}/why", target="why")))
    assert re.search(r"since [^,]+, because most memory was left there", why), why
    assert re.search(r"QEMU running at .+; its guest lives\.", why), why
    places = text(site.get(f"{VM}/places", target="places"))
    assert places.count('<th scope="row">') == 8 and "fra-kvm-06 is down" in places
    check_page(site.get(f"{VM}/why"), "why")


def test_a_hosts_page_says_how_near_it_came_to_losing_its_vms(site: Site) -> None:
    page = text(site.get(HOST))
    assert "39.2 s of 40 s were left at the slowest beat of a day" in page
    assert "without another beat" not in page  # that is known of the host that answers only
    page = text(site.get(HOST.replace("kvm-02", "kvm-01")))
    assert "open; without another beat it ends all VMs here in 40 s" in page


def test_a_reason_is_drawn_as_its_host_saw_it(site: Site) -> None:
    host = f"/pools/{POOL}/hosts/fra-kvm-06/why"
    page = text(site.get(host, target="why"))
    assert "fra-kvm-01 does not hear fra-kvm-06</title>" in page
    assert "unchanged for 15.2 s of 15 s" in page and 'class="t-missed"' in page
    assert "What fra-kvm-03 saw:" in page and "nobody hears it" in page
    check_page(site.get(host), "why")


def test_failovers_tell_one_story_of_what_belongs_together(site: Site) -> None:
    page = text(site.get(f"/failovers?pool={POOL}"))
    assert "fra-kvm-06 is silent: its block is unchanged" in page
    assert "1 did not yet: " in page and "6.3 s from first to last" not in page.partition("<h1>")[0]
    assert 'class="o-lanes"' in page and page.count('class="l-line"') == 8
    one = text(site.get(f"/failovers?pool={POOL}&host=fra-kvm-02"))
    assert "fra-kvm-02 and fra-kvm-07 do not hear each other" in one
    assert "is silent: its block" not in one


def test_each_moment_is_drawn_and_leads_to_the_next(site: Site) -> None:
    page = text(site.get(f"/failovers?pool={POOL}"))
    path = re.findall(r'href="(/pools/[^"]+/moments/\d+)">Step through it', page)[-1]
    begin, told, sizes = path, list[str](), list[int]()
    while path:
        page = check_page(site.get(path), path)
        told.append(re.sub(r"<[^>]+>", "", page.partition("<h1>")[2].partition("</h1>")[0]))
        sizes.append(int(re.findall(r"step \d+ of (\d+)", page)[0]))
        assert 'class="o-matrix"' in page and 'class="l-here"' in page
        assert page.count('class="o-strip"') >= 12 and 'aria-current="step"' in page
        if len(told) == 3:  # it brought nothing new
            assert "Nothing new was seen with this note. This is what fra-kvm-03 saw 1.0 s" in page
        found = re.search(r'rel="next" href="([^"]+)"', page)
        back = re.search(r'rel="prev" href="([^"]+)"', page)
        assert (back is None) == (path == begin)
        path = found.group(1) if found else ""
    assert told[0].startswith("fra-kvm-06 is silent") and "view 12 is" in told[1]
    assert "do not hear each other" in told[-1]
    assert sizes == [len(told) - 1] * (len(told) - 1) + [1], "the last is a story of its own"
    missing = site.get(f"/pools/{POOL}/moments/999999")
    assert missing.status == 404 and "here is no moment 999999" in text(missing)
    assert site.get(f"/pools/{POOL}/moments/{10**30}").status in (404, 422)


def test_a_silent_pool_says_so_in_its_place(own_site: Site) -> None:
    own_site.pools["frankfurt-a"].answers = False

    async def lost() -> None:
        own_site.manager.reads._pools[POOL].answered_s -= 60
        own_site.manager.reads.age()

    own_site.tell()
    own_site.run(lost())
    page = text(own_site.get(f"/pools/{POOL}"))
    assert "frankfurt-a does not answer." in page
    assert "HA goes on without the manager" in page
    assert "no route to host" in page
    why = own_site.get(f"{VM}/why", target="why")
    assert why.status == 200 and "o agent of frankfurt-a answers" in text(why)
    assert "not known" in text(own_site.get(f"/pools/{POOL}/spare", target="x"))
    said = own_site.post(f"/pools/{POOL}/vms/api-stage-0040/start")
    assert said.status == 502 and "o agent of frankfurt-a answers" in text(said)
    assert "Healthy" in text(own_site.get("/"))  # the other pool goes on


def test_what_is_not_there_and_bugs_are_pages(
    own_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/nothing", f"/pools/{POOL}/vms/none", "/pools/none", "/static/x/none.js"):
        said = own_site.get(path)
        assert said.status == 404, path
        check_page(said, path)
    assert own_site.get("/api/v1/nothing").headers["content-type"] == "application/json"

    caplog.set_level(logging.INFO, "outlast.manager.api")

    async def broken(*_: object) -> None:
        raise RuntimeError("a secret detail")

    own_site.manager.people.users = broken  # type: ignore[method-assign]
    said = own_site.get("/users")
    assert said.status == 500 and "secret detail" not in text(said)
    check_page(said, "/users")
    own_site.pools["frankfurt-a"].answers = False
    start = f"/pools/{POOL}/vms/api-stage-0040/start"
    told = [said, own_site.get("/users", target="x"), own_site.post(start, scripted=True)]
    for said, kind in zip(told, ("a bug in request", "a bug in request", "request"), strict=True):
        found = re.search(r"Request <code>(\w{12})</code>", text(said))
        assert found is not None and said.status >= 500
        lines = [r for r in caplog.records if f"{kind} {found[1]}" in r.getMessage()]
        assert len(lines) == 1 and (kind == "request") != bool(lines[0].exc_info)


def test_what_if_and_the_course_of_one_failure(site: Site) -> None:
    page = text(site.get(f"/pools/{POOL}/what-if?fail=fra-kvm-01&fail=fra-kvm-02"))
    assert "VMs restart elsewhere." in page
    assert "outlast pool what-if --fail fra-kvm-01,fra-kvm-02" in page
    one = text(site.get(f"/pools/{POOL}/what-if?fail=fra-kvm-01", target="answer"))
    assert "its death is proven after" in one and "VMs run again after" in one
    assert "outlast drill --host fra-kvm-01 --kind power --dry-run" in one
    assert "outlast drill --host fra-kvm-01 --kind power<" in one
    agent = text(site.get(f"/pools/{POOL}/what-if?fail=fra-kvm-03&kind=agent", target="answer"))
    assert "no VM is touched" in agent and "another host is master after" in agent
    assert "here is no host none" in text(site.get(f"/pools/{POOL}/what-if?fail=none"))
    assert "Memory given to VMs afterwards, the fullest first: fra-kvm-0" in one
    any_two = text(site.get(f"/pools/{POOL}/what-if?any=2", target="answer"))
    assert "outlast pool what-if --any 2" in any_two and "ny 2 hosts may fail" in any_two
    assert site.get(f"/pools/{POOL}/what-if?any=9").status == 422
