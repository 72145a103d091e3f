"""The agents' API through the manager: the same answers, with the manager's rights and audit."""

from __future__ import annotations

import json
import logging
import subprocess
from typing import Any

import pytest
from calling import V, create, ended, wait
from desk import Desk, Said
from pretend import RealPool

from outlast.manager.api.agent_calls import QUESTIONS, WISHES, WORK
from outlast.manager.api.agent_door import DOOR, router
from outlast.manager.ports import Grant
from outlast.manager.repository import records
from outlast.pool.facts import Answering
from outlast.wire.client import AgentClient
from outlast.wire.disks import SnapshotDone
from outlast.wire.shapes import HostWish, PoolStatus, PoolWish, VmDetail, VmStatus, VmWish

# a domain that virsh knows
OLD = """<domain type='kvm'><name>old</name><memory unit='GiB'>1</memory><vcpu>2</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""
# calls of the agents that the manager does not pass on, each with its reason
KEPT = {
    ("GET", "/v1/local"): "for other agents", ("GET", "/v1/moves/{}/way"): "for other agents",
    ("GET", "/metrics"): "the manager has its own",
    ("GET", "/v1/vms/{}/console"): "tickets and a web socket of the manager's own",
    ("GET", "/v1/vms/{}/screen"): "the same",
}  # fmt: skip


def say(
    desk: Desk, real: RealPool, token: str, method: str, path: str, body: object = None
) -> Said:
    return desk.call(method, f"{V}/pools/{real.id}/agent{path}", body, token=token)


def plain(path: str) -> str:
    """A path with its names left out."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def test_each_call_of_the_agents_is_passed_on_or_has_a_reason(real: RealPool) -> None:
    app = real.servers["a"]._routes()
    there = {(route.method, plain(route.path)) for route in app}
    passed = {
        (method, plain(route.path.removeprefix(DOOR)))
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    assert passed <= there, "an agent knows no such call"
    assert there - passed == set(KEPT)
    once = len(QUESTIONS) + len(WISHES) + 3 * len(WORK) + 3
    assert len(passed) == once, "nothing is passed on twice"


def test_questions_get_what_an_agent_answers(desk: Desk, real: RealPool, admin: str) -> None:
    ended(desk, create(desk, real, admin), admin)
    wait(lambda: bool(desk.manager.reads.pool(real.id).status.vms))
    agent = AgentClient(real.url("a"), pki=real.pki)
    for path, _ in QUESTIONS:
        at = path.format(vm="web", host="b", domain="none")
        at += "?host=b" if path.startswith("/v1/foreign") else ""
        said = say(desk, real, admin, "GET", at)
        if said.status != 200:
            with pytest.raises(Exception) as straight:
                agent.call("GET", at)
            assert said.error["sentence"] == str(straight.value), at
            continue
        mine, theirs = said.json, json.loads(agent.call("GET", at))
        assert type(mine) is type(theirs)
        if isinstance(mine, dict):
            assert set(mine) == set(theirs)
    status = PoolStatus.model_validate(say(desk, real, admin, "GET", "/v1/status").json)
    assert [vm.name for vm in status.vms] == ["web"]
    detail = say(desk, real, admin, "GET", "/v1/vms/web?recent=2").json
    assert VmDetail.model_validate(detail).name == "web"
    many = say(desk, real, admin, "GET", "/v1/timeline?limit=many")
    assert many.status == 422, "what stands behind the ? goes on, too"
    missing = say(desk, real, admin, "GET", "/v1/vms/none")
    assert (missing.status, missing.error["code"]) == (404, "not-found")


def test_a_wish_is_a_task_and_in_the_audit_and_is_answered_as_by_an_agent(
    desk: Desk, real: RealPool, admin: str
) -> None:
    made = say(desk, real, admin, "POST", "/v1/vms", {"name": "web", "memory": "512MiB"})
    assert VmWish.model_validate(made.json).changed
    for path, kind, body in (
        ("/v1/vms/web/start", VmWish, None),
        ("/v1/vms/web/ha", VmWish, {"on": False, "why": "tests", "for_s": 60}),
        ("/v1/hosts/b/maintenance", HostWish, {"why": "new disks"}),
        ("/v1/pool/ha", PoolWish, {"on": False, "why": "the storage moves"}),
    ):
        said = say(desk, real, admin, "POST", path, body)
        assert said.status == 200, said
        assert kind.model_validate(said.json).changed, path
    again = say(desk, real, admin, "POST", "/v1/vms/web/start")
    assert VmWish.model_validate(again.json).changed is False
    tasks = [task.verb for task in desk.manager.tasks.tasks()]
    assert sorted(tasks) == sorted(["create", "start", "start", "ha", "maintain", "pool-ha"])
    found, _ = desk.run(desk.manager.repository.read(lambda c: records.list_audit(c, limit=50)))
    assert {"create", "start", "ha", "maintain", "pool-ha"} <= {row.action for row in found}
    assert {row.who for row in found if row.action == "ha"} == {"anna/test"}
    known = [AgentClient(real.url(name), pki=real.pki).status().ha_off for name in "ab"]
    assert {off.why for off in known if off} == {"the storage moves (anna/test)"}  # one took it


def test_bad_wishes_are_refused_as_by_an_agent(desk: Desk, real: RealPool, admin: str) -> None:
    for method, path, body, status, field in (
        ("POST", "/v1/vms", {"name": "web", "memory": "a lot"}, 422, "memory"),
        ("POST", "/v1/vms", {"name": "../x", "memory": "1GiB"}, 422, ""),
        ("POST", "/v1/vms/none/start", None, 404, ""),
        ("DELETE", "/v1/images/..", None, 422, ""),
        ("DELETE", "/v1/networks/none", None, 404, ""),
        ("DELETE", "/v1/images/none/import", None, 404, ""),
        ("GET", "/v1/images/none/import", None, 404, ""),
        ("PATCH", "/v1/pool/settings", {"no": 1}, 422, "no"),
    ):
        said = say(desk, real, admin, method, path, body)
        assert (said.status, said.error["field"]) == (status, field), (path, said)
    unknown = say(desk, real, admin, "GET", "/v1/local")
    assert "--agent" in unknown.error["hint"]
    assert "GET /v1/local" in unknown.error["sentence"]
    assert desk.manager.reads.pool(real.id).status.vms == []


def test_somebody_sees_and_wishes_only_what_is_his(desk: Desk, real: RealPool, admin: str) -> None:
    for name in ("web", "db"):
        say(desk, real, admin, "POST", "/v1/vms", {"name": name, "memory": "512MiB"})
    owner = desk.user("bert", Grant("own", real.id))
    seen: Any = say(desk, real, owner, "GET", "/v1/vms").json
    assert seen == []
    body = {"name": "his", "memory": "512MiB"}
    assert say(desk, real, owner, "POST", "/v1/vms", body).status == 200
    seen = say(desk, real, owner, "GET", "/v1/vms").json
    assert [VmStatus.model_validate(vm).name for vm in seen] == ["his"]
    assert say(desk, real, owner, "POST", "/v1/vms/his/start").status == 200
    for method, path in (
        ("POST", "/v1/vms/web/start"), ("GET", "/v1/status"), ("GET", "/v1/vms/db"),
        ("POST", "/v1/hosts/b/maintenance"), ("GET", "/v1/timeline"),
    ):  # fmt: skip
        assert say(desk, real, owner, method, path).error["code"] == "refused", path
    stranger = desk.user("carl", Grant("admin", "another-pool"))
    assert say(desk, real, stranger, "GET", "/v1/vms").status == 403
    say(desk, real, admin, "DELETE", "/v1/vms/his", {"force": True})
    wait(lambda: "his" not in [v.name for v in desk.manager.reads.pool(real.id).status.vms])
    wait(lambda: all(task.done for task in desk.manager.tasks.tasks() if task.verb == "delete"))
    say(desk, real, admin, "POST", "/v1/vms", body)
    assert say(desk, real, owner, "POST", "/v1/vms/his/start").status == 403, "a name is no right"


def test_equipment_goes_the_same_way(desk: Desk, real: RealPool, admin: str) -> None:
    (real.root / "drop").mkdir(exist_ok=True)
    lan = {"name": "lan", "uplink": "eno1", "vlan": 20}
    assert say(desk, real, admin, "POST", "/v1/networks", lan).json["changed"] is True
    changed = say(desk, real, admin, "PATCH", "/v1/networks/lan", {"vlan": 30}).json
    assert PoolWish.model_validate(changed).changed
    assert [n["vlan"] for n in say(desk, real, admin, "GET", "/v1/networks").json] == [30]
    assert say(desk, real, admin, "DELETE", "/v1/networks/lan").status == 200
    assert say(desk, real, admin, "GET", "/v1/networks").json == []


def test_snapshots_of_a_vm(desk: Desk, real: RealPool, admin: str) -> None:
    """Over the API as tasks, and the way the command line speaks to agents."""
    disk = real.root / "images/web.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    ended(
        desk,
        create(desk, real, admin, disks=[{"path": "images/web.qcow2"}], use_existing=True),
        admin,
    )
    at = f"{V}/pools/lab/vms/web/snapshots"
    task = ended(desk, desk.call("POST", at, {"name": "one"}, token=admin), admin)
    assert (task["verb"], task["phase"], task["object"]) == ("snapshot", "done", "web")
    again = desk.call("POST", at, {"name": "one"}, token=admin)
    assert (again.status, again.error["code"]) == (409, "conflict")
    done = say(desk, real, admin, "POST", "/v1/vms/web/snapshots", {"name": "two"})
    assert SnapshotDone.model_validate(done.json).name == "two"
    found = desk.call("GET", f"{at}?sort=name&descending=true", token=admin).json
    assert [one["name"] for one in found["items"]] == ["two", "one"]
    assert not ended(desk, desk.call("POST", f"{at}/one/revert", token=admin), admin)["failed"]
    ended(desk, desk.call("DELETE", f"{at}/one", token=admin), admin)
    assert say(desk, real, admin, "DELETE", "/v1/vms/web/snapshots/two").status == 200
    assert say(desk, real, admin, "GET", "/v1/vms/web/snapshots").json == []
    assert desk.call("DELETE", f"{at}/one", token=admin).status == 404
    viewer = desk.user("bert", Grant("viewer", real.id))
    assert desk.call("GET", at, token=viewer).status == 200
    assert desk.call("POST", at, {"name": "three"}, token=viewer).status == 403


