"""The stream of a page: what it shows and nothing else, soon, once, and to whom it may be shown."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from desk import BOSS, _messages

from conftest import Site
from outlast.manager.ports import COOKIE, Grant
from outlast.wire.shapes import HaOffInfo

POOL = "00000000-0000-4000-8000-000000000001"
TARGET = re.compile(r'<hx-partial hx-target="#([^"]+)"')


def test_rows_that_would_lie_elsewhere_are_told(own_site: Site) -> None:
    """A row changes where it is; a bar says that the order is an old one, and only then."""
    page = own_site.get("/vms?sort=memory&limit=25").body.decode()
    query = stream_of(page)
    stream, other = Stream(own_site, query), Stream(own_site, query)
    shown = re.findall(r'id="vm-' + POOL + r'-([^"]+)"', page)
    own_site.pools["frankfurt-a"].change_vm(shown[3], state="paused")
    own_site.tell()
    assert stream.until("Paused")
    assert other.until("Paused") and other.quiet(2.5)
    own_site.pools["frankfurt-a"].change_vm(shown[3], memory_mib=1 << 20)
    own_site.tell()
    assert f"vm-{POOL}-{shown[3]}" in stream.next()
    told = stream.next()
    assert TARGET.findall(told) == ["moved"] and "1 row has changed place" in told
    assert 'href="/vms?sort=memory&amp;limit=25"' in told
    stream.close()


def stream_of(page: str) -> str:
    """The query of a page's stream."""
    found = re.search(r'sse:connect="/live[?]([^"]+)"', page)
    assert found is not None
    return found[1].replace("&amp;", "&")


def test_a_run_comes_to_whoever_began_it(own_site: Site) -> None:
    vm = next(v.name for v in own_site.pools["frankfurt-a"].vms.values() if v.state == "running")
    plan = own_site.get(f"/vms/bulk?verb=stop&vm={POOL}/{vm}", target="dialog-body").body.decode()
    seen = re.search(r'name="seen" value="([^"]*)"', plan)
    assert seen is not None
    said = own_site.post("/vms/bulk", {"verb": "stop", "vm": f"{POOL}/{vm}", "seen": seen[1]})
    page = own_site.until(said.headers["location"], "1 under way")
    assert "hx-trigger" not in page
    mine = Stream(own_site, stream_of(page))
    theirs = Stream(own_site, stream_of(page), "otto")
    own_site.pools["frankfurt-a"].step()
    own_site.tell()
    assert mine.until("1 done")
    assert "run" not in theirs.targets(2.5)
    mine.close()


def test_a_round_comes_to_whoever_sees_the_pool(own_site: Site) -> None:
    lab = POOL[:-1] + "2"
    own_site.person("lone", Grant("viewer", POOL))
    own_site.post(f"/pools/{lab}/rolling", {"host": "lab-kvm-01"})
    query = stream_of(own_site.get(f"/pools/{lab}/rolling").body.decode())
    mine, theirs = Stream(own_site, query), Stream(own_site, query, "lone")
    assert own_site.post(f"/pools/{lab}/rolling/end").status == 303
    assert mine.until("The last one")
    assert "rolling" not in theirs.targets(2.5)
    mine.close()


