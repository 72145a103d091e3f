"""Pages about people: users, their sessions, one's own tokens and password, the audit."""

from __future__ import annotations

import csv
import re

import pytest
from desk import BOSS
from test_pages import POOL, check_page, text

from conftest import PASSWORD, Site
from outlast.manager.ports import COOKIE, Grant


@pytest.mark.parametrize(("path", "form", "field"), [
    ("/users", {"name": "Zoe!", "password": PASSWORD, "role": "viewer"}, "name"),
    ("/users", {"name": "zoe", "password": "short", "role": "viewer"}, "password"),
    ("/me/tokens", {"name": "ci", "role": "viewer", "days": "many"}, "days"),
    ("/me/tokens", {"name": "CI!", "role": "viewer"}, "name"),
    ("/me/password", {"old": PASSWORD, "new": "longer than it", "again": "other"}, "again"),
    ("/me/password", {"old": PASSWORD, "new": "short", "again": "short"}, "new"),
    ("/settings", {"events_days": "x"}, "events_days"),
    ("/settings", {"events_days": "0"}, "events_days"),
    ("/settings/webhooks", {"url": "nowhere"}, "url"),
    ("/settings/webhooks", {"url": "https://x.example/", "codes": "vm-*"}, "codes"),
])  # fmt: skip
def test_a_form_says_which_field_is_at_fault(
    site: Site, path: str, form: dict[str, str], field: str
) -> None:
    said = site.post(path, form)
    page = check_page(said, path)
    assert said.status == 422 and 'id="wrong"' in page
    wrong = re.findall(r'name="(\w+)" aria-invalid="true" aria-describedby="wrong"', page)
    assert wrong == [field]


def test_users_are_added_changed_and_the_last_administrator_stays(own_site: Site) -> None:
    new = {"name": "nils", "password": PASSWORD, "role": "operator", "pool": POOL}
    assert own_site.post("/users", new).status == 303
    assert "operator on frankfurt-a" in text(own_site.get("/users"))
    again = own_site.post("/users", new)
    assert again.status == 409 and 'value="nils"' in text(again) and PASSWORD not in text(again)
    assert own_site.post("/users/nils/change", {"wish": "off"}).status == 303
    assert "Switched off" in text(own_site.get("/users"))
    for wish in ("off", "remove"):
        said = own_site.post("/users/anna/change", {"wish": wish})
        assert said.status == 409 and 'role="alert"' in text(said)
    assert own_site.post("/users/nils/change", {"wish": "remove"}).status == 303
    assert "nils" not in text(own_site.get("/users"))


def test_a_token_is_shown_once(own_site: Site) -> None:
    made = {"name": "ci", "role": "viewer", "days": "5"}
    said = own_site.post("/me/tokens", made, who="vera")
    token = re.search(r"olt_[\w-]+", text(said))
    assert token is not None
    assert token[0] not in text(own_site.get("/me", who="vera"))
    assert own_site.desk.call("GET", "/api/v1/me", token=token[0]).status == 200
    more = own_site.post("/me/tokens", made | {"role": "admin"}, who="vera")
    assert more.status == 403 and "olt_" not in text(more)
    row = re.search(r"/me/tokens/(\w+)/remove", text(own_site.get("/me", who="vera")))
    assert row is not None
    assert own_site.post(f"/me/tokens/{row[1]}/remove", who="otto").status == 404
    assert own_site.post(f"/me/tokens/{row[1]}/remove", who="vera").status == 303
    assert own_site.desk.call("GET", "/api/v1/me", token=token[0]).status == 401


def test_a_password_is_changed_and_ends_all_sessions(own_site: Site) -> None:
    new = {"old": PASSWORD, "new": "another long one", "again": "another long one"}
    for bad in ({"old": "wrong"}, {"again": "different"}, {"new": "short", "again": "short"}):
        assert own_site.post("/me/password", new | bad, who="vera").status in (403, 422)
    assert own_site.post("/me/password", new, who="vera").status == 303
    assert own_site.get("/", who="vera").headers["location"].startswith("/sign-in")


def test_signing_out_ends_the_session(own_site: Site) -> None:
    own_site.person("gone", Grant("viewer"))
    assert own_site.post("/sign-out", who="gone").status == 303
    assert own_site.get("/", who="gone").status == 303


def test_one_session_of_ones_own_is_ended(own_site: Site) -> None:
    """Another browser's; not this one, and nobody else's."""
    first = own_site._cookies.pop("anna")
    own_site.person("anna")  # signs in once more
    page = text(own_site.get("/me"))
    (other,) = re.findall(r"/me/sessions/(\w+)/end", page)
    assert "this one" in page
    assert own_site.post(f"/me/sessions/{other}/end", who="otto").status == 404
    assert own_site.post(f"/me/sessions/{other}/end").status == 303
    assert own_site.desk.call("GET", "/me", raw=b"", cookie=f"{COOKIE}={first[0]}").status == 303
    assert own_site.get("/me").status == 200
    assert own_site.post(f"/me/sessions/{other}/end").status == 404
    assert "session-end" in text(own_site.get("/audit?action=session-end"))


def test_an_administrator_ends_sessions_of_others(own_site: Site) -> None:
    page = check_page(own_site.get("/users"), "/users")
    (other,) = re.findall(r'action="(/users/otto/sessions/\w+/end)"', page)
    assert "/users/anna/sessions/" not in page and "outlast manager user sessions otto" in page
    assert own_site.post(other, who="otto").status == 403
    assert own_site.get("/me", who="otto").status == 200
    assert own_site.post(other).status == 303
    assert own_site.get("/me", who="otto").status == 303
    again = own_site.post(other)
    assert again.status == 404 and "has ended already" in check_page(again, "/users")
    line = text(own_site.get("/audit?action=session-end"))
    assert "otto" in line and "anna" in line


def test_the_audit_is_taken_along(own_site: Site) -> None:
    own_site.post("/users", {"name": "zoe", "password": "a long enough one", "role": "viewer"})
    said = own_site.get("/audit/export?action=user-add")
    assert said.headers["content-type"].startswith("text/csv")
    head, *lines = csv.reader(text(said).splitlines())
    assert head[:4] == ["at", "wall_s", "who", "address"]
    assert [lines[0][head.index(n)] for n in ("who", "action", "object")] == [
        "anna",
        "user-add",
        "zoe",
    ]
    run = own_site.manager.people.audit
    own_site.run(run(BOSS, "stop", "=cmd()", sentence="@x"))
    told = text(own_site.get("/audit/export?action=stop"))
    assert "'=cmd()" in told and "'@x" in told, "no formula for a spreadsheet"
