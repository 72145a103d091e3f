"""The pages of a second factor: got before anything else, asked for at the door, taken away."""

from __future__ import annotations

import re
import time
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

from desk import BOSS, Said

from conftest import FORM, PASSWORD, Site
from outlast.manager import totp
from outlast.manager.ports import COOKIE, Grant


class Browser:
    """Keeps the cookie and the token of the form that was shown last."""

    def __init__(self, site: Site) -> None:
        self.site, self.cookie, self.csrf = site, "", ""

    def get(self, path: str) -> Said:
        return self._kept(self.site.desk.call("GET", path, cookie=f"{COOKIE}={self.cookie}"))

    def post(self, path: str, **form: str) -> Said:
        raw = urlencode({"csrf": self.csrf} | form).encode()
        headers = {"cookie": f"{COOKIE}={self.cookie}", "content-type": FORM}
        return self._kept(self.site.desk.call("POST", path, raw=raw, **headers))

    def _kept(self, said: Said) -> Said:
        if (cookie := said.headers.get("set-cookie", "")).startswith(COOKIE):
            self.cookie = cookie.partition("=")[2].partition(";")[0]
        if found := re.search(r'name="csrf" value="([^"]+)"', said.body.decode()):
            self.csrf = found[1]
        return said


def secret_on(page: str) -> str:
    found = re.search(r"otpauth://[^<\"]+", page)
    assert found, page
    return parse_qs(urlsplit(unescape(found[0])).query)["secret"][0]


def code_now(secret: str, later: int = 0) -> str:
    return totp.code_of(secret, int(time.time() // 30) + later)


def test_it_is_got_before_anything_else_and_asked_for_from_then_on(own_site: Site) -> None:
    people = own_site.manager.people
    own_site.run(people.add_user(BOSS, "zoe", PASSWORD, (Grant("viewer"),)))
    own_site.run(people.change_user(BOSS, "zoe", code_needed=True))
    zoe = Browser(own_site)
    said = zoe.post("/sign-in", name="zoe", password=PASSWORD, next="/vms")
    assert (said.status, said.headers["location"]) == (303, "/me/factor")
    assert zoe.get("/vms").headers["location"].startswith("/sign-in")
    assert "You need one here" in zoe.get("/me/factor").body.decode()
    page = zoe.post("/me/factor").body.decode()
    assert '<img src="data:image/svg+xml' in page
    wrong = zoe.post("/me/factor/confirm", code="000")
    assert wrong.status == 403
    assert secret_on(wrong.body.decode()) == secret_on(page)
    done = zoe.post("/me/factor/confirm", code=code_now(secret_on(page)))
    codes = re.findall(r"<li>([0-9a-f-]{24})</li>", done.body.decode())
    assert len(codes) == 10
    assert zoe.get("/vms").status == 200
    assert zoe.get("/me/factor").headers["location"] == "/me"

    again = Browser(own_site)
    said = again.post("/sign-in", name="zoe", password=PASSWORD, next="/vms")
    assert said.headers["location"] == "/sign-in/code?next=%2Fvms"
    assert again.get("/vms").status == 303
    again.get(said.headers["location"])
    wrong = again.post("/sign-in/code", code="000000", next="/vms")
    assert (wrong.status, "wrong or was used" in wrong.body.decode()) == (403, True)
    kept, again.csrf = again.csrf, "none"
    assert again.post("/sign-in/code", code=codes[0]).status == 403
    again.csrf = kept
    said = again.post("/sign-in/code", code=codes[0], next="/vms")
    assert (said.status, said.headers["location"]) == (303, "/vms")
    assert "9 recovery codes are left" in again.get("/me").body.decode()
    refused = again.post("/me/factor/remove", password=PASSWORD, code=codes[1])
    assert refused.status == 403  # it is needed


def test_an_administrator_sees_who_has_one_and_takes_it_away(own_site: Site) -> None:
    people = own_site.manager.people
    own_site.run(people.add_user(BOSS, "zoe", PASSWORD, (Grant("viewer"),)))
    assert own_site.post("/users/zoe/change", {"wish": "need"}).status == 303
    assert "Needs a second factor</span>" in own_site.get("/users").body.decode()
    assert own_site.post("/users/zoe/change", {"wish": "need-not"}).status == 303
    zoe = Browser(own_site)
    zoe.post("/sign-in", name="zoe", password=PASSWORD)
    zoe.get("/me/factor")
    page = zoe.post("/me/factor", password=PASSWORD).body.decode()
    zoe.post("/me/factor/confirm", code=code_now(secret_on(page)))
    assert "Second factor</span>" in own_site.get("/users").body.decode()
    assert own_site.post("/users/zoe/change", {"wish": "factor"}).status == 303
    assert "Second factor</span>" not in own_site.get("/users").body.decode()
    said = Browser(own_site).post("/sign-in", name="zoe", password=PASSWORD)
    assert said.headers["location"] == "/"
