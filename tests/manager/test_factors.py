"""Second factors: codes as RFC 6238 says, taken once, asked for where they are needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from calling import V
from desk import BOSS, Desk, Said

from outlast.cli.main import run
from outlast.errors import Conflict, Refused
from outlast.manager import totp
from outlast.manager.errors import TooOften
from outlast.manager.factors import RECOVERY_CODES, Factors
from outlast.manager.passwords import Guesses
from outlast.manager.ports import COOKIE, CSRF_HEADER, Grant
from outlast.manager.repository import entries, people, records
from outlast.manager.repository.store import Repository

RFC_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
WORD = "correct horse battery"


@pytest.mark.parametrize(
    ("wall_s", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"),
     (2000000000, "279037"), (20000000000, "353130")],
)  # fmt: skip
def test_the_vectors_of_the_rfc(wall_s: int, code: str) -> None:
    assert totp.code_of(RFC_SECRET, wall_s // 30) == code
    for late_s, good in ((-61, False), (-30, True), (0, True), (30, True), (61, False)):
        found = totp.step_of(RFC_SECRET, code, wall_s + late_s)
        assert (found == wall_s // 30) == good, late_s
    assert totp.step_of(RFC_SECRET, code, wall_s, after=wall_s // 30) is None


def test_the_address_for_apps_holds_names_as_values() -> None:
    at = urlsplit(totp.uri(RFC_SECRET, "a&secret=b/c d", "Out?last"))
    assert (at.scheme, at.netloc) == ("otpauth", "totp")
    assert unquote(at.path) == "/Out?last:a&secret=b/c d"
    assert parse_qs(at.query) == {"secret": [RFC_SECRET], "issuer": ["Out?last"]}


def secret_in(uri: str) -> str:
    return parse_qs(urlsplit(uri).query)["secret"][0]


def code_now(secret: str, later: int = 0) -> str:
    """later: steps; the one after now is good as well."""
    return totp.code_of(secret, int(time.time() // 30) + later)


# ---- the rules, on both databases


@pytest.fixture
def repository(database: str) -> Iterator[Repository]:
    made = Repository(database)
    made.migrate()
    made.write_now(lambda c: people.add_user(c, "anna", "hash", [Grant("admin")], 1.0))
    yield made
    made.close()


def test_a_code_is_taken_once_by_one_of_many(repository: Repository) -> None:
    at_s = [1_000_000.0]

    async def course() -> None:
        many = [Factors(repository, Guesses(lambda: 0.0), lambda: at_s[0]) for _ in range(4)]
        one = many[0]
        secret = secret_in(await one.begin("anna"))
        assert not (await one.of("anna")).on
        with pytest.raises(Refused, match="wrong"):  # it counts for nothing yet
            await one.check("anna", totp.code_of(secret, 33333), "x")
        code = totp.code_of(secret, int(at_s[0] // 30))
        codes = await one.confirm("anna", f"{code[:3]} {code[3:]}", "x")
        with pytest.raises(Conflict, match="has a second factor"):
            await one.begin("anna")
        with pytest.raises(Refused, match="used already"):  # as the first one, too
            await one.check("anna", code, "x")
        at_s[0] += 30
        code = totp.code_of(secret, int(at_s[0] // 30))
        tries = await asyncio.gather(
            *(f.check("anna", code, "x") for f in many), return_exceptions=True
        )
        assert sorted(isinstance(t, Refused) for t in tries) == [False, True, True, True]
        tries = await asyncio.gather(
            *(f.check("anna", codes[3].upper(), "x") for f in many), return_exceptions=True
        )
        assert sorted(isinstance(t, Refused) for t in tries) == [False, True, True, True]
        assert (await one.of("anna")).recovery_left == RECOVERY_CODES - 1 == 9
        kept = repository.read_now(lambda c: c.execute(entries.recovery_codes.select()).all())
        assert not {c for c in codes for row in kept if c in row.hash}

    asyncio.run(course())


def test_guessing_codes_is_slowed_down(repository: Repository) -> None:
    async def course() -> None:
        factors = Factors(repository, Guesses(lambda: 0.0), lambda: 1_000_000.0)
        secret = secret_in(await factors.begin("anna"))
        await factors.confirm("anna", totp.code_of(secret, 33333), "x")
        for _ in range(5):
            with pytest.raises(Refused, match="wrong"):
                await factors.check("anna", "000000", "x")
        with pytest.raises(TooOften):  # the right one, too
            await factors.check("anna", totp.code_of(secret, 33334), "x")

    asyncio.run(course())


# ---- over the API


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "manager")
    yield made
    made.close()


class Visitor:
    """Somebody with a browser: keeps the cookie and the form's token."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.cookie, self.csrf = desk, "", ""

    def post(self, path: str, body: object = None) -> Said:
        sent = {"cookie": f"{COOKIE}={self.cookie}", CSRF_HEADER: self.csrf}
        said = self.desk.call("POST", f"{V}{path}", body or {}, **sent)
        if "set-cookie" in said.headers:
            assert "HttpOnly; Path=/; SameSite=strict; Secure" in said.headers["set-cookie"]
            self.cookie = said.headers["set-cookie"].partition("=")[2].partition(";")[0]
            self.csrf = said.json.get("session", said.json)["csrf"]
        return said

    def get(self, path: str) -> Said:
        return self.desk.call("GET", f"{V}{path}", cookie=f"{COOKIE}={self.cookie}")

    def login(self, name: str) -> str:
        """The stage the login is at."""
        said = self.post("/login", {"name": name, "password": WORD})
        assert said.status == 200, said.body
        return str(said.json["stage"])