class Stream:
    """One open stream, on the manager's loop."""

    def __init__(self, site: Site, query: str, who: str = "anna", **headers: str) -> None:
        self.site, self._rest = site, b""
        sent = {"cookie": f"{COOKIE}={site.person(who)[0]}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        self._source: AsyncIterator[Any] = _messages(site.app, "GET", f"/live?{query}", b"", sent)
        self.status = site.run(self._begin())

    async def _begin(self) -> int:
        started = await anext(self._source)
        first = await anext(self._source)
        assert b"retry" in first["body"] or started["status"] != 200
        return int(started["status"])

    def until(self, words: str) -> bool:
        """Whether one of the next messages says this; a row's age may come before it."""
        return any(words in self.next() for _ in range(3))

    def next(self, within_s: float = 5) -> str:
        """The next event with data, as its text."""

        async def read() -> str:
            while True:
                message = await asyncio.wait_for(anext(self._source), within_s)
                text = message.get("body", b"").decode()
                if "data: " in text:
                    return text

        return str(self.site.run(read()))

    def quiet(self, for_s: float = 0.6) -> bool:
        try:
            self.next(for_s)
        except TimeoutError:
            return True
        return False

    def targets(self, for_s: float) -> list[str]:
        """What is sent in that time, to its end."""
        found: list[str] = []

        async def read() -> None:
            async for message in self._source:
                found.extend(TARGET.findall(message.get("body", b"").decode()))

        async def some() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(read(), for_s)

        self.site.run(some())
        return found

    def ended(self, within_s: float = 5) -> bool:
        """It ends, and says nothing more before."""

        async def read() -> bool:
            async for message in self._source:
                assert b"data: " not in message.get("body", b""), message
            return True

        return bool(self.site.run(asyncio.wait_for(read(), within_s)))

    def close(self) -> None:
        self.site.run(self._source.aclose())  # type: ignore[attr-defined]


def now(site: Site) -> str:
    """The address of a stream whose page is as of now."""

    async def settled() -> int:
        await asyncio.sleep(0.3)  # a window of the hub
        return int(site.manager.reads.hub.last)

    return f"after={site.run(settled())}"


def test_what_is_written_down_is_seen_at_once(own_site: Site) -> None:
    """Failovers, the audit and users live, each for whoever may see it."""
    pool, query = own_site.pools["frankfurt-a"], f"page=failovers%3Fpool%3D{POOL}&{now(own_site)}"
    streams = [Stream(own_site, query), Stream(own_site, f"page=audit&{now(own_site)}"),
               Stream(own_site, f"page=users&{now(own_site)}")]  # fmt: skip
    own_site.run(own_site.manager.notice())
    pool.note(
        "host-silent", "fra-kvm-01", "fra-kvm-03 has fallen silent for good", host="fra-kvm-03"
    )
    pool.change_host("fra-kvm-03", state="silent")
    own_site.tell()
    text = streams[0].next()
    assert TARGET.findall(text) == ["failovers"] and "silent for good" in text
    roles = (Grant("viewer"),)
    own_site.run(own_site.manager.people.add_user(BOSS, "zoe", "correct horse battery", roles))
    own_site.run(own_site.manager.notice())
    assert 'id="user-zoe"' in streams[2].next()
    assert "zoe" in streams[1].next()
    for stream in streams:
        stream.close()
    for what in ("audit", "users"):
        refused = own_site.get(f"/live?page={what}", "vera")
        assert refused.status == 403
    assert own_site.get("/live?page=elsewhere").status == 422


def test_a_change_of_a_row_that_is_shown_is_sent_alone(own_site: Site) -> None:
    query = f"vm={POOL}:db-prod-0018,web-prod-0015&{now(own_site)}"
    stream = Stream(own_site, query)
    own_site.pools["frankfurt-a"].change_vm("db-prod-0018", state="paused")
    own_site.pools["frankfurt-a"].change_vm("api-prod-0000", state="paused")
    own_site.tell()
    text = stream.next()
    assert TARGET.findall(text) == [f"vm-{POOL}-db-prod-0018"]
    assert "Paused" in text and re.match(r"id: \d+\n", text)
    assert stream.quiet()
    stream.close()


def test_a_thousand_changes_are_one_fragment(own_site: Site) -> None:
    stream = Stream(own_site, f"vm={POOL}:db-prod-0018&{now(own_site)}")

    async def storm() -> None:
        for n in range(1000):
            own_site.pools["frankfurt-a"].change_vm("db-prod-0018", sentence=f"change {n}")
            own_site.followers["frankfurt-a"].tell()

    own_site.run(storm())
    sent = [stream.next()]
    while not stream.quiet():
        sent.append("more")
    assert len(sent) <= 2 and "change 999" in sent[0]
    stream.close()


def test_a_stream_that_comes_back_gets_all_its_page_shows(own_site: Site) -> None:
    query = f"vm={POOL}:db-prod-0018,web-prod-0015&pools=1&{now(own_site)}"
    stream = Stream(own_site, query, last_event_id="17")
    assert sorted(TARGET.findall(stream.next())) == sorted(
        ["pool-rows", "task-count", f"vm-{POOL}-db-prod-0018", f"vm-{POOL}-web-prod-0015"]
    )
    stream.close()
    own_site.pools["frankfurt-a"].change_vm("db-prod-0018", state="paused")
    own_site.tell()  # between the page and its stream
    late = Stream(own_site, query)
    assert "Paused" in late.next()
    late.close()


def test_a_pool_page_lives_and_its_gauges_tremble(own_site: Site) -> None:
    stream = Stream(own_site, f"pool={POOL}&{now(own_site)}")
    own_site.pools["frankfurt-a"].change_host("fra-kvm-01", beat_age_ms=7777)
    own_site.tell()
    text = stream.next()
    assert set(TARGET.findall(text)) <= {"hosts", "matrix"} and "7.8" in text
    own_site.pools["frankfurt-a"].change_host("fra-kvm-01", state="silent", sentence="it is gone")
    own_site.tell()
    text = stream.next()
    while "pool-head" not in TARGET.findall(text):
        text = stream.next()
    assert {"pool-head", "hosts", "matrix"} <= set(TARGET.findall(text)) and "it is gone" in text
    stream.close()


def test_a_viewer_never_gets_the_buttons_of_an_operator(own_site: Site) -> None:
    query = f"one={POOL}/db-prod-0018&{now(own_site)}"
    streams = {who: Stream(own_site, query, who) for who in ("otto", "vera")}
    own_site.pools["frankfurt-a"].change_vm("db-prod-0018", sentence="it is other now")
    own_site.tell()
    told = {who: stream.next() for who, stream in streams.items()}
    assert "db-prod-0018/stop" in told["otto"] and "it is other now" in told["vera"]
    assert "db-prod-0018/stop" not in told["vera"]
    for stream in streams.values():
        stream.close()


def test_nobody_gets_the_token_of_another(own_site: Site) -> None:
    """Two with the same roles look at the same things: each form has its own session's token."""
    own_site.person("anton", Grant("admin"))
    query = f"pool={POOL}&one={POOL}/api-stage-0040&pools=1&tasks=1&{now(own_site)}"
    streams = {who: Stream(own_site, query, who) for who in ("anna", "anton")}
    pool = own_site.pools["frankfurt-a"]
    pool.ha_off = HaOffInfo(why="now the button that asks nothing is there")
    pool.change_vm("api-stage-0040", sentence="it is other now")
    own_site.tell()
    for who, stream in streams.items():
        text = stream.next()
        while "ha-on" not in text or "api-stage-0040/start" not in text:
            text += stream.next()
        found = set(re.findall(r'name="csrf" value="([^"]+)"', text))
        assert found == {own_site.person(who)[1]}
        stream.close()


def test_a_role_that_is_taken_away_counts_in_the_middle(own_site: Site) -> None:
    own_site.person("lena", Grant("viewer", POOL))
    stream = Stream(own_site, f"vm={POOL}:db-prod-0018&{now(own_site)}", "lena")
    own_site.run(own_site.manager.people.change_user(BOSS, "lena", roles=()))
    own_site.pools["frankfurt-a"].change_vm("db-prod-0018", state="paused", sentence="a secret")
    own_site.tell()
    text = stream.next()
    assert "a secret" not in text and "Paused" not in text and "not shown to you" in text
    stream.close()


def test_a_vm_that_is_gone_says_so_in_its_place(own_site: Site) -> None:
    stream = Stream(own_site, f"vm={POOL}:db-prod-0018&{now(own_site)}")
    del own_site.pools["frankfurt-a"].vms["db-prod-0018"]
    own_site.tell()
    text = stream.next()
    assert f'<tr id="vm-{POOL}-db-prod-0018" class="o-gone">' in text
    assert "here is no VM" in text
    stream.close()


def test_tasks_are_counted_on_every_page(own_site: Site) -> None:
    stream = Stream(own_site, f"tasks=1&{now(own_site)}")
    own_site.post(f"/pools/{POOL}/vms/api-stage-0040/start")
    text = stream.next()
    assert {"task-count", "tasks"} <= set(TARGET.findall(text))
    assert "Starting api-stage-0040" in text
    stream.close()


def test_gauges_go_on_while_everything_else_changes(own_site: Site) -> None:
    """A busy pool next door must not keep this page's beats from being shown."""
    stream = Stream(own_site, f"pool={POOL}&{now(own_site)}")
    own_site.pools["frankfurt-a"].change_host("fra-kvm-01", beat_age_ms=8888)

    async def storm() -> None:
        own_site.followers["frankfurt-a"].tell()
        for n in range(60):
            own_site.manager.reads.hub.publish("vm", "another-pool", f"x{n}")
            await asyncio.sleep(0.05)

    async def begin() -> Any:
        return asyncio.ensure_future(storm())

    storming = own_site.run(begin())
    assert "8.9" in stream.next(4)
    own_site.desk._loop.call_soon_threadsafe(storming.cancel)
    stream.close()


def test_a_token_that_is_removed_ends_its_stream(own_site: Site) -> None:
    token = own_site.desk.user("prog", Grant("viewer"))
    query = f"vm={POOL}:db-prod-0018&{now(own_site)}"
    stream = Stream(own_site, query, cookie="", authorization=f"Bearer {token}")
    assert stream.status == 200
    people = own_site.manager.people
    row = own_site.run(people.tokens("prog"))[0]
    own_site.run(people.remove_token(BOSS, row.id))
    own_site.pools["frankfurt-a"].change_vm("db-prod-0018", state="paused")
    own_site.tell()
    assert stream.ended()
    stream.close()


def test_fifty_who_look_cost_one_rendering(own_site: Site, monkeypatch: Any) -> None:
    from outlast.manager.web import live

    made: list[str] = []
    plain = live.row_fragment

    def counted(entry: Any, item: Any) -> str:
        made.append(item.vm.name)
        return plain(entry, item)

    monkeypatch.setattr(live, "row_fragment", counted)
    query = f"vm={POOL}:db-prod-0018&{now(own_site)}"
    streams = [Stream(own_site, query) for _ in range(50)]
    own_site.pools["frankfurt-a"].change_vm("db-prod-0018", state="paused")
    own_site.tell()
    assert all("Paused" in stream.next() for stream in streams)
    assert made == ["db-prod-0018"]
    for stream in streams:
        stream.close()
