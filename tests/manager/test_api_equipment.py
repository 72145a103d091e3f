"""Networks, storage, images and templates over the API, of real agents with real registries."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from calling import V, create, ended, wait
from desk import Desk
from pretend import RealPool

from outlast.agent import image_api
from outlast.agent.service import NetworkHere
from outlast.errors import OutlastError, Unreachable
from outlast.images import qemu_img
from outlast.manager import jobs, uploading
from outlast.manager.equipment import NOT_YET, joined
from outlast.manager.outcome import Wish
from outlast.manager.ports import Grant, Task
from outlast.model import Disk
from outlast.pool.facts import Answering
from outlast.wire.client import AgentClient
from outlast.wire.equipment import NetworkInfo, NetworkStanding, StorageInfo

LAN = {"name": "lan", "uplink": "eno1", "vlan": 20}


def test_a_network_is_made_changed_and_removed(desk: Desk, real: RealPool, admin: str) -> None:
    at = f"{V}/pools/{real.id}/networks"
    assert desk.call("GET", at, token=admin).json["items"] == []
    task = ended(desk, desk.call("POST", at, LAN, token=admin), admin)
    assert (task["verb"], task["phase"], task["object"]) == ("network-create", "done", "lan")
    again = desk.call("POST", at, LAN, token=admin)
    assert (again.status, again.error["code"]) == (409, "conflict")
    ended(desk, create(desk, real, admin, networks=["lan"]), admin)
    real.a.networks_here = {"lan": NetworkHere("", ("b",))}
    real.b.networks_here = {"lan": NetworkHere("there is no card eno1")}
    seen = desk.call("GET", f"{at}/lan", token=admin)
    assert (seen.json["vlan"], seen.json["vms"]) == (20, ["web"])
    a, b, c = seen.json["hosts"]
    assert (a["there"], a["deaf"], a["uplink"]) == (True, ["b"], "eno1")
    assert (b["there"], b["sentence"]) == (False, "there is no card eno1")
    assert (c["there"], bool(c["sentence"])) == (None, True), "c has no agent here"
    etag = seen.headers["etag"]
    changed = desk.call("PATCH", f"{at}/lan", {"vlan": 30}, token=admin, If_Match=etag)
    assert ended(desk, changed, admin)["sentence"] == "every host changes the network lan"
    for method in ("PATCH", "DELETE"):
        body = {"vlan": 40} if method == "PATCH" else None
        late = desk.call(method, f"{at}/lan", body, token=admin, If_Match=etag)
        assert (late.status, late.error["code"]) == (412, "conflict")
    bad = desk.call("PATCH", f"{at}/lan", {"vlan": 5000}, token=admin)
    assert (bad.status, bad.error["field"]) == (422, "vlan")
    ended(desk, desk.call("DELETE", f"{at}/lan", token=admin), admin)
    assert desk.call("GET", f"{at}/lan", token=admin).status == 404
    assert desk.call("DELETE", f"{at}/lan", token=admin).status == 404


def test_storage_is_added_and_kept_while_disks_are_on_it(
    desk: Desk, real: RealPool, admin: str, tmp_path: Path
) -> None:
    at = f"{V}/pools/{real.id}/storage"
    place = tmp_path / "fast"
    place.mkdir()
    wish = {"name": "fast", "kind": "dir", "path": str(place)}
    assert ended(desk, desk.call("POST", at, wish, token=admin), admin)["phase"] == "done"
    bad = desk.call("POST", at, {"name": "x", "kind": "nfs", "source": "nonsense"}, token=admin)
    assert bad.status == 422
    real.a.answering = {"fast": Answering(1, "")}
    real.b.register = real.a.register
    real.b.answering = {"fast": Answering(0, "it has not answered for 9 s")}
    own, fast = desk.call("GET", at, token=admin).json["items"]
    assert (own["name"], own["own"], own["hosts"][0]["there"]) == ("pool", True, True)
    assert own["hosts"][0]["free_bytes"] > 0
    a, b, _ = fast["hosts"]
    assert (a["there"], a["size_bytes"] > 0) == (True, True)
    assert (b["there"], b["sentence"]) == (False, "it has not answered for 9 s")
    disks = [{"size": "1M", "repository": "fast"}]
    ended(desk, create(desk, real, admin, disks=disks), admin)
    wait(lambda: desk.call("GET", f"{at}/fast", token=admin).json["vms"] == ["web"])
    kept = desk.call("DELETE", f"{at}/fast", token=admin)
    assert kept.status == 409 and "it holds disks of web" in kept.error["sentence"]
    ended(desk, desk.call("DELETE", f"{V}/pools/lab/vms/web?with_disks=true", token=admin), admin)
    ended(desk, desk.call("DELETE", f"{at}/fast", token=admin), admin)
    assert [s["name"] for s in desk.call("GET", at, token=admin).json["items"]] == ["pool"]


def test_an_image_becomes_a_template_and_a_vm_on_another_network(
    desk: Desk, real: RealPool, admin: str
) -> None:
    pool = f"{V}/pools/{real.id}"
    drop = real.root / image_api.DROP
    drop.mkdir()
    (drop / "deb.raw").write_bytes(os.urandom(1 << 16))
    (drop / "link").symlink_to("/etc/hostname")
    for source in ("../images/x", "/etc/shadow", "link", "sub/x", "http://plain.example/x"):
        bad = desk.call("POST", f"{pool}/images", {"name": "x", "source": source}, token=admin)
        assert bad.status in (404, 422), source
        assert not desk.call("GET", f"{pool}/images", token=admin).json["total"]
    wish = {"name": "deb", "source": "deb.raw", "rate_bytes_s": 0}
    task = ended(desk, desk.call("POST", f"{pool}/images", wish, token=admin), admin)
    assert (task["verb"], task["sentence"]) == ("image-import", "deb is imported")
    again = desk.call("POST", f"{pool}/images", wish, token=admin)
    assert again.status == 409
    image = desk.call("GET", f"{pool}/images/deb", token=admin).json
    assert (image["source"], image["virtual_bytes"]) == ("deb.raw", 1 << 16)
    made = {"name": "small", "image": "deb", "memory": "512MiB", "networks": ["br0"]}
    ended(desk, desk.call("POST", f"{pool}/templates", made, token=admin), admin)
    ended(desk, desk.call("DELETE", f"{pool}/images/deb", token=admin), admin)
    bad = {"name": "web", "user_data": "hello"}
    said = desk.call("POST", f"{pool}/templates/small/deploy", bad, token=admin)
    assert said.status == 422 and "cloud-init would ignore it" in said.error["sentence"]
    wish = {"name": "web", "user_data": "#cloud-config\npackages: [x]\n", "networks": ["lan"]}
    ended(desk, desk.call("POST", f"{pool}/templates/small/deploy", wish, token=admin), admin)
    spec = real.a.read_vm("web").value.spec  # type: ignore[union-attr]
    assert spec.networks == ("lan",)
    assert b"packages: [x]" in Path(spec.disks[1].path).read_bytes()
    assert desk.call("GET", f"{pool}/templates/small", token=admin).json["vms"] == ["web"]
    kept = desk.call("DELETE", f"{pool}/templates/small", token=admin)
    assert kept.status == 409 and "web.qcow2 lies over it" in kept.error["sentence"]
    ended(desk, desk.call("DELETE", f"{pool}/vms/web?with_disks=true", token=admin), admin)
    ended(desk, desk.call("DELETE", f"{pool}/templates/small", token=admin), admin)


def test_an_import_is_watched_and_cancelled(desk: Desk, real: RealPool, admin: str) -> None:
    """At one byte a second it would take days."""
    pool = f"{V}/pools/{real.id}"
    drop = real.root / image_api.DROP
    drop.mkdir()
    (drop / "big.raw").write_bytes(os.urandom(8 << 20))
    wish = {"name": "big", "source": "big.raw", "rate_bytes_s": 2 << 20}
    said = desk.call("POST", f"{pool}/images", wish, token=admin)
    at = f"{V}/tasks/{said.json['id']}"
    wait(lambda: desk.call("GET", at, token=admin).json["percent"] is not None)
    task = desk.call("GET", at, token=admin).json
    assert not task["done"] and task["sentence"].endswith(" big")
    vera = desk.user("vera", Grant("viewer"))
    assert desk.call("POST", f"{at}/cancel", token=vera).status == 403
    ended(desk, desk.call("POST", f"{at}/cancel", token=admin), admin)
    wait(lambda: desk.call("GET", at, token=admin).json["failed"], 30)
    assert "broken off by wish" in desk.call("GET", at, token=admin).json["sentence"]
    late = desk.call("POST", f"{at}/cancel", token=admin)
    assert (late.status, late.error["code"]) == (409, "conflict")
    assert not desk.call("GET", f"{pool}/images", token=admin).json["total"]


def test_a_template_is_made_of_a_vm_and_makes_vms(desk: Desk, real: RealPool, admin: str) -> None:
    """Through whichever agent; its disk is copied, its seed is not; it makes VMs of its own."""
    pool = f"{V}/pools/{real.id}"
    ended(desk, create(desk, real, admin, networks=["lan"], vcpus=3), admin)
    record = real.a.read_vm("web").value  # type: ignore[union-attr]
    disk = Path(record.spec.disks[0].path)
    disk.write_bytes(os.urandom(1 << 20))
    seed = disk.with_name("web-seed.iso")
    seed.write_bytes(b"me alone" * 64)
    two = replace(record.spec, disks=(*record.spec.disks, Disk(str(seed))))
    real.a.write_vm(real.a.read_vm("web").version, replace(record, spec=two))  # type: ignore[union-attr]
    for wish, status in (({"name": "../x"}, 422), ({"name": "cast", "rate_bytes_s": -1}, 422)):
        assert desk.call("POST", f"{pool}/vms/web/template", wish, token=admin).status == status
    said = desk.call("POST", f"{pool}/vms/web/template", {"name": "cast", "note": "n"}, token=admin)
    task = ended(desk, said, admin)
    assert (task["verb"], task["sentence"]) == (
        "template-of-vm",
        "the template cast is made of web",
    )
    made = desk.call("GET", f"{pool}/templates/cast", token=admin).json
    assert (made["image"], made["vcpus"], made["disks"], made["networks"], made["note"]) == (
        "the VM web", 3, 1, ["lan"], "n",
    )  # fmt: skip
    copy = real.root / "images/templates/cast/disk-0.qcow2"
    assert qemu_img.info(copy, "qcow2")["virtual-size"] == 1 << 20
    plain = real.root / "plain.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", copy, plain], check=True)
    assert plain.read_bytes() == disk.read_bytes()
    again = desk.call("POST", f"{pool}/vms/web/template", {"name": "cast"}, token=admin)
    assert (again.status, again.error["code"]) == (409, "conflict")
    ended(
        desk,
        desk.call("POST", f"{pool}/templates/cast/deploy", {"name": "two"}, token=admin),
        admin,
    )
    assert desk.call("GET", f"{pool}/templates/cast", token=admin).json["vms"] == ["two"]
    uefi = replace(two, firmware="uefi")
    real.a.write_vm(real.a.read_vm("web").version, replace(record, spec=uefi))  # type: ignore[union-attr]
    no = desk.call("POST", f"{pool}/vms/web/template", {"name": "cast2"}, token=admin)
    assert no.status == 409 and "by BIOS" in no.error["sentence"]


def test_a_template_of_a_vm_is_cancelled_and_leaves_nothing(
    desk: Desk, real: RealPool, admin: str
) -> None:
    """At that rate it would take a minute, most of it without a word of qemu-img."""
    pool = f"{V}/pools/{real.id}"
    ended(desk, create(desk, real, admin, disks=[{"size": "16M"}]), admin)
    spec = real.a.read_vm("web").value.spec  # type: ignore[union-attr]
    Path(spec.disks[0].path).write_bytes(os.urandom(16 << 20))
    wish = {"name": "cast", "rate_bytes_s": 256 << 10}
    said = desk.call("POST", f"{pool}/vms/web/template", wish, token=admin)
    at = f"{V}/tasks/{said.json['id']}"
    wait(lambda: "copying" in desk.call("GET", at, token=admin).json["sentence"], 60)
    ended(desk, desk.call("POST", f"{at}/cancel", token=admin), admin)
    wait(lambda: desk.call("GET", at, token=admin).json["failed"], 30)
    assert "broken off by wish" in desk.call("GET", at, token=admin).json["sentence"]
    assert desk.call("GET", f"{pool}/templates", token=admin).json["items"] == []
    assert not list((real.root / "images/templates").iterdir())


def test_an_image_is_sent_broken_off_and_sent_on(
    desk: Desk, real: RealPool, admin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bodies of any length, through either agent; nothing is an image before it is whole."""
    monkeypatch.setattr(uploading, "PIECE", 1 << 16)
    pool, data = f"{V}/pools/{real.id}", os.urandom(3 << 19)
    at, octets = f"{pool}/images/mine/upload", {"content_type": "application/octet-stream"}
    vera = desk.user("vera", Grant("viewer"))
    wish = {"size_bytes": len(data), "key": "mine.raw"}
    assert desk.call("POST", at, wish, token=vera).status == 403
    assert desk.call("PUT", f"{at}?offset=0", raw=data, token=vera, **octets).status == 403
    assert desk.call("POST", at, {"size_bytes": 5}, token=admin).status == 422, "nothing to know by"
    assert desk.call("POST", at, wish, token=admin).json["got_bytes"] == 0
    half = 700_001
    sent = desk.call("PUT", f"{at}?offset=0", raw=data[:half], token=admin, **octets)
    assert sent.json["got_bytes"] == half
    for early in (f"{at}/import", f"{pool}/images/other/upload/import"):
        refused = desk.call("POST", early, {}, token=admin)
        assert refused.status in (404, 409), "it is not whole"
    assert desk.call("GET", f"{pool}/images", token=admin).json["total"] == 0
    wrong = desk.call("PUT", f"{at}?offset=5", raw=data[5:], token=admin, **octets)
    assert (wrong.status, wrong.error["code"]) == (409, "conflict")
    real.stop("a")
    again = desk.call("POST", at, wish, token=admin)
    assert again.json["got_bytes"] == half, "the other agent knows"
    sent = desk.call("PUT", f"{at}?offset={half}", raw=data[half:], token=admin, **octets)
    assert sent.json["got_bytes"] == len(data)
    over = desk.call("PUT", f"{at}?offset={len(data)}", raw=b"more", token=admin, **octets)
    assert over.status == 422
    done = ended(desk, desk.call("POST", f"{at}/import", {"rate_bytes_s": 0}, token=admin), admin)
    assert (done["verb"], done["sentence"]) == ("image-import", "mine is imported")
    image = desk.call("GET", f"{pool}/images/mine", token=admin).json
    assert image["sha256"] == hashlib.sha256(data).hexdigest()
    lines = desk.call("GET", f"{V}/audit?action=image-upload", token=admin).json
    assert lines["total"] == 1, "how often it was broken off does not matter"


