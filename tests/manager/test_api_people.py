"""Logging in, cookies, tokens, the first start: over the API."""

from __future__ import annotations

from pathlib import Path

from calling import V
from desk import Desk
from pretend import RealPool

from outlast.manager.ports import COOKIE, CSRF_HEADER


def test_nobody_gets_in_without_being_somebody(shared: tuple[Desk, RealPool, str]) -> None:
    desk, _, token = shared
    for headers in (
        {}, {"authorization": "Bearer"}, {"authorization": "Bearer olt_x"},
        {"authorization": f"Basic {token}"}, {"authorization": token}, {"cookie": f"{COOKIE}=x"},
        {"cookie": f"{COOKIE}={token}"},
    ):  # fmt: skip
        said = desk.call("GET", f"{V}/pools", **headers)
        assert (said.status, said.error["code"]) == (401, "refused")
        assert said.headers["www-authenticate"] == "Bearer"
    assert desk.call("GET", f"{V}/health").json == {"ok": True, "sentence": "it works"}


def test_a_browser_logs_in_and_its_changes_need_the_csrf_token(
    desk: Desk, real: RealPool, admin: str
) -> None:
    wrong = desk.call("POST", f"{V}/login", {"name": "anna", "password": "not the one"})
    assert (wrong.status, wrong.error["code"]) == (403, "refused")
    said = desk.call("POST", f"{V}/login", {"name": "anna", "password": "a long password of anna"})
    cookie = said.headers["set-cookie"]
    assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    sent = {"cookie": cookie.partition(";")[0]}
    assert desk.call("GET", f"{V}/me", **sent).json["name"] == "anna"
    body = {"name": "web", "memory": "512MiB"}
    at, csrf = f"{V}/pools/lab/vms", {CSRF_HEADER: said.json["csrf"]}
    assert desk.call("POST", at, body, **sent).status == 403
    assert desk.call("POST", at, body, **sent, **{CSRF_HEADER: "guess"}).status == 403
    foreign = desk.call("POST", at, body, **sent, **csrf, origin="https://evil.example")
    assert "another site" in foreign.error["sentence"]
    assert real.a.register.names("vm") == []
    assert desk.call("POST", at, body, **sent, **csrf, origin="https://manager").status == 202
    assert desk.call("POST", f"{V}/logout", **sent, **csrf).status == 204
    assert desk.call("GET", f"{V}/me", **sent).status == 401


def test_the_first_start(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    try:
        file = desk.place.setup_code
        assert file.stat().st_mode & 0o777 == 0o600
        body = {"name": "anna", "password": "a good long one"}
        wrong = desk.call("POST", f"{V}/set-up", body | {"code": "0000-0000"})
        assert wrong.status == 403
        said = desk.call("POST", f"{V}/set-up", body | {"code": file.read_text()})
        assert said.json["name"] == "anna"
        again = desk.call("POST", f"{V}/set-up", body | {"code": file.read_text()})
        assert again.status == 403
    finally:
        desk.close()


def test_guesses_over_the_api_are_slowed_down(desk: Desk) -> None:
    body = {"name": "anna", "password": "not the one"}
    said = [desk.call("POST", f"{V}/login", body) for _ in range(6)]
    assert [s.status for s in said] == [403] * 5 + [429]
    assert int(said[-1].headers["retry-after"]) >= 1
    assert "wait" in said[-1].error["hint"]


def test_tokens_are_made_shown_once_and_taken_away(desk: Desk, admin: str) -> None:
    said = desk.call("POST", f"{V}/login", {"name": "anna", "password": "a long password of anna"})
    sent = {"cookie": said.headers["set-cookie"].partition(";")[0], CSRF_HEADER: said.json["csrf"]}
    body = {"name": "ci", "roles": [{"role": "viewer"}], "days": 1}
    assert desk.call("POST", f"{V}/tokens", body, token=admin).status == 403
    made = desk.call("POST", f"{V}/tokens", body, **sent)
    assert made.status == 201
    token = made.json["token"]
    assert desk.call("GET", f"{V}/me", token=token).json["actions"] == ["see", "catalog", "tasks"]
    assert token not in desk.call("GET", f"{V}/tokens", **sent).body.decode()
    assert desk.call("DELETE", f"{V}/tokens/{made.json['id']}", **sent).status == 204
    assert desk.call("GET", f"{V}/me", token=token).status == 401


def test_sessions_of_a_user(desk: Desk, admin: str) -> None:
    person = {"name": "anna", "password": "a long password of anna"}
    cookies = [
        {"cookie": desk.call("POST", f"{V}/login", person).headers["set-cookie"].partition(";")[0]}
        for _ in range(2)
    ]
    at = f"{V}/users/anna/sessions"
    first, second = desk.call("GET", at, token=admin).json["items"]
    assert first["address"] == "10.1.1.1" and "csrf" not in first
    assert desk.call("DELETE", f"{at}/{first['id']}", token=admin).status == 204
    assert desk.call("DELETE", f"{at}/{first['id']}", token=admin).status == 404
    assert desk.call("DELETE", f"{V}/users/bert/sessions/{second['id']}", token=admin).status == 404
    assert [desk.call("GET", f"{V}/me", **c).status for c in cookies] == [401, 200]
    assert desk.call("GET", f"{V}/users/nobody/sessions", token=admin).status == 404