def new_user(desk: Desk, name: str, role: str = "viewer") -> Visitor:
    desk.run(desk.manager.people.add_user(BOSS, name, WORD, (Grant(role),)))
    return Visitor(desk)


def enrolled(visitor: Visitor, password: str = WORD) -> tuple[str, list[str]]:
    """The app's secret and the recovery codes of somebody who has just got a second factor."""
    begun = visitor.post("/me/second-factor", {"password": password})
    assert begun.status == 200, begun.body
    assert begun.json["svg"].startswith("data:image/svg+xml")
    secret = secret_in(begun.json["uri"])
    wrong = visitor.post("/me/second-factor/confirm", {"code": "12345"})
    assert wrong.status == 403
    said = visitor.post("/me/second-factor/confirm", {"code": code_now(secret)})
    assert said.status == 200, said.body
    return secret, said.json["recovery_codes"]


def test_a_login_of_two_steps(desk: Desk) -> None:
    anna, elsewhere = new_user(desk, "anna", "admin"), Visitor(desk)
    assert (anna.login("anna"), elsewhere.login("anna")) == ("", "")
    assert anna.post("/me/second-factor", {"password": "not this one"}).status == 403
    secret, codes = enrolled(anna)
    assert anna.get("/me").json["second_factor"] is True
    assert elsewhere.get("/me").status == 401  # all other sessions have ended
    assert elsewhere.login("anna") == "code"
    half = elsewhere.cookie
    for path in ("/me", "/pools", "/users"):
        assert elsewhere.get(path).status == 401
    assert elsewhere.post("/me/second-factor", {"password": WORD}).status == 401
    assert elsewhere.post("/login/code", {"code": code_now(secret)}).status == 403  # used
    elsewhere.csrf, kept = "", elsewhere.csrf
    assert elsewhere.post("/login/code", {"code": code_now(secret, 1)}).status == 403
    elsewhere.csrf = kept
    assert elsewhere.post("/login/code", {"code": code_now(secret, 1)}).json["stage"] == ""
    assert elsewhere.cookie != half
    assert elsewhere.get("/me").json["name"] == "anna"
    elsewhere.cookie = half  # which is nothing any more
    assert elsewhere.post("/login/code", {"code": codes[0]}).status in (403, 404)
    assert elsewhere.login("anna") == "code"
    assert elsewhere.post("/login/code", {"code": codes[0]}).status == 200
    assert elsewhere.get("/me").json["recovery_left"] == RECOVERY_CODES - 1
    said = elsewhere.post("/me/second-factor/remove", {"password": WORD, "code": codes[1]})
    assert said.status == 204
    assert anna.login("anna") == ""
    rows, _ = desk.run(desk.manager.repository.read(records.list_audit))
    told = [(row.action, row.ok, row.sentence) for row in reversed(rows)]
    assert ("login", True, "with a recovery code; 9 are left") in told
    assert ("login", False, "a wrong code") in told
    assert [row for row in told if row[0].startswith("factor")] == [
        ("factor-add", True, ""), ("factor-remove", True, ""),
    ]  # fmt: skip
    assert secret not in repr(rows)


