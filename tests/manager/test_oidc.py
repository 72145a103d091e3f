"""Logins at a provider: a real one as a process over TLS, honest and lying."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from calling import V
from desk import BOSS, Desk, Said
from outside import CLIENT, Outside
from process import free_port

from outlast.errors import InvalidInput
from outlast.manager.config import Config
from outlast.manager.outside import Oidc
from outlast.manager.ports import COOKIE, Grant
from outlast.manager.repository import records
from outlast.manager.serve import pages
from outlast.wire.shapes import BadField, parse


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    made = Outside(tmp_path_factory.mktemp("provider"))
    yield made
    made.close()


@pytest.fixture
def outside(provider: Outside) -> Iterator[Outside]:
    yield provider
    provider.lie()


def desk_with(root: Path, settings: Oidc) -> Desk:
    made = Desk(root, oidc=settings)
    pages(made.app, made.manager)
    made.run(made.manager.people.add_user(BOSS, "anna", "a good long one", (Grant("admin"),)))
    return made


@pytest.fixture
def desk(tmp_path: Path, outside: Outside) -> Iterator[Desk]:
    made = desk_with(tmp_path / "manager", outside.settings())
    yield made
    made.close()


@pytest.fixture(scope="module")
def same_desk(tmp_path_factory: pytest.TempPathFactory, provider: Outside) -> Iterator[Desk]:
    """For tests in which nobody comes in."""
    made = desk_with(tmp_path_factory.mktemp("same"), provider.settings())
    yield made
    made.close()


def cookies(said: Said, name: str) -> str:
    sent = said.headers.get("set-cookie", "")
    return sent.partition(";")[0] if sent.startswith(name) else ""


def there(desk: Desk, outside: Outside, to: str = "/vms") -> tuple[str, str]:
    """At the provider, and sent back: the flow's cookie, and the path to come back to."""
    said = desk.call("GET", f"/sign-in/provider?{urlencode({'next': to})}")
    assert said.status == 303, said.body
    assert "HttpOnly" in said.headers["set-cookie"]
    assert "SameSite=lax; Secure" in said.headers["set-cookie"]
    at = said.headers["location"]
    assert at.startswith(f"{outside.issuer}/authorize?")
    status, back = outside.call("GET", at.removeprefix(f"https://localhost:{outside.port}"))
    assert status == 302
    assert back.startswith("https://manager/sign-in/back?")
    return cookies(said, "__Host-outlast-flow"), back.removeprefix("https://manager")


def login(desk: Desk, outside: Outside) -> Said:
    cookie, back = there(desk, outside)
    return desk.call("GET", back, cookie=cookie)


def lines(desk: Desk) -> list[tuple[str, bool, str, str, str]]:
    rows, _ = desk.run(desk.manager.repository.read(records.list_audit))
    return [(r.action, r.ok, r.sentence, r.before, r.after) for r in reversed(rows)]


def test_a_first_login_makes_a_user_with_the_roles_of_his_groups(
    desk: Desk, outside: Outside
) -> None:
    page = desk.call("GET", "/sign-in?next=/vms").body.decode()
    assert "Sign in at &lt;work&gt;" in page
    said = login(desk, outside)
    assert said.status == 200, said.body
    assert 'content="0; url=/vms"' in said.body.decode()
    sent = said.headers["set-cookie"]
    assert sent.startswith(f"{COOKIE}=")
    assert "SameSite=strict" in sent
    assert "__Host-outlast-flow=" in sent.partition(", ")[2]  # which ends here
    assert desk.call("GET", f"{V}/me", cookie=sent.partition(";")[0]).json["name"] == "olga"
    people = desk.manager.people
    olga = desk.run(people.user("olga"))
    assert (olga.origin, olga.grants) == ("oidc", (Grant("operator"),))
    assert olga.subject == f"{outside.issuer} 4711"
    assert ("user-add", True, "by oidc", "", "operator") in lines(desk)
    # the provider takes a role away and gives another: the next login knows
    outside.lie(claims={"groups": ["boss"], "preferred_username": "olga-the-boss"})
    assert login(desk, outside).status == 200
    assert desk.run(people.user("olga")).grants == (Grant("admin"),)
    assert ("user-change", True, "by oidc", "operator", "admin") in lines(desk)
    # no group with a role: no entry, and what there was is gone
    token, _ = desk.run(people.add_token(BOSS, "olga", "ci", (Grant("viewer"),), 1))
    assert desk.call("GET", f"{V}/me", token=token).status == 200
    outside.lie(claims={"groups": ["choir"]})
    said = login(desk, outside)
    assert (said.status, "in no group" in said.body.decode()) == (403, True)
    assert desk.call("GET", f"{V}/me", token=token).json["roles"] == []
    assert desk.run(people.sessions("olga")) == []


def test_a_name_that_is_somebody_elses_here_is_refused(desk: Desk, outside: Outside) -> None:
    outside.lie(claims={"preferred_username": "anna", "groups": ["boss"]})
    said = login(desk, outside)
    assert (said.status, "is somebody else" in said.body.decode()) == (403, True)
    assert desk.run(desk.manager.people.user("anna")).origin == "local"
    outside.lie(claims={"preferred_username": "../x", "groups": ["boss"]})
    assert login(desk, outside).status == 422


def test_who_is_switched_off_stays_out(desk: Desk, outside: Outside) -> None:
    assert login(desk, outside).status == 200
    desk.run(desk.manager.people.change_user(BOSS, "olga", disabled=True))
    assert login(desk, outside).status == 403
    # and has no password here
    said = desk.call("POST", f"{V}/login", {"name": "olga", "password": ""})
    assert said.status == 403


