"""Every route with every role: what is not meant to be allowed is refused, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import wait
from desk import BOSS, Desk
from pretend import RealPool
from routes import flat

from outlast.manager.api.gate import action_of
from outlast.manager.ports import ACTIONS, ROLES, Grant
from outlast.manager.repository import records
from outlast.manager.rights import allowed
from outlast.wire.client import AgentClient
from outlast.wire.shapes import VmCreate, make

V = "/api/v1"
# routes without a login, each with its reason
OPEN = {
    ("GET", f"{V}/health"): "tells no names",
    ("POST", f"{V}/login"): "is how one comes in",
    ("POST", f"{V}/login/code"): "is how one comes in, with half a session",
    ("POST", f"{V}/set-up"): "needs the one-time code",
}
# routes for everybody who is logged in: they show and change what is the caller's own
OWN = {
    ("GET", f"{V}/pools"), ("GET", f"{V}/vms"), ("GET", f"{V}/tasks"),
    ("GET", f"{V}/pools/{{pool}}/agent/v1/vms"),
    ("GET", f"{V}/tasks/{{task}}"), ("POST", f"{V}/tasks/{{task}}/cancel"),
    ("GET", f"{V}/events"), ("GET", f"{V}/events/stream"), ("GET", f"{V}/me"),
    ("POST", f"{V}/logout"), ("POST", f"{V}/me/password"), ("GET", f"{V}/tokens"),
    ("GET", f"{V}/roles"), ("GET", f"{V}/roles/{{role}}"),
    ("POST", f"{V}/tokens"), ("DELETE", f"{V}/tokens/{{token}}"),
    ("POST", f"{V}/me/second-factor"), ("POST", f"{V}/me/second-factor/confirm"),
    ("POST", f"{V}/me/second-factor/remove"),
}  # fmt: skip
BODIES: dict[str, Any] = {
    f"{V}/pools/{{pool}}/vms": {"name": "new", "memory": "512MiB"},
    f"{V}/pools/{{pool}}/ha": {"on": True},
    f"{V}/pools/{{pool}}/vms/{{vm}}/ha": {"on": True},
    f"{V}/pools/{{pool}}/networks": {"name": "lan", "mtu": 1400},
    f"{V}/pools/{{pool}}/storage": {"name": "old", "kind": "dir"},
    f"{V}/pools/{{pool}}/images": {"name": "deb", "source": "none.raw"},
    f"{V}/pools/{{pool}}/vms/{{vm}}/template": {"name": "cast"},
    f"{V}/pools/{{pool}}/templates": {"name": "small", "image": "none", "memory": "1GiB"},
    f"{V}/users": {"name": "zoe", "password": "a long enough one"},
}


def routes(desk: Desk) -> Iterator[tuple[str, str, str | None]]:
    """(method, path, action) of every route; None: its gate is missing."""
    for route in flat(desk.app.routes):
        actions = [action_of(d.call) for d in route.dependant.dependencies if d.call]
        found = [a for a in actions if a is not None]
        assert len(found) <= 1, route.path
        for method in sorted(route.methods):
            yield method, route.path, found[0] if found else None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, RealPool]]:
    root: Path = tmp_path_factory.mktemp("roles")
    real = RealPool(root)
    real.a.obedient = False
    desk = Desk(root / "manager")
    desk.follow(real.link("a"))
    for name in ("web", "db"):
        make_vm(desk, real, name)
    yield desk, real
    desk.close()
    real.close()


def make_vm(desk: Desk, real: RealPool, name: str) -> None:
    AgentClient(real.url("a"), pki=real.pki).create(make(VmCreate, name=name, memory="512MiB"))
    wait(lambda: name in [v.name for v in desk.manager.reads.pool(real.id).status.vms])


def test_every_route_has_a_gate_or_a_reason(place: tuple[Desk, RealPool]) -> None:
    desk, _ = place
    found = list(routes(desk))
    assert len(found) > 40
    assert {(m, p) for m, p, action in found if action is None} == set(OPEN)
    assert {(m, p) for m, p, action in found if action == ""} == OWN


def roles_of(pool_id: str) -> dict[str, tuple[Grant, ...]]:
    return {
        "nobody": (),
        "viewer": (Grant("viewer"),),
        "pool-viewer": (Grant("viewer", pool_id),),
        "other-admin": (Grant("admin", "another-pool"),),
        "vm-owner": (Grant("own", pool_id, "db"),),
        "web-owner": (Grant("own", pool_id, "web"),),
        "folder-owner": (Grant("own", pool_id, "we*"),),
        "folder-operator": (Grant("operator", pool_id, "w*"),),
        "other-folder": (Grant("admin", pool_id, "d*"),),
        "pool-owner": (Grant("own", pool_id),),
        "pool-operator": (Grant("operator", pool_id),),
        "pool-admin": (Grant("admin", pool_id),),
        "operator": (Grant("operator"),),
        "admin": (Grant("admin"),),
    }


def test_the_matrix(place: tuple[Desk, RealPool]) -> None:
    """Whoever lacks the right is refused with 403, whoever has it is not."""
    desk, real = place
    tried = refused = 0
    for name, grants in roles_of(real.id).items():
        token = desk.user(f"x-{name}", *grants) if grants else _bare(desk, name)
        for method, path, action in routes(desk):
            if not action or method == "HEAD":
                continue
            at = path.format(
                pool=real.id,
                vm="web",
                host="b",
                user="none",
                task="none",
                webhook="none",
                session="none",
                what="none",
                template="none",
                network="none",
                storage="none",
                snapshot="none",
                orphan="none",
                image="none",
                domain="none",
                new="none",
            )
            where = (real.id, "web" if "{vm}" in path else "") if "{pool}" in path else ("", "")
            may = allowed(grants, action, *where)
            before = _wishes(desk)
            said = desk.call(method, at, BODIES.get(path, {} if method != "GET" else None),
                             token=token)  # fmt: skip
            tried += 1
            assert (said.status != 403) == may or path == "/metrics", (name, method, path, said)
            assert said.status < 500 or said.status == 503, (name, method, path, said)
            if may and method == "DELETE" and path.endswith("/vms/{vm}"):
                token = _again(desk, real, f"x-{name}", grants)
            if not may:
                refused += 1
                assert said.error["code"] == "refused"
                assert _wishes(desk) == before, (name, method, path)
    assert tried > 250
    assert 100 < refused < tried


def _again(desk: Desk, real: RealPool, who: str, grants: tuple[Grant, ...]) -> str:
    """The VM that was deleted, and a token of one whose roles on it ended with it."""
    wait(lambda: "web" not in [v.name for v in desk.manager.reads.pool(real.id).status.vms])
    wait(lambda: all(t.done for t in desk.manager.tasks.tasks() if t.verb == "delete"))
    make_vm(desk, real, "web")
    people = desk.manager.people
    desk.run(people.change_user(BOSS, who, roles=grants))
    return desk.run(people.add_token(BOSS, who, "again", grants, 1))[0]


def _bare(desk: Desk, name: str) -> str:
    """A token of somebody whose roles were all taken away."""
    token = desk.user(f"x-{name}", Grant("viewer"))
    desk.user("keeper", Grant("admin"))
    desk.run(desk.manager.people.change_user(BOSS, f"x-{name}", roles=()))
    return token


def _wishes(desk: Desk) -> int:
    """How many calls the audit knows that were not refused; ends of tasks have no address."""
    rows, _ = desk.run(desk.manager.repository.read(lambda c: records.list_audit(c, limit=5000)))
    return sum(row.ok and row.address != "" for row in rows)


def test_nobody_learns_what_exists_where_he_may_not_look(place: tuple[Desk, RealPool]) -> None:
    desk, real = place
    token = desk.user("y-owner", Grant("own", real.id, "db"))
    there = desk.call("POST", f"{V}/pools/{real.id}/vms/web/start", token=token)
    nothing = desk.call("POST", f"{V}/pools/{real.id}/vms/none/start", token=token)
    assert (there.status, there.error) == (nothing.status, nothing.error)
    within = desk.user("y-folder", Grant("viewer", real.id, "w*"))
    said = desk.call("GET", f"{V}/vms", token=within).json
    assert [item["name"] for item in said["items"]] == ["web"]
    assert desk.call("GET", f"{V}/pools/{real.id}/vms/db", token=within).status == 403
    for path, names in (("pools", ["lab"]), ("vms", ["db"])):
        said = desk.call("GET", f"{V}/{path}", token=token).json
        assert [item["name"] for item in said["items"]] == names
        assert said["total"] == len(names)
    shown = desk.call("GET", f"{V}/pools", token=token).json["items"][0]
    assert (shown["vms"], shown["hosts"], shown["master"]) == (1, 0, "")
    rows, _ = desk.run(
        desk.manager.repository.read(lambda c: records.list_audit(c, who="y-owner/test"))
    )
    assert [(row.action, row.ok) for row in rows] == [("start", False)] * 2


def test_roles_say_what_they_may(place: tuple[Desk, RealPool]) -> None:
    """To everybody, and just what the gate says: of each action, the least that it needs."""
    desk, _ = place
    token = desk.user("y-reader", Grant("own", "p", "x"))
    found = {r["name"]: r for r in desk.call("GET", f"{V}/roles", token=token).json["items"]}
    assert list(found) == list(ROLES)
    assert desk.call("GET", f"{V}/roles/own", token=token).json == found["own"]
    assert desk.call("GET", f"{V}/roles/king", token=token).status == 404
    least = {name: {may["action"]: may["least"] for may in r["may"]} for name, r in found.items()}
    for name, may in least.items():
        assert list(may) == list(ACTIONS)
        for action, word in may.items():
            grants = {"VM": Grant(name, "p", "v"), "pool": Grant(name, "p"),
                      "everything": Grant(name)}  # fmt: skip
            gives = [
                w for w, g in grants.items()
                if allowed((g,), action, g.pool_id, g.vm)
            ]  # fmt: skip
            assert (gives or [""])[0] == word, (name, action)
    assert (least["own"]["create"], least["own"]["start"], least["viewer"]["start"]) == (
        "pool", "VM", "",
    )  # fmt: skip
    assert (least["admin"]["people"], least["operator"]["images"]) == ("everything", "pool")


def test_a_role_that_was_taken_away_counts_at_once(place: tuple[Desk, RealPool]) -> None:
    desk, _ = place
    token = desk.user("y-viewer", Grant("viewer"))
    assert desk.call("GET", f"{V}/pools/lab", token=token).status == 200
    desk.run(desk.manager.people.change_user(BOSS, "y-viewer", roles=()))
    assert desk.call("GET", f"{V}/pools/lab", token=token).status == 403