def test_who_needs_one_gets_it_first(desk: Desk) -> None:
    anna = new_user(desk, "anna", "admin")
    bert = new_user(desk, "bert")
    assert anna.login("anna") == ""
    changed = desk.manager.people.change_user(BOSS, "bert", code_needed=True)
    assert desk.run(changed).code_needed
    assert bert.login("bert") == "enrol"
    assert bert.get("/me").status == 401
    enrolled(bert, password="")
    assert bert.get("/me").json["name"] == "bert"
    # it is needed, so it stays
    said = bert.post("/me/second-factor/remove", {"password": WORD, "code": "000000"})
    assert (said.status, "need" in said.error["sentence"]) == (403, True)
    # until an administrator takes it away, as app and codes are gone
    token = desk.user("root", Grant("admin"))
    listed = {u["name"]: u for u in desk.call("GET", f"{V}/users", token=token).json["items"]}
    assert (listed["bert"]["second_factor"], listed["anna"]["second_factor"]) == (True, False)
    assert desk.call("DELETE", f"{V}/users/bert/second-factor", token=token).status == 204
    assert desk.call("DELETE", f"{V}/users/bert/second-factor", token=token).status == 404
    assert bert.login("bert") == "enrol"
    assert desk.call("POST", f"{V}/me/second-factor", {}, token=token).status == 403


@pytest.mark.parametrize(("policy", "stages"), [("admins", ["enrol", ""]),
                                                ("everybody", ["enrol", "enrol"])])  # fmt: skip
def test_the_policy_of_a_manager(tmp_path: Path, policy: str, stages: list[str]) -> None:
    desk = Desk(tmp_path, second_factor=policy)
    try:
        first, code = Visitor(desk), desk.run(desk.manager.people.new_code())
        said = first.post("/set-up", {"code": code, "name": "root", "password": WORD})
        assert (said.status, said.json["stage"]) == (200, "enrol")
        assert first.get("/me").status == 401
        anna, bert = new_user(desk, "anna", "admin"), new_user(desk, "bert")
        assert [anna.login("anna"), bert.login("bert")] == stages
    finally:
        desk.close()


def test_half_a_session_ends_soon(desk: Desk) -> None:
    anna = new_user(desk, "anna", "admin")
    anna.login("anna")
    secret, _ = enrolled(anna)
    assert anna.login("anna") == "code"
    now = time.time()
    desk.manager.people._wall = lambda: now + 601
    said = anna.post("/login/code", {"code": code_now(secret, 1)})
    assert (said.status, said.error["code"]) == (403, "refused")


# ---- with commands


class Typed:
    """What a person types: a line that is made when it is asked for."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def readline(self) -> str:
        return self._make() + "\n"

    def isatty(self) -> bool:
        return False


def test_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("ETC", "VAR"):
        monkeypatch.setenv(f"OUTLAST_{name}", str(tmp_path / name))
    repository = Repository(f"sqlite:///{tmp_path}/VAR/manager/manager.db")

    def secret() -> str:
        row = repository.read_now(lambda c: entries.factor(c, "anna"))
        assert row is not None
        return row.secret

    def say(*arguments: str, typed: Callable[[], str] = lambda: "1", code: int = 0) -> str:
        monkeypatch.setattr("sys.stdin", Typed(typed))
        with pytest.raises(SystemExit) as ended:
            run(["manager", *arguments])
        assert (ended.value.code or 0) == code
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return err if code else out + err

    say("user", "add", "anna", "--role", "admin", typed=lambda: WORD)
    assert "no user" in say("factor", "add", "nobody", code=3)
    assert "wrong" in say("factor", "add", "anna", code=10)
    first = secret()
    say("factor", "need", "anna")
    assert "second factor" not in say("user", "list")
    told = say("factor", "add", "anna", typed=lambda: code_now(secret()))
    assert first != secret()
    assert totp.uri(secret(), "anna", "Outlast") in told
    assert len([line for line in told.splitlines() if line.count("-") == 4]) == RECOVERY_CODES
    assert "anna  admin  (second factor)" in say("user", "list")
    assert "has no second factor any more" in say("factor", "remove", "anna")
    assert "has no second factor" in say("factor", "remove", "anna", code=3)
    assert "signed in nowhere" in say("user", "sessions", "anna")
    row = entries.SessionRow("anna", "csrf", "10.1.1.9", 1.0, time.time() + 99)
    repository.write_now(lambda c: entries.add_session(c, "0" * 64, row))
    assert "from 10.1.1.9" in say("user", "sessions", "anna")
    assert "1 session of anna ended" in say("user", "sessions", "anna", "--end")
    assert "signed in nowhere" in say("user", "sessions", "anna")
    assert "no user" in say("user", "sessions", "nobody", "--end", code=3)
    repository.close()