def standing(desk: Desk, real: RealPool, token: str, path: str) -> Any:
    """How work stands once it has ended."""
    wait(lambda: say(desk, real, token, "GET", path).json["state"] != "running", 60)
    return say(desk, real, token, "GET", path).json


def test_disks_move_and_are_backed_up_and_come_back(
    desk: Desk, real: RealPool, admin: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As tasks, with the right of a whole pool for what names folders of hosts."""
    vault, fast = tmp_path_factory.mktemp("vault"), tmp_path_factory.mktemp("fast")
    made = ["qemu-img", "create", "-q", "-f", "qcow2", real.root / "images/web.qcow2", "1M"]
    subprocess.run(made, check=True)
    disks = [{"path": "images/web.qcow2"}]
    body = {"name": "web", "memory": "512MiB", "disks": disks, "use_existing": True}
    assert say(desk, real, admin, "POST", "/v1/vms", body).status == 200
    store = {"name": "fast", "kind": "dir", "path": str(fast)}
    assert say(desk, real, admin, "POST", "/v1/storage", store).status == 200
    for service in (real.a, real.b):
        service.answering["fast"] = Answering(1 << 60)

    move, backup = "/v1/vms/web/disk-move", "/v1/vms/web/backup"
    begun = say(desk, real, admin, "POST", move, {"to": "fast", "rate_bytes_s": 0})
    assert (begun.status, begun.json["vm"]) == (200, "web")
    ended_well = standing(desk, real, admin, move)
    assert (ended_well["state"], ended_well["path"]) == ("done", str(fast / "web.qcow2"))
    shown = say(desk, real, admin, "GET", "/v1/vms/web").json["disks"]
    assert [disk["repository"] for disk in shown] == ["fast"]

    wish = {"folder": str(vault), "rate_bytes_s": 0}
    assert say(desk, real, admin, "POST", backup, wish).status == 200
    (folder,) = [standing(desk, real, admin, backup)["folder"]]
    assert say(desk, real, admin, "POST", f"{backup}?here=1", wish).error["hint"]
    restore = "/v1/vms/web-again/restore"
    said = say(desk, real, admin, "POST", f"{restore}?host=b", {"folder": folder})
    assert (said.status, said.json["of"]) == (200, "web")
    assert standing(desk, real, admin, f"{restore}?host=b")["state"] == "done"
    assert say(desk, real, admin, "POST", "/v1/vms/web-again/start").status == 200, "known at once"
    assert say(desk, real, admin, "DELETE", restore).status == 404
    elsewhere = say(desk, real, admin, "POST", "/v1/vms/x/restore?host=none", {"folder": folder})
    assert "no host 'none'" in elsewhere.error["sentence"]

    at = {"folder": "/mnt/backup", "at": "03:00"}
    assert say(desk, real, admin, "PUT", "/v1/vms/web/schedule", at).json["changed"]
    assert [one["at"] for one in say(desk, real, admin, "GET", "/v1/schedules").json] == ["03:00"]
    own = f"{V}/pools/{real.id}/vms/web/schedule"
    seen = desk.call("GET", own, token=admin)
    assert seen.json["folder"] == "/mnt/backup"
    put = desk.call("PUT", own, at | {"keep": 3}, token=admin, if_match=seen.headers["etag"])
    assert put.status == 202
    stale = desk.call("DELETE", own, token=admin, if_match=seen.headers["etag"])
    assert stale.status == 412, "somebody wished something else meanwhile"
    owner = desk.user("bert", Grant("operator", real.id, "web"))
    for method, path, wished in (
        ("POST", backup, wish), ("POST", restore, {"folder": folder}),
        ("PUT", "/v1/vms/web/schedule", at), ("GET", "/v1/foreign?host=a", None),
    ):  # fmt: skip
        assert say(desk, real, owner, method, path, wished).status == 403, path
    assert say(desk, real, owner, "GET", move).status == 200
    assert say(desk, real, admin, "DELETE", "/v1/vms/web/schedule").json["changed"]
    tasks = {task.verb: task for task in desk.manager.tasks.tasks()}
    wait(lambda: all(task.done for task in desk.manager.tasks.tasks() if task.verb != "start"))
    for verb in ("disk-move", "backup", "restore", "schedule-set", "schedule-remove"):
        assert not tasks[verb].failed, tasks[verb]


def test_a_domain_of_one_hosts_libvirt_is_adopted(desk: Desk, real: RealPool, admin: str) -> None:
    disk = real.root / "images/old.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    real.b.foreigners.xml["old"] = OLD.format(path=disk)
    nowhere = say(desk, real, admin, "GET", "/v1/foreign")
    assert "of which host" in nowhere.error["sentence"]
    assert say(desk, real, admin, "GET", "/v1/foreign?host=a").json == []
    (found,) = say(desk, real, admin, "GET", "/v1/foreign?host=b").json
    assert (found["name"], found["refusals"]) == ("old", [])
    done = say(desk, real, admin, "POST", "/v1/foreign/old/adopt?host=b", {"name": "old"})
    assert VmWish.model_validate(done.json).name == "old"
    assert say(desk, real, admin, "POST", "/v1/vms/old/start").status == 200
    assert real.b.foreigners.names() == []
    (task,) = [task for task in desk.manager.tasks.tasks() if task.verb == "adopt"]
    assert (task.object, task.phase) == ("old", "done")


def test_the_last_wishes_of_a_host_and_a_pool(desk: Desk, real: RealPool, admin: str) -> None:
    assert HostWish.model_validate(say(desk, real, admin, "POST", "/v1/hosts/b/leave").json)
    assert PoolWish.model_validate(say(desk, real, admin, "POST", "/v1/pool/upgrade").json)
    operator = desk.user("bert", Grant("operator", real.id))
    for path in ("/v1/hosts/b/leave", "/v1/pool/upgrade"):
        assert say(desk, real, operator, "POST", path).status == 403


def test_what_agents_refuse_is_no_warning_of_the_manager(
    desk: Desk, real: RealPool, admin: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It stands in the log with the answer's id, for whoever asks."""
    with caplog.at_level(logging.INFO, "outlast.manager.api"):
        real.stop("a")
        real.stop("b")
        said = say(desk, real, admin, "GET", "/v1/networks")
    assert said.status == 502
    (record,) = [r for r in caplog.records if said.headers["x-request-id"] in r.getMessage()]
    assert record.levelno == logging.INFO
