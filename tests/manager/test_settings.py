"""Settings of the manager: what is set and where, what changes at once, what is tried outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import V
from desk import Desk
from slapd import SLAPD, Slapd
from test_mail import WORD, Office

from outlast.manager.config import Config, make_certificate
from outlast.manager.outside import Oidc, Rule
from outlast.manager.ports import Grant
from outlast.manager.repository import moments, records
from outlast.wire.shapes import TimelineEntry


@pytest.fixture
def place(tmp_path: Path, database: str) -> Iterator[tuple[Desk, str, Office]]:
    office = Office(tmp_path / "office", "starttls")
    made = Desk(tmp_path / "manager", database, mail=office.settings(), events_days=30)
    yield made, made.user("anna", Grant("admin")), office
    made.close()
    office.close()


def settings(desk: Desk, token: str) -> dict[str, Any]:
    said = desk.call("GET", f"{V}/settings", token=token)
    assert said.status == 200
    return {one["name"]: one for one in said.json["settings"]}


def test_what_is_set_and_where(place: tuple[Desk, str, Office]) -> None:
    desk, token, office = place
    found = settings(desk, token)
    assert set(found) == set(Config.model_fields), "every setting is told"
    assert (found["events_days"]["value"], found["events_days"]["where"]) == ("30", "manager.json")
    assert (found["tasks_days"]["value"], found["tasks_days"]["where"]) == ("30", "default")
    assert [n for n, s in found.items() if s["live"]] == [
        "events_days", "tasks_days", "metrics_days"
    ]  # fmt: skip
    assert office.settings().server in found["mail"]["value"]
    text = desk.call("GET", f"{V}/settings", token=token).body.decode()
    assert WORD not in text


def test_how_long_things_are_kept_changes_at_once(place: tuple[Desk, str, Office]) -> None:
    desk, token, _ = place
    now_s, repository = time.time(), desk.manager.repository
    entries = [
        TimelineEntry(wall_s=now_s - days * 86400, host="a", code="x", sentence="", id=f"{days}")
        for days in (1, 20, 25)
    ]
    desk.run(repository.write(lambda c: moments.add_events(c, "p", entries)))

    def left() -> int:
        desk.run(desk.manager.background.forget())
        return desk.run(repository.read(lambda c: records.list_events(c, pools_seen=None)))[1]

    assert left() == 3
    said = desk.call("PATCH", f"{V}/settings", {"events_days": 22}, token=token)
    assert said.status == 200
    found = settings(desk, token)["events_days"]
    assert (found["value"], found["where"]) == ("22", "database")
    assert left() == 2
    desk.call("PATCH", f"{V}/settings", {"events_days": None, "tasks_days": 5}, token=token)
    assert settings(desk, token)["events_days"]["where"] == "manager.json"
    lines, _ = desk.run(repository.read(lambda c: records.list_audit(c, action="settings")))
    assert [(row.before, row.after) for row in lines] == [
        ("{'events_days': 22}", "{'tasks_days': 5}"), ("{}", "{'events_days': 22}"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body", [{"events_days": 0}, {"metrics_days": 733}, {"tasks_days": "x"}, {"listen": "0:1"}]
)
def test_what_is_no_setting_changes_nothing(
    place: tuple[Desk, str, Office], body: dict[str, Any]
) -> None:
    desk, token, _ = place
    before = settings(desk, token)
    said = desk.call("PATCH", f"{V}/settings", body, token=token)
    assert said.status == 422
    assert next(iter(body)) in said.error["sentence"]
    assert settings(desk, token) == before


def test_a_mail_is_tried(place: tuple[Desk, str, Office]) -> None:
    desk, token, office = place
    at = f"{V}/settings/try/mail"
    said = desk.call("POST", at, {"to": "ops@corp.example"}, token=token)
    assert (said.status, said.json["sentence"]) == (
        200, "the mail server took it: look for it at ops@corp.example",
    )  # fmt: skip
    assert office.got[0][0] == ["ops@corp.example"]
    office.answer = "550 nobody of that name"
    said = desk.call("POST", at, {"to": "ops@corp.example"}, token=token)
    assert (said.status, said.error["code"]) == (409, "conflict")
    assert "550" in said.error["sentence"]
    assert desk.call("POST", at, {"to": "no address"}, token=token).status == 422
    for what, status in (("oidc", 409), ("ldap", 409), ("else", 404)):
        assert desk.call("POST", f"{V}/settings/try/{what}", {}, token=token).status == status


@pytest.mark.skipif(SLAPD is None, reason="apt-get install slapd")
def test_a_directory_and_a_provider_are_tried(tmp_path: Path) -> None:
    slapd = Slapd(tmp_path / "slapd")
    nobody = Oidc(
        issuer="https://127.0.0.1:1/realm", client_id="x", address="https://manager",
        roles=(Rule(group="g", role="viewer"),),
    )  # fmt: skip
    desk = Desk(tmp_path / "manager", ldap=slapd.settings(), oidc=nobody)
    try:
        token = desk.user("anna", Grant("admin"))

        def tried(what: str, **body: str) -> Any:
            return desk.call("POST", f"{V}/settings/try/{what}", body, token=token)

        assert "knows nobody named 'zoe'" in tried("ldap", name="zoe").json["sentence"]
        said = tried("oidc")
        assert said.status == 502
        assert "127.0.0.1" in said.error["sentence"]
    finally:
        desk.close()
        slapd.stop()


def test_certificates_say_until_when(place: tuple[Desk, str, Office]) -> None:
    desk, token, _ = place

    def first() -> dict[str, Any]:
        found = desk.call("GET", f"{V}/settings", token=token).json["certificates"]
        return dict(found[0])

    assert "outlast manager init" not in first()["file"]
    assert "there is no file" in first()["trouble"]
    folder = desk.place.var / "tls"
    make_certificate(folder, ["manager"])
    assert first()["until_wall_s"] > time.time() + 800 * 86400
    assert (first()["trouble"], len(first()["fingerprint"])) == ("", 95)
    (folder / "cert.pem").write_text("nothing")
    assert first()["trouble"] == "it cannot be read: it is no certificate"
