"""The audit: each change leaves a line that says what was before, and what was wished."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from calling import V, create, ended, wait
from desk import Desk
from pretend import RealPool
from routes import flat

from outlast.images import orphans
from outlast.manager.ports import Grant, Person
from outlast.manager.repository import records
from outlast.manager.repository.records import AuditRow
from outlast.pool.facts import Answering
from outlast.settings import S

# changes that leave no line, each with its reason
BARE = {
    ("POST", f"{V}/login"): "its line is of the session; see the tests of accounts",
    ("POST", f"{V}/login/code"): "the same; see the tests of second factors",
    ("POST", f"{V}/set-up"): "the same",
    ("POST", f"{V}/logout"): "changes nothing but the session",
    ("POST", f"{V}/me/password"): "needs a session; changes the user as PATCH does",
    ("POST", f"{V}/me/second-factor"): "counts for nothing until it is confirmed",
    ("POST", f"{V}/me/second-factor/confirm"): "see the tests of second factors",
    ("POST", f"{V}/me/second-factor/remove"): "see the tests of second factors",
    ("DELETE", f"{V}/users/{{user}}/second-factor"): "see the tests of second factors",
    ("DELETE", f"{V}/users/{{user}}/sessions/{{session}}"): "see tests/web/test_people_pages.py",
    ("POST", f"{V}/webhooks/{{webhook}}/test"): "changes nothing",
    ("POST", f"{V}/settings/try/{{what}}"): "changes nothing",
    ("POST", f"{V}/pools/{{pool}}/rolling-maintenance"): "see tests/web/test_web_rolling.py",
    ("POST", f"{V}/pools/{{pool}}/rolling-maintenance/said"): "the same",
    ("POST", f"{V}/pools/{{pool}}/rolling-maintenance/go-on"): "the same",
    ("POST", f"{V}/pools/{{pool}}/rolling-maintenance/end"): "the same",
    ("PUT", f"{V}/pools/{{pool}}/images/{{image}}/upload"): "a piece; its beginning has the line",
    ("POST", f"{V}/tasks/{{task}}/cancel"): "leaves the line of the wish that it is",
    ("POST", f"{V}/tokens"): "a token makes none; see the next test",
    ("DELETE", f"{V}/tokens/{{token}}"): "the same",
}


class Told:
    """Calls as anna, and the lines that they leave."""

    def __init__(self, desk: Desk, token: str) -> None:
        self.desk, self.token = desk, token
        self.seen = self._newest()
        self.called: set[str] = set()

    def _rows(self) -> list[AuditRow]:
        read = self.desk.manager.repository.read
        rows, _ = self.desk.run(read(lambda c: records.list_audit(c, limit=5000)))
        return rows

    def _newest(self) -> int:
        return max((row.id for row in self._rows()), default=0)

    def __call__(
        self, method: str, path: str, body: Any = None, *, ends: bool = True
    ) -> tuple[str, str, str]:
        """(action, before, after) of the line."""
        said = self.desk.call(method, f"{V}{path}", {} if body is None else body, token=self.token)
        assert said.status < 300, said.body
        self.made = said.json if said.body else {}
        self.called.add(f"{method} {path.partition('?')[0]}")
        (row,) = [r for r in self._rows() if r.id > self.seen and r.address]
        self.seen = self._newest()
        assert (row.who, row.ok, row.address) == ("anna/test", True, "10.1.1.1")
        if said.status == 202 and ends:
            ended(self.desk, said, self.token)
            self.seen = self._newest()
        return row.action, row.before, row.after


def test_every_change_says_what_was_before_and_after(
    desk: Desk, real: RealPool, admin: str
) -> None:
    told, pool = Told(desk, admin), f"/pools/{real.id}"

    def shows(state: str) -> None:
        wait(lambda: desk.manager.reads.vm(real.id, "web").vm.state == state)

    _people_and_hooks(told)
    vm = {"name": "web", "memory": "512MiB"}
    action, before, after = told("POST", f"{pool}/vms", vm)
    assert (action, before, '"name":"web"' in after) == ("create", "", True)
    assert told("POST", f"{pool}/vms/web/start") == ("start", "stopped, HA on", "running")
    shows("running")
    off = {"on": False, "why": "a test"}
    was = "running on a, HA on"
    assert told("POST", f"{pool}/vms/web/ha", off) == ("ha", was, "HA off: a test")
    was = "running on a, HA off: a test (anna/test)"
    assert told("POST", f"{pool}/vms/web/migrate", {"to": "b"}) == ("migrate", was, "on b")
    state = desk.manager.reads.vm(real.id, "web").vm.state  # the pool's own word
    was = was.replace("running on a,", f"{state} on b,")
    assert told("POST", f"{pool}/vms/web/stay") == ("stay", was, "stays there")
    assert told("POST", f"{pool}/vms/web/ha", {"on": True}) == ("ha", was, "HA on")
    was = f"{state} on b, HA on"
    assert told("POST", f"{pool}/vms/web/stop") == ("stop", was, "off")
    shows("stopped")
    action, before, after = told("PATCH", f"{pool}/vms/web", {"vcpus": 2})
    assert (action, '"vcpus":1' in before, after) == ("set", True, '{"vcpus":2}')
    assert told("POST", f"{pool}/vms/web/kill") == ("kill", "stopped, HA on", "off")
    action, before, after = told("DELETE", f"{pool}/vms/web?force=true")
    assert (action, '"name":"web"' in before, '"force":true' in after) == ("delete", True, True)
    action, before, after = told("PATCH", f"{pool}/settings", {"admission": "refuse"})
    assert (action, '"admission":"warn"' in before, '"admission":"refuse"' in after) == (
        "pool-set", True, True,
    )  # fmt: skip
    assert told("POST", f"{pool}/hosts/b/drill", {"kind": "agent"}) == (
        "drill", "member", "a drill: agent",
    )  # fmt: skip
    assert real.a.drill is not None
    assert real.a.drill.value.by == "anna/test through manager", "the pool knows the person"
    assert told("POST", f"{pool}/ha", off) == ("pool-ha", "HA on", "HA off: a test")
    assert told("POST", f"{pool}/hosts/b/maintenance", {"why": "disks"}) == (
        "maintain", "member", "in maintenance: disks (anna/test)",
    )  # fmt: skip
    assert told("POST", f"{pool}/hosts/b/resume", {"bring_back": True}) == (
        "resume", "in maintenance: disks (anna/test)", "in service, its VMs come back",
    )  # fmt: skip
    assert told("POST", f"{pool}/hosts/b/power-on") == ("power-on", "member", "woken")
    assert told("POST", f"{pool}/hosts/b/power-off", ends=False)[::2] == ("power-off", "off")
    _dead_host(told, pool, real)
    _snapshots(told, pool, real.root)
    _disks(told, pool, real)
    _manager(told)
    _equipment(told, pool, real.root)
    _every_route_was_called(desk, told.called)


def _dead_host(told: Told, pool: str, real: RealPool) -> None:
    """c is silent: somebody answers for it, and takes it out."""
    for service in (real.a, real.b):
        assert service.view is not None
        members = {n: m for n, m in service.view.members.items() if n != 3}
        service.view = replace(service.view, members=members)
        service.seen[3] = replace(service.seen[3], still_ns=100 * S)
        service.links.pop(3)
    wait(lambda: told.desk.manager.reads.host(real.id, "c").state == "silent")
    action, before, after = told("POST", f"{pool}/hosts/c/confirm-off", {"why": "no power"})
    said = "no power (anna/test)"
    assert (action, before, after) == ("confirm-off", "silent", f"off: {said}")
    assert real.a.fences[3].value.why == said or real.b.fences[3].value.why == said
    gone = ("host-remove", "silent", "no host of the pool")
    assert told("DELETE", f"{pool}/hosts/c") == gone


def _snapshots(told: Told, pool: str, root: Path) -> None:
    disk = root / "images/kept.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    vm = {"name": "kept", "memory": "512MiB", "use_existing": True, "disks": [{"path": str(disk)}]}
    told("POST", f"{pool}/vms", vm)
    at, was = f"{pool}/vms/kept/snapshots", "stopped, HA on"
    assert told("POST", at, {"name": "one"}) == ("snapshot", was, "snapshot one")
    assert told("POST", f"{at}/one/revert")[:2] == ("snapshot-revert", was)
    assert told("DELETE", f"{at}/one")[:2] == ("snapshot-remove", was)


def _disks(told: Told, pool: str, real: RealPool) -> None:
    """They move, and are backed up and brought back."""
    vault, fast, was = real.root.with_name("vault"), real.root.with_name("fast"), "stopped, HA on"
    vault.mkdir()
    fast.mkdir()
    told("POST", f"{pool}/storage", {"name": "fast", "kind": "dir", "path": str(fast)})
    for service in (real.a, real.b):
        service.answering["fast"] = Answering(1 << 60)
    kept = f"{pool}/vms/kept"
    move = told("POST", f"{kept}/disk-move", {"to": "fast", "rate_bytes_s": 0})
    assert move == ("disk-move", was, "disk 1 in fast")
    backup = told("POST", f"{kept}/backup", {"folder": str(vault), "rate_bytes_s": 0})
    assert backup == ("backup", was, f"a backup in {vault}")
    (folder,) = map(str, vault.iterdir())
    action, before, after = told("POST", f"{pool}/restore", {"name": "back", "folder": folder})
    assert (action, before, after) == ("restore", "", f"made of {folder}")
    at = {"folder": str(vault), "at": "03:00"}
    assert told("PUT", f"{kept}/schedule", at)[0] == "schedule-set"
    assert told("DELETE", f"{kept}/schedule")[0] == "schedule-remove"


def _people_and_hooks(told: Told) -> None:
    body = {"name": "zoe", "password": "a long enough one", "roles": [{"role": "viewer"}]}
    assert told("POST", "/users", body) == ("user-add", "", "viewer")
    roles = [{"role": "own", "pool_id": "p", "vm": "w*"}]
    assert told("PATCH", "/users/zoe", {"roles": roles}) == (
        "user-change", "viewer", "own on p/w*",
    )  # fmt: skip
    assert told("PATCH", "/users/zoe", {"disabled": True, "code_needed": True}) == (
        "user-change", "own on p/w*", "own on p/w*, switched off, needs a second factor",
    )  # fmt: skip
    assert told("DELETE", "/users/zoe")[:2] == (
        "user-remove", "own on p/w*, switched off, needs a second factor",
    )  # fmt: skip
    hook = {"url": "https://hooks.example/x", "codes": ["vm-"]}
    assert told("POST", "/webhooks", hook) == ("webhook-add", "", "https://hooks.example/x (vm-)")
    assert told("DELETE", f"/webhooks/{told.made['id']}")[:2] == (
        "webhook-remove", "https://hooks.example/x (vm-)",
    )  # fmt: skip


def _equipment(told: Told, pool: str, root: Path) -> None:
    action, before, after = told("POST", f"{pool}/networks", {"name": "lan", "mtu": 1400})
    assert (action, before, after) == ("network-create", "", '{"name":"lan","mtu":1400}')
    action, before, after = told("PATCH", f"{pool}/networks/lan", {"mtu": 1500})
    assert (action, '"mtu":1400' in before, after) == ("network-change", True, '{"mtu":1500}')
    assert told("DELETE", f"{pool}/networks/lan") == ("network-remove", "", "removed")
    store = {"name": "old", "kind": "dir", "path": "/mnt/old"}
    assert told("POST", f"{pool}/storage", store)[0] == "storage-add"
    assert told("DELETE", f"{pool}/storage/old") == ("storage-remove", "", "removed")
    (root / "import").mkdir()
    (root / "import/deb.raw").write_bytes(bytes(1 << 16))
    image = {"name": "deb", "source": "deb.raw"}
    assert told("POST", f"{pool}/images", image)[0] == "image-import"
    template = {"name": "small", "image": "deb", "memory": "512MiB"}
    assert told("POST", f"{pool}/templates", template)[0] == "template-create"
    assert told("DELETE", f"{pool}/images/deb") == ("image-remove", "", "removed")
    action, _, after = told("POST", f"{pool}/templates/small/deploy", {"name": "new"})
    assert (action, after) == ("create", 'of template small: {"name":"new"}')
    assert told("POST", f"{pool}/vms/new/template", {"name": "cast"}) == (
        "template-of-vm", "", '{"name":"cast"}',
    )  # fmt: skip
    told("DELETE", f"{pool}/templates/cast")
    told("DELETE", f"{pool}/vms/new?with_disks=true")
    upload = f"{pool}/images/mine/upload"
    action, _, after = told("POST", upload, {"size_bytes": 512, "key": "mine.raw"})
    assert (action, after) == ("image-upload", '{"size_bytes":512,"key":"mine.raw"}')
    sent = told.desk.call("PUT", f"{V}{upload}?offset=0", raw=bytes(512), token=told.token)
    assert sent.status == 200
    assert told("POST", f"{upload}/import")[0] == "image-import"
    loose = root / "images/loose.raw"
    loose.write_bytes(bytes(512))
    with patch.object(orphans, "YOUNG_S", -1.0):
        assert told("DELETE", f"{pool}/orphans/loose.raw") == ("orphan-remove", "", "removed")
    assert not loose.exists()
    assert told("DELETE", f"{pool}/templates/small") == ("template-remove", "", "removed")


def _manager(told: Told) -> None:
    kept = ("settings", "{}", "{'events_days': 9}")
    assert told("PATCH", "/settings", {"events_days": 9}) == kept


def _every_route_was_called(desk: Desk, called: set[str]) -> None:
    """Routes that change something: called above, or left out with a reason."""
    for route in flat(desk.app.routes):
        if route.path.startswith(f"{V}/pools/{{pool}}/agent/"):
            continue  # the same wishes in the agents' words: see test_agent_door.py
        for method in route.methods - {"GET", "HEAD"}:
            shape = re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(route.path.removeprefix(V)))
            found = any(re.fullmatch(f"{method} {shape}", one) for one in called)
            assert found != ((method, route.path) in BARE), (method, route.path)


def test_roles_that_come_and_go_with_vms_and_tokens_are_told(
    desk: Desk, real: RealPool, admin: str
) -> None:
    people = desk.manager.people
    maker = desk.user("max", Grant("own", real.id))
    ended(desk, create(desk, real, maker), maker)
    desk.run(people.gone_vm(real.id, "web"))
    anna = Person("anna", (Grant("admin"),))
    grant = Grant("own", real.id)
    token, row = desk.run(people.add_token(anna, "max", "second", (grant,), 1, "x"))
    desk.run(people.remove_token(anna, row.id, "x"))
    rows, _ = desk.run(desk.manager.repository.read(records.list_audit))
    lines = [(r.who, r.action, r.object, r.before, r.after) for r in reversed(rows)]
    on = f"own on {real.id}"
    for line in (
        ("max/test", "role-add", "max", "", f"{on}/web"),
        ("outlast", "role-remove", "max", f"{on}/web", ""),
        ("anna", "token-add", "max/second", "", on),
        ("anna", "token-remove", "max/second", on, ""),
    ):
        assert line in lines
    assert token not in repr(rows)
