"""Streams of changes, history, metrics, the document of the API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calling import V, create, ended, wait
from desk import Desk, _messages
from pretend import RealPool

from outlast.manager.api.paging import pack
from outlast.manager.ports import Grant
from outlast.wire.shapes import VmCreate, make

# ---- streams


def read_stream(desk: Desk, token: str, enough: Callable[[str], bool], **headers: str) -> str:
    async def read() -> str:
        text = ""
        sent = {"authorization": f"Bearer {token}", **headers}
        source = _messages(desk.app, "GET", f"{V}/events/stream", b"", sent)
        async for message in source:
            text += message.get("body", b"").decode()
            if enough(text):
                break
        await source.aclose()  # type: ignore[attr-defined]
        return text

    return desk.run(asyncio.wait_for(read(), 10))


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_changes_stream_and_resume(desk: Desk, real: RealPool, admin: str) -> None:
    start = desk.manager.reads.hub.last
    ended(desk, create(desk, real, admin), admin)
    ended(desk, create(desk, real, admin, "db"), admin)
    text = read_stream(
        desk, admin, lambda t: '"db"' in t and '"web"' in t, **{"last-event-id": str(start)}
    )
    told = events(text)
    assert {"pool_id": real.id, "kind": "vm", "name": "web"}.items() <= told[
        [e["name"] for e in told].index("web")
    ].items()
    kinds = {"vm", "task", "pool", "host", "events", "audit"}
    assert {e["kind"] for e in told} <= kinds
    ids = [e["id"] for e in told]
    assert ids == sorted(set(ids))
    # what was told is not told again
    later = read_stream(desk, admin, lambda t: "live" in t, **{"last-event-id": str(ids[-1])})
    assert [e for e in events(later) if e["id"] <= ids[-1]] == []
    bad = desk.call("GET", f"{V}/events/stream", token=admin, last_event_id="x")
    assert bad.status == 422


def test_a_stream_tells_only_what_may_be_seen(desk: Desk, real: RealPool, admin: str) -> None:
    bert = desk.user("bert", Grant("viewer", real.id, "db"))
    start = desk.manager.reads.hub.last
    ended(desk, create(desk, real, admin), admin)
    ended(desk, create(desk, real, admin, "db"), admin)
    text = read_stream(desk, bert, lambda t: '"db"' in t, **{"last-event-id": str(start)})
    assert "web" not in text
    kinds = {(e["kind"], e["name"]) for e in events(text) if e["kind"] in ("vm", "host")}
    assert kinds == {("vm", "db")}


def test_streams_end_when_the_manager_stops(tmp_path: Path, real: RealPool) -> None:
    desk = Desk(tmp_path / "manager")
    token = desk.user("anna", Grant("admin"))

    async def follow() -> int:
        sent = {"authorization": f"Bearer {token}"}
        return len([m async for m in _messages(desk.app, "GET", f"{V}/events/stream", b"", sent)])

    streams = [asyncio.run_coroutine_threadsafe(follow(), desk._loop) for _ in range(5)]
    wait(lambda: desk.manager.reads.hub.readers == 5)
    desk.run(desk.manager.stop())
    assert all(s.result(60) >= 2 for s in streams)


# ---- history, metrics, the document


def test_history_is_copied_from_the_pools(desk: Desk, real: RealPool, admin: str) -> None:
    now_s = time.time()
    real.a.notes = [
        {"wall_s": now_s - 60 + n, "host": "a", "code": "x", "sentence": f"n{n}", "id": f"i{n}",
         "fields": {"vm": "web"}} for n in range(5)
    ]  # fmt: skip
    real.b.notes = real.a.notes
    assert desk.run(desk.manager.background.copy(real.id)) in (0, 5)
    assert desk.run(desk.manager.background.copy(real.id)) == 0
    said = desk.call("GET", f"{V}/events?vm=web&limit=2", token=admin).json
    assert (said["total"], [e["sentence"] for e in said["items"]]) == (5, ["n4", "n3"])
    more = desk.call("GET", f"{V}/events?vm=web&cursor={said['next_cursor']}", token=admin).json
    assert [e["sentence"] for e in more["items"]] == ["n2", "n1", "n0"]
    web = desk.user("bert", Grant("viewer", real.id, "web"))
    assert desk.call("GET", f"{V}/events", token=web).json["total"] == 0
    assert desk.call("GET", f"{V}/events?pool=lab&vm=web", token=web).json["total"] == 5


def test_the_journal_of_a_pool_is_told_page_by_page(desk: Desk, real: RealPool, admin: str) -> None:
    """Also where a page ends among notes of one moment, each is told once."""
    now_s = time.time() - 60
    real.a.notes = real.b.notes = [
        {"wall_s": now_s + n // 3, "host": "a", "code": "x", "sentence": f"n{n}", "id": f"i{n}"}
        for n in range(11)
    ]
    at, told, cursor = f"{V}/pools/lab/timeline?limit=2", [], ""
    for _ in range(6):
        said = desk.call("GET", f"{at}&cursor={cursor}", token=admin).json
        told += [e["sentence"] for e in said["items"]]
        cursor = said["next_cursor"]
    assert (sorted(told, key=lambda w: int(w[1:])), cursor) == ([f"n{n}" for n in range(11)], "")
    assert told[:2] == ["n10", "n9"]
    for bad in ("x", pack(["a", []]), pack([-1, []]), pack([1])):
        assert desk.call("GET", f"{at}&cursor={bad}", token=admin).status == 422


def test_notes_of_a_long_absence_are_all_copied(
    desk: Desk, real: RealPool, admin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents give so many at once; what lies before those is asked for too, up to a bound."""
    now_s, background = time.time(), desk.manager.background
    monkeypatch.setattr("outlast.manager.background.COPY_MAX", 10)
    real.a.notes = real.b.notes = [
        {"wall_s": now_s - 200 + n, "host": "a", "code": "vm-runs", "sentence": f"n{n}",
         "fields": {"vm": "web"}, "id": f"a-{n}"}
        for n in range(45)
    ]  # fmt: skip
    desk.run(background.copy(real.id))
    at = f"{V}/events?vm=web&limit=100"
    said = desk.call("GET", at, token=admin).json["items"]
    assert [e["sentence"] for e in said] == [f"n{n}" for n in reversed(range(45))]
    monkeypatch.setattr("outlast.manager.background.PAGES_MAX", 2)
    real.a.notes = real.b.notes = [
        note | {"id": f"b-{n}", "wall_s": now_s - 90 + n} for n, note in enumerate(real.a.notes)
    ]
    assert desk.run(background.copy(real.id)) in (0, 19), "two pages that share a moment"
    assert desk.call("GET", at, token=admin).json["total"] == 45 + 19


