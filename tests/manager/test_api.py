"""The API called as programs call it: shapes, errors, paging, wishes and their tasks."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from calling import V, create, ended, wait
from desk import Desk
from pretend import RealPool, vm

from outlast.images.library import Library
from outlast.images.templates import Templates
from outlast.manager.ports import Grant
from outlast.model import VmRecord
from outlast.storage.register import Swap

# ---- a VM's life


def test_a_vms_whole_life(desk: Desk, real: RealPool, admin: str) -> None:
    at = f"{V}/pools/lab/vms/web"
    task = ended(desk, create(desk, real, admin, start=True), admin)
    assert (task["phase"], task["percent"], task["who"]) == ("done", 100, "anna/test")
    found = desk.call("GET", at, token=admin)
    assert (found.json["state"], found.json["host"], found.json["pool"]) == ("running", "a", "lab")
    moved = ended(desk, desk.call("POST", f"{at}/migrate", {"to": "b"}, token=admin), admin)
    assert moved["sentence"] == "web runs on b now"
    off = {"on": False, "why": "a test", "for_s": 60}
    assert ended(desk, desk.call("POST", f"{at}/ha", off, token=admin), admin)["phase"] == "done"
    assert real.a.read_vm("web").value.ha_off.why == "a test (anna/test)"  # type: ignore[union-attr]
    change = {"priority": "low", "likes": ["b"]}
    assert ended(desk, desk.call("PATCH", at, change, token=admin), admin)["phase"] == "done"
    assert real.a.read_vm("web").value.priority == "low"  # type: ignore[union-attr]
    assert not ended(desk, desk.call("POST", f"{at}/stop", token=admin), admin)["failed"]
    gone = desk.call("DELETE", f"{at}?with_disks=true", token=admin)
    assert ended(desk, gone, admin)["sentence"] == "web is deleted"
    assert desk.call("GET", at, token=admin).error["code"] == "not-found"
    lines = desk.call("GET", f"{V}/audit?object={real.id}/web", token=admin).json["items"]
    assert [line["action"] for line in lines if line["sentence"] == "wished"] == [
        "delete", "stop", "set", "ha", "migrate", "create",
    ]  # fmt: skip
    assert {line["who"] for line in lines} == {"anna/test"}
    assert {line["address"] for line in lines if line["sentence"] == "wished"} == {"10.1.1.1"}


def test_a_start_that_takes_its_time_is_not_taken_for_one_that_somebody_stopped(
    desk: Desk, real: RealPool, admin: str
) -> None:
    """Created and started: until the start was taken, the pool shows a VM that shall be stopped."""
    write, reads = real.a.write_vm, desk.manager.reads

    def slow(expected: int, record: VmRecord) -> Swap:
        answered = reads.answers
        if record.start_seq:
            wait(lambda: reads.answers > answered + 3)
        return write(expected, record)

    real.a.write_vm = real.b.write_vm = slow  # type: ignore[method-assign]
    task = ended(desk, create(desk, real, admin, start=True), admin)
    lines = desk.call("GET", f"{V}/audit?object={real.id}/web", token=admin).json["items"]
    assert (task["failed"], [line["ok"] for line in lines]) == (False, [True, True]), lines
    assert real.a.read_vm("web").value.start_seq == 1  # type: ignore[union-attr]


def test_a_host_is_emptied_and_comes_back(desk: Desk, real: RealPool, admin: str) -> None:
    at = f"{V}/pools/{real.id}/hosts/a"
    ended(desk, desk.call("POST", f"{at}/maintenance", {"why": "new fan"}, token=admin), admin)
    assert desk.call("GET", at, token=admin).json["maintenance"] == "new fan (anna/test)"
    ended(desk, desk.call("POST", f"{at}/resume", {}, token=admin), admin)
    assert desk.call("GET", at, token=admin).json["maintenance"] == ""
    wish = {"balance": "auto", "moves_at_once": 3}
    set_ = desk.call("PATCH", f"{V}/pools/lab/settings", wish, token=admin)
    assert ended(desk, set_, admin)["phase"] == "done"
    assert (real.a.settings.balance, real.a.settings.moves_at_once) == ("auto", 3)
    bad = desk.call("PATCH", f"{V}/pools/lab/settings", {"timing": "lab"}, token=admin)
    assert (bad.status, bad.error["code"]) == (422, "invalid-input")
    off = {"on": False, "why": "work on the storage"}
    ended(desk, desk.call("POST", f"{V}/pools/lab/ha", off, token=admin), admin)
    wait(lambda: desk.call("GET", f"{V}/pools/lab", token=admin).json["ha_off"])


def test_what_the_pool_refuses_is_refused_with_its_words(
    desk: Desk, real: RealPool, admin: str
) -> None:
    ended(desk, create(desk, real, admin, start=True), admin)
    again = create(desk, real, admin)
    assert (again.status, again.error["code"]) == (409, "conflict")
    assert "there is a VM 'web' already" in again.error["sentence"]
    at = f"{V}/pools/lab/vms/web"
    gone = desk.call("DELETE", at, token=admin)
    assert (gone.status, gone.error["hint"]) == (409, "outlast vm stop web")
    nowhere = desk.call("POST", f"{at}/migrate", {"to": "mars"}, token=admin)
    assert (nowhere.status, nowhere.error["code"]) == (422, "invalid-input")
    tasks = desk.call("GET", f"{V}/tasks?verb=migrate", token=admin).json["items"]
    assert (tasks[0]["failed"], tasks[0]["sentence"]) == (True, nowhere.error["sentence"])
    real.a.refuses = "it changes its memory faster than the network carries it"
    stays = ended(desk, desk.call("POST", f"{at}/migrate", {"to": "b"}, token=admin), admin)
    assert stays["failed"]
    assert "faster than the network" in stays["sentence"]


def test_a_pool_that_does_not_answer(desk: Desk, real: RealPool, admin: str) -> None:
    ended(desk, create(desk, real, admin), admin)
    real.close()
    said = desk.call("POST", f"{V}/pools/lab/vms/web/start", token=admin)
    assert (said.status, said.error["code"]) == (502, "unreachable")
    desk.manager.reads._stale_s = 0.1
    wait(lambda: desk.manager.reads.pool(real.id).stale)
    found = desk.call("GET", f"{V}/pools/lab", token=admin).json
    assert found["stale"] and found["trouble"] and found["seen_wall_s"] > 0
    listed = desk.call("GET", f"{V}/vms", token=admin).json["items"]
    assert [(v["name"], v["stale"]) for v in listed] == [("web", True)]
    assert desk.call("GET", f"{V}/pools/lab/vms/web/why", token=admin).status == 502


def test_a_vm_of_a_template(desk: Desk, real: RealPool, admin: str, tmp_path: Path) -> None:
    """Real files: an image, a template of it, a clone that lies over it."""
    at = f"{V}/pools/{real.id}/templates"
    assert desk.call("GET", at, token=admin).json["items"] == []
    (tmp_path / "disk.img").write_bytes(os.urandom(1 << 16))
    Library(real.root).take("deb", str(tmp_path / "disk.img"))
    Templates(real.root).create("small", "deb", 512, 2, ("br0",), "for all")
    assert desk.call("GET", at, token=admin).json["items"][0]["note"] == "for all"
    bad = {"name": "web", "ssh_keys": ["/etc/shadow"]}
    said = desk.call("POST", f"{at}/small/deploy", bad, token=admin)
    assert said.status == 422 and "not a public SSH key" in said.error["sentence"]
    assert not list((real.root / "images").glob("web*"))
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 me@home"
    wish = {"name": "web", "memory": "1GiB", "ssh_keys": [key], "start": True}
    done = ended(desk, desk.call("POST", f"{at}/small/deploy", wish, token=admin), admin)
    assert (done["verb"], done["phase"]) == ("create", "done")
    spec = real.a.read_vm("web").value.spec  # type: ignore[union-attr]
    assert (spec.memory_mib, spec.vcpus, spec.networks, len(spec.disks)) == (1024, 2, ("br0",), 2)
    assert key.encode() in Path(spec.disks[1].path).read_bytes()  # the seed
    again = desk.call("POST", f"{at}/small/deploy", wish, token=admin)
    assert (again.status, again.error["code"]) == (409, "conflict")
    none = desk.call("POST", f"{at}/large/deploy", wish | {"name": "db"}, token=admin)
    assert (none.status, none.error["code"]) == (404, "not-found")


# ---- promises of the protocol


def test_a_wish_with_a_key_is_carried_out_once(desk: Desk, real: RealPool, admin: str) -> None:
    body = {"name": "web", "memory": "512MiB", "disks": [{"size": "1M"}]}
    at = f"{V}/pools/{real.id}/vms"
    key = {"Idempotency_Key": "k1"}
    first = desk.call("POST", at, body, token=admin, **key)
    again = desk.call("POST", at, body, token=admin, **key)
    assert (first.status, again.status) == (202, 202)
    assert first.json == again.json
    assert again.headers["idempotent-replay"] == "true"
    other = desk.call("POST", at, body | {"name": "db"}, token=admin, **key)
    assert (other.status, "another request" in other.error["sentence"]) == (422, True)
    # what was refused left nothing behind: the same key may be used again
    assert desk.call("POST", at, body, token=admin, Idempotency_Key="k2").status == 409
    ended(desk, desk.call("DELETE", f"{at}/web?with_disks=true", token=admin), admin)
    assert desk.call("POST", at, body, token=admin, Idempotency_Key="k2").status == 202
    # another caller's keys are its own
    bert = desk.user("bert", Grant("admin"))
    assert desk.call("POST", at, body | {"name": "db"}, token=bert, **key).status == 202


def test_if_match_notices_what_somebody_else_wished(desk: Desk, real: RealPool, admin: str) -> None:
    ended(desk, create(desk, real, admin, start=True), admin)
    at = f"{V}/pools/lab/vms/web"
    seen = desk.call("GET", at, token=admin)
    etag = seen.headers["etag"]
    assert desk.call("GET", at, token=admin, If_None_Match=etag).status == 304
    assert desk.call("POST", f"{at}/stop", token=admin, If_Match=etag).status == 202
    late = desk.call("POST", f"{at}/kill", token=admin, If_Match=etag)
    assert (late.status, late.error["code"]) == (412, "conflict")
    assert "changed meanwhile" in late.error["sentence"]
    assert desk.call("POST", f"{at}/kill", token=admin, If_Match="*").status == 202


def test_lists_page_without_gaps(desk: Desk, real: RealPool, admin: str) -> None:
    status = desk.manager.reads.pool(real.id).status
    vms = [vm(f"vm{n:02}", "running" if n % 2 else "stopped", memory_mib=n) for n in range(25)]
    desk.manager.reads.followers[real.id].stop()
    time.sleep(0.2)  # an answer that is under way must not undo the next line
    filled = status.model_copy(update={"vms": vms})
    desk.run(_heard(desk, filled))
    for path, names in {
        "vms?limit=4&sort=memory&descending=true": [f"vm{n:02}" for n in range(24, -1, -1)],
        "vms?limit=7&state=running&search=vm": [f"vm{n:02}" for n in range(1, 25, 2)],
        f"pools/{real.id}/hosts?limit=1": ["a", "b", "c"],
        "users?limit=1&sort=name&descending=true": ["bert", "anna"],
    }.items():
        if path.startswith("users"):
            desk.user("bert", Grant("viewer"))
        found, cursor = [], ""
        while True:
            said = desk.call("GET", f"{V}/{path}&cursor={cursor}", token=admin).json
            assert said["total"] == len(names)
            found += [item["name"] for item in said["items"]]
            cursor = said["next_cursor"]
            if not cursor:
                break
        assert found == names
    assert desk.call("GET", f"{V}/vms?page=3&limit=10", token=admin).json["total"] == 25
    other = desk.call("GET", f"{V}/vms?sort=name&cursor=WyJtZW1vcnkiLCB0cnVlLCAxLCAiYSIsICJiIl0",
                      token=admin)  # fmt: skip
    assert other.status == 422


async def _heard(desk: Desk, status: Any) -> None:
    desk.manager.reads.heard(status, desk.manager.reads.now_s() + 100)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("GET", "nothing", None, 404, ""),
        ("PUT", "pools", None, 404, ""),
        ("GET", "pools/none", None, 404, ""),
        ("GET", "pools/lab/vms/none", None, 404, ""),
        ("GET", "pools/lab/vms/..%2f..%2fetc", None, 404, ""),
        ("GET", "pools/lab/vms/%00", None, 404, ""),
        ("POST", "pools/lab/vms/none/start", None, 404, ""),
        ("POST", "pools/lab/hosts/none/maintenance", {}, 404, ""),
        ("GET", "vms?limit=0", None, 422, "limit"),
        ("GET", "vms?limit=x", None, 422, "limit"),
        ("GET", "vms?page=-1", None, 422, "page"),
        ("GET", "vms?ha=perhaps", None, 422, "ha"),
        ("GET", "vms?sort=colour", None, 422, ""),
        ("GET", "vms?cursor=%C3%A9", None, 422, ""),
        ("GET", "vms?search=" + "x" * 300, None, 422, "search"),
        ("GET", "audit?cursor=bnVsbA", None, 422, ""),
        ("GET", "events?cursor=WyIxIl0", None, 422, ""),
        ("GET", "events/stream?after=-1", None, 422, "after"),
        ("GET", "tasks/none", None, 404, ""),
        ("POST", "pools/lab/vms", None, 422, ""),
        ("POST", "pools/lab/vms", [], 422, ""),
        ("POST", "pools/lab/vms", {"name": "web"}, 422, "memory"),
        ("POST", "pools/lab/vms", {"name": "web", "memory": "1 apple"}, 422, "memory"),
        ("POST", "pools/lab/vms", {"name": "web", "memory": -1}, 422, "memory"),
        ("POST", "pools/lab/vms", {"name": "web", "memory": "1G", "vcpus": "2"}, 422, "vcpus"),
        ("POST", "pools/lab/vms", {"name": "web", "memory": "1G", "x": 1}, 422, "x"),
        ("POST", "pools/lab/vms", {"name": "../x", "memory": "1G"}, 422, ""),
        ("POST", "pools/lab/vms", {"name": "wéb", "memory": "1G"}, 422, ""),
        ("POST", "pools/lab/vms", {"name": "a'; drop table users", "memory": "1G"}, 422, ""),
        ("POST", "pools/lab/ha", {"on": "no"}, 422, "on"),
        ("POST", "pools/lab/ha", {"on": False, "why": "a\nb"}, 422, "why"),
        ("POST", "users", {"name": "A B", "password": "long enough 12"}, 422, "name"),
        ("POST", "users", {"name": "zoe", "password": "short"}, 422, "password"),
        ("POST", "users", {"name": "zoe", "password": "long enough 12",
                           "roles": [{"role": "king"}]}, 422, ""),
        ("POST", "users", {"name": "zoe", "password": "long enough 12",
                           "roles": [{"role": "own", "vm": "web"}]}, 422, ""),
        ("PATCH", "users/none", {"disabled": True}, 404, ""),
        ("DELETE", "tokens/none", None, 404, ""),
    ],
)  # fmt: skip
def test_bad_input_is_refused_and_changes_nothing(
    shared: tuple[Desk, RealPool, str], method: str, path: str, body: Any, status: int, field: str
) -> None:
    desk, real, token = shared
    said = desk.call(method, f"{V}/{path}", body, token=token)
    assert said.status == status, said.body
    if field:
        assert said.error["field"] == field
    assert said.error["code"] == ("not-found" if status == 404 else "invalid-input")
    assert real.a.register.names("vm") == []
    users = desk.call("GET", f"{V}/users", token=token).json
    assert [u["name"] for u in users["items"]] == ["anna"]


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b'{"a":', b"[" * 90_000, b"null", b'"x"'])
def test_bodies_that_are_none(shared: tuple[Desk, RealPool, str], raw: bytes) -> None:
    desk, _, token = shared
    said = desk.call("POST", f"{V}/pools/lab/vms", raw=raw, token=token)
    assert (said.status, said.error["code"]) == (422, "invalid-input")


def test_bodies_that_are_too_large(shared: tuple[Desk, RealPool, str]) -> None:
    desk, _, token = shared
    at = f"{V}/pools/lab/vms"
    assert desk.call("POST", at, raw=b" " * (2 << 20), token=token).status == 413
    lied = desk.call("POST", at, raw=b" " * (2 << 20), token=token, content_length="10")
    assert lied.status == 413
    lied.error  # noqa: B018
    assert desk.call("POST", at, raw=b"{}", token=token, content_length="x").status == 413