def test_an_image_that_is_not_what_was_said_is_none(desk: Desk, real: RealPool, admin: str) -> None:
    pool, data = f"{V}/pools/{real.id}", os.urandom(1 << 16)
    at = f"{pool}/images/mine/upload"
    wish = {"size_bytes": len(data), "sha256": "0" * 64}
    assert desk.call("POST", at, wish, token=admin).status == 200
    desk.call("PUT", f"{at}?offset=0", raw=data, token=admin)
    said = desk.call("POST", f"{at}/import", {"rate_bytes_s": 0}, token=admin)
    task = ended(desk, said, admin)
    assert task["failed"] and "SHA-256" in task["sentence"]
    assert desk.call("GET", f"{pool}/images", token=admin).json["total"] == 0
    large = desk.call("POST", at, raw=b"x" * (2 << 20), token=admin)
    assert large.status == 413, "other bodies are small"


def test_a_move_is_cancelled_by_its_task_and_a_start_is_not(
    desk: Desk, real: RealPool, admin: str
) -> None:
    ended(desk, create(desk, real, admin, start=True), admin)
    real.a.obedient = False
    said = desk.call("POST", f"{V}/pools/lab/vms/web/migrate", {"to": "b"}, token=admin)
    task = desk.call("POST", f"{V}/tasks/{said.json['id']}/cancel", token=admin)
    assert ended(desk, task, admin)["verb"] == "stay"
    vms = f"{V}/pools/lab/vms"
    ended(desk, create(desk, real, admin, "slow"), admin)
    begun = desk.call("POST", f"{vms}/slow/start", token=admin)
    back = desk.call("POST", f"{V}/tasks/{begun.json['id']}/cancel", token=admin)
    assert ended(desk, back, admin)["verb"] == "stop"
    assert real.a.read_vm("slow").value.desired.value == "stopped"  # type: ignore[union-attr]
    begun = desk.call("POST", f"{V}/pools/lab/hosts/a/maintenance", {}, token=admin)
    back = desk.call("POST", f"{V}/tasks/{begun.json['id']}/cancel", token=admin)
    assert ended(desk, back, admin)["verb"] == "resume"
    stop = desk.call("POST", f"{vms}/web/stop", token=admin)
    refused = desk.call("POST", f"{V}/tasks/{stop.json['id']}/cancel", token=admin)
    assert (refused.status, "cannot be cancelled" in refused.error["sentence"]) == (409, True)
    assert "start it again" in refused.error["hint"]