def test_metrics_have_their_documented_names(desk: Desk, real: RealPool, admin: str) -> None:
    from outlast.manager.metrics import HELP

    ended(desk, create(desk, real, admin), admin)
    text = desk.call("GET", "/metrics", token=admin).body.decode()
    shown = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert shown == set(HELP)
    assert f'outlast_pool_vms{{pool="lab",pool_id="{real.id}",state="stopped"}} 1.0' in text
    document = (Path(__file__).parents[2] / "docs/operating/metrics.md").read_text()
    assert [name for name in HELP if f"`{name}`" not in document] == []
    bert = desk.user("bert", Grant("viewer", real.id))
    assert desk.call("GET", "/metrics", token=bert).status == 403
    assert desk.call("GET", "/metrics").status == 401


def test_the_document_describes_every_route(shared: tuple[Desk, RealPool, str]) -> None:
    desk, _, _ = shared
    document = desk.call("GET", f"{V}/openapi.json").json
    assert document["openapi"].startswith("3.1")
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 35
    for path, method, operation in operations:
        assert path.startswith(V), path
        if path != f"{V}/health":
            assert {"4XX", "5XX"} & set(operation["responses"]), (method, path)
    names = {o["operationId"] for _, _, o in operations}
    assert len(names) == len(operations)


def test_a_wish_as_an_agent_takes_it_is_one_here() -> None:
    wish = make(VmCreate, name="web", memory="1GiB", disks=[{"size": "1M"}])
    from outlast.manager.api.vms import VmCreateBody

    assert VmCreateBody(**wish.model_dump(exclude_unset=True)).start is False


# ---- trouble of the database