def test_the_way_back_is_for_the_browser_that_went_and_good_once(
    desk: Desk, outside: Outside
) -> None:
    cookie, back = there(desk, outside)
    other, _ = there(desk, outside)
    for kept in ("", other):
        said = desk.call("GET", back, cookie=kept)
        assert (said.status, "not begun in this browser" in said.body.decode()) == (403, True)
    assert desk.call("GET", back.replace("state=", "state=x"), cookie=cookie).status == 403
    assert desk.call("GET", back, cookie=cookie).status == 200
    said = desk.call("GET", back, cookie=cookie)
    assert (said.status, "invalid_grant" in said.body.decode()) == (403, True)
    # a code that was stolen is worth nothing with another browser's verifier
    cookie, back = there(desk, outside)
    other, elsewhere = there(desk, outside)
    code = parse_qs(urlsplit(back).query)["code"][0]
    state = parse_qs(urlsplit(elsewhere).query)["state"][0]
    stolen = f"/sign-in/back?{urlencode({'code': code, 'state': state})}"
    said = desk.call("GET", stolen, cookie=other)
    assert (said.status, "PKCE" in said.body.decode()) == (403, True)


@pytest.mark.parametrize(
    ("lies", "words"),
    [
        ({"key": "other"}, "bad_signature"),
        ({"alg": "none"}, "not good"),
        ({"alg": "HS256"}, "not good"),
        ({"alg": "HS256", "key": "public"}, "not good"),
        ({"claims": {"iss": "https://evil.example"}}, "iss"),
        ({"claims": {"aud": "another client"}}, "aud"),
        ({"claims": {"aud": [CLIENT, "another"]}}, "for somebody else"),
        ({"claims": {"azp": "another"}}, "for somebody else"),
        ({"claims": {"exp": 1000}}, "expired"),
        ({"claims": {"exp": None}}, "exp"),
        ({"claims": {"iat": 99999999999}}, "not good"),
        ({"claims": {"nonce": "another"}}, "nonce"),
        ({"claims": {"nonce": None}}, "nonce"),
        ({"claims": {"sub": None}}, "sub"),
        ({"userinfo": {"sub": "another"}}, "about two people"),
        ({"userinfo": {"preferred_username": 7}}, "does not say"),
        ({"back": {"error": "access_denied"}}, "access_denied"),
        ({"back": {"iss": "https://evil.example"}}, "another provider"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_as_it_must_be_lets_nobody_in(
    same_desk: Desk, outside: Outside, lies: dict[str, Any], words: str
) -> None:
    outside.lie(**lies)
    said = login(same_desk, outside)
    assert said.status == 403, said.body
    assert words in said.body.decode()
    assert f"{COOKIE}=" not in said.headers["set-cookie"]
    assert [u.name for u in same_desk.run(same_desk.manager.people.users())] == ["anna"]


def test_a_new_key_of_the_provider_is_found(desk: Desk, outside: Outside) -> None:
    assert login(desk, outside).status == 200
    now = desk.manager.provider._wall()
    desk.manager.provider._wall = lambda: now + 120
    outside.lie(key="other", kid="other", jwks=["one", "other"])
    assert login(desk, outside).status == 200


def test_an_issuer_that_is_another_one(tmp_path: Path, outside: Outside) -> None:
    outside.lie(about={"issuer": "https://evil.example"})
    desk = desk_with(tmp_path, outside.settings())
    try:
        said = desk.call("GET", "/sign-in/provider")
        assert (said.status, "calls itself" in said.body.decode()) == (422, True)
        outside.lie(about={"token_endpoint": f"http://localhost:{outside.port}/token"})
        assert b"no https address" in desk.call("GET", "/sign-in/provider").body
    finally:
        desk.close()


def test_a_provider_that_is_away_keeps_no_local_user_out(tmp_path: Path, outside: Outside) -> None:
    stranger = outside.settings(ca="")  # whose certificate nobody here trusts
    gone = outside.settings(issuer=f"https://localhost:{free_port()}/realm")
    for n, settings in enumerate((stranger, gone)):
        desk = desk_with(tmp_path / str(n), settings)
        try:
            said = desk.call("GET", "/sign-in/provider")
            assert (said.status, b"does not answer as it should" in said.body) == (502, True)
            body = {"name": "anna", "password": "a good long one"}
            assert desk.call("POST", f"{V}/login", body).status == 200
        finally:
            desk.close()


def test_settings_that_are_none(outside: Outside) -> None:
    good = json.loads(Config(oidc=outside.settings()).model_dump_json())
    assert parse(Config, json.dumps(good)).oidc == outside.settings()
    for change in ({"issuer": "http://x"}, {"address": "manager"}, {"client_id": ""}, {"x": 1},
                   {"roles": [{"group": "a", "role": "king"}]}):  # fmt: skip
        with pytest.raises(BadField):
            parse(Config, json.dumps(good | {"oidc": good["oidc"] | change}))


def test_a_secret_that_others_can_read_is_not_used(desk: Desk, outside: Outside) -> None:
    outside.secret.chmod(0o644)
    try:
        said = login(desk, outside)
    finally:
        outside.secret.chmod(0o600)
    assert (said.status, b"can be read by others" in said.body) == (InvalidInput.status, True)
    assert b"with/signs" not in said.body