def test_whoever_makes_vms_sees_what_they_are_made_of_but_not_other_peoples(
    desk: Desk, real: RealPool, admin: str
) -> None:
    at = f"{V}/pools/{real.id}/networks"
    ended(desk, desk.call("POST", at, LAN, token=admin), admin)
    ended(desk, create(desk, real, admin, networks=["lan"]), admin)
    olga = desk.user("olga", Grant("own", real.id))
    assert desk.call("GET", f"{at}/lan", token=olga).json["vms"] == []
    assert desk.call("POST", at, LAN | {"name": "dmz"}, token=olga).status == 403


# ---- what hosts say, joined


def test_silence_is_neither_there_nor_missing() -> None:
    here = NetworkInfo(name="lan", hosts=[NetworkStanding(host="a", there=True)])
    said: dict[str, list[NetworkInfo] | OutlastError] = {
        "a": [here], "b": [], "c": Unreachable("no agent answers"),
    }  # fmt: skip
    (lan,) = joined(said)
    assert [(h.host, h.there, h.sentence) for h in lan.hosts] == [
        ("a", True, ""), ("b", None, NOT_YET), ("c", None, "no agent answers"),
    ]  # fmt: skip
    assert joined({"a": list[NetworkInfo]()}) == []
    with pytest.raises(Unreachable):
        joined({"c": Unreachable("no agent answers")})
    stores = [StorageInfo(name="pool", own=True), StorageInfo(name="fast")]
    assert [s.name for s in joined({"a": stores})] == ["pool", "fast"]


# ---- imports whose agent is gone


def test_an_import_outlives_what_its_agent_forgets(real: RealPool) -> None:
    """Forgotten and there: done. Forgotten and not there: failed. Silent: not known for a while."""
    now_s = time.time()
    task = Task("t", "image-import", real.id, "deb", "anna", now_s, "watching", None, "it begins")

    def client(address: str) -> AgentClient:
        return AgentClient(address, pki=real.pki, timeout_s=5)

    a, b = real.url("a"), real.url("b")
    lost, _ = jobs.follow(task, Wish(agent=a), [a, b], client, now_s)
    assert (
        lost.failed and "started anew" in lost.sentence and lost.hint == jobs.KINDS[task.verb].again
    )
    doubt, _ = jobs.follow(task, Wish(doubt=True), [a, b], client, now_s + 1)
    assert not doubt.done, "it may be on its way to an agent still"
    real.stop("a")
    silent, wish = jobs.follow(task, Wish(agent=a), [a, b], client, now_s + 1)
    assert not silent.done and "does not answer" in silent.sentence
    gone, _ = jobs.follow(task, wish, [a, b], client, now_s + jobs.SILENT_S + 1)
    assert gone.failed and "any more" in gone.sentence