def test_a_database_that_is_away_is_said_and_comes_back_without_a_restart(
    desk: Desk, real: RealPool, admin: str
) -> None:
    ended(desk, create(desk, real, admin), admin)
    file = desk.place.var / "manager.db"
    file.rename(file.with_name("away"))
    wait(lambda: desk.call("GET", f"{V}/health").status == 503)
    for method, path in (("GET", "users"), ("GET", "audit"), ("GET", "events"),
                         ("POST", "pools/lab/vms/web/start")):  # fmt: skip
        said = desk.call(method, f"{V}/{path}", token=admin)
        assert (said.status, said.error["code"]) == (503, "storage-trouble")
        assert said.error["hint"]
    # no wish without a line in the audit; what is seen goes on for those who are known
    assert real.a.read_vm("web").value.start_seq == 0  # type: ignore[union-attr]
    assert desk.manager.reads.pool(real.id).stale is False
    file.with_name("away").rename(file)
    wait(lambda: desk.call("GET", f"{V}/health").status == 200)
    said = desk.call("POST", f"{V}/pools/lab/vms/web/start", token=admin)
    assert not ended(desk, said, admin)["failed"]


def test_one_shape_everywhere(shared: tuple[Desk, RealPool, str]) -> None:
    """Lists have pages, wishes have keys, and what people wished of a thing has an ETag."""
    desk, _, _ = shared
    paths = desk.call("GET", f"{V}/openapi.json").json["paths"]
    never_changed = {f"{V}/tokens/{{token}}", f"{V}/webhooks/{{webhook}}",
                     f"{V}/users/{{user}}/second-factor",
                     f"{V}/pools/{{pool}}/vms/{{vm}}/snapshots/{{snapshot}}",
                     f"{V}/pools/{{pool}}/orphans/{{orphan}}"}  # fmt: skip
    lists = keys = matches = 0
    for path, methods in paths.items():
        for method, told in methods.items():
            given = {one["name"] for one in told.get("parameters", ())}
            answer = told["responses"].get("200", {}).get("content", {})
            schema = answer.get("application/json", {}).get("schema", {})
            if schema.get("type") == "array":
                raise AssertionError(f"{path} has no pages")
            if schema.get("$ref", "").rpartition("/")[2].startswith(("Page_", "Journal")):
                lists += 1
                assert {"limit", "cursor"} <= given, path
            if "202" in told["responses"]:
                keys += 1
                assert "Idempotency-Key" in given, (method, path)
            if method in ("patch", "delete") and path.count("{") and path not in never_changed:
                matches += 1
                assert "If-Match" in given, (method, path)
    assert (lists >= 14, keys >= 25, matches >= 9) == (True, True, True)


def test_a_wish_for_what_was_seen_is_refused_when_that_was_changed(
    desk: Desk, real: RealPool, admin: str
) -> None:
    """Users, hosts and the pool's settings; networks, VMs and images elsewhere."""
    desk.user("zoe", Grant("viewer"))
    pool = f"{V}/pools/{real.id}"
    for at, method, wish, other in (
        (f"{V}/users/zoe", "PATCH", {"disabled": True}, {"disabled": False}),
        (f"{pool}/settings", "PATCH", {"moves_at_once": 5}, {"moves_at_once": 6}),
    ):
        etag = desk.call("GET", at, token=admin).headers["etag"]
        assert desk.call(method, at, wish, token=admin, If_Match=f'"x", {etag}').status in (
            200,
            202,
        )
        late = desk.call(method, at, other, token=admin, If_Match=etag)
        assert (late.status, "changed meanwhile" in late.error["sentence"]) == (412, True)
    etag = desk.call("GET", f"{pool}/hosts/b", token=admin).headers["etag"]
    assert (
        desk.call("POST", f"{pool}/hosts/b/maintenance", {}, token=admin, If_Match=etag).status
        == 202
    )
    wait(lambda: desk.call("GET", f"{pool}/hosts/b", token=admin).headers["etag"] != etag)
    late = desk.call("POST", f"{pool}/hosts/b/power-off", token=admin, If_Match=etag)
    assert late.status == 412
    gone = desk.call("DELETE", f"{V}/users/zoe", token=admin, If_Match=etag)
    assert gone.status == 412
