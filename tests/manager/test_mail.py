"""Events as mail, to a real SMTP server: TLS, passwords, refusals, retries in the same log."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from calling import V
from desk import Desk
from process import free_port

from outlast.errors import InvalidInput
from outlast.manager.config import Config, make_certificate
from outlast.manager.mail import SUBJECT_MAX, message
from outlast.manager.outside import Mail
from outlast.manager.ports import Grant
from outlast.manager.repository import hooks, records
from outlast.manager.repository.hooks import Delivery, Due, Part
from outlast.manager.repository.store import Repository
from outlast.manager.tones import TONES
from outlast.manager.webhooks import EVERY_S, GATHER_S, REST_S, Webhooks, new_hook
from outlast.pool.journal import SENTENCES
from outlast.wire.shapes import BadField, TimelineEntry, parse

WORD = "takes the mail"
TO = "mailto:ops@corp.example"


class Office:
    """A mail server on loopback; keeps what it got. `answer` "" takes everything."""

    def __init__(self, root: Path, kind: str) -> None:
        make_certificate(root, ["localhost"])
        self.root, self.kind, self.answer = root, kind, ""
        self.got: list[tuple[list[str], EmailMessage]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(root / "cert.pem", root / "cert.key")
        self.word = root / "word"
        self.word.write_text(WORD)
        self.word.chmod(0o600)
        more: dict[str, Any] = {}
        if kind == "tls":
            more = {"ssl_context": context}
        elif kind == "starttls":
            more = {"tls_context": context, "require_starttls": True}
        if kind != "none":
            more |= {"authenticator": self._known, "auth_required": True,
                     "auth_require_tls": kind == "starttls"}  # fmt: skip
        self._controller = Controller(
            self, hostname="localhost", port=free_port(), ready_timeout=60, **more
        )
        self._controller.start()

    def _known(self, server: Any, session: Any, envelope: Any, kind: str, data: Any) -> AuthResult:
        good = (data.login, data.password) == (b"outlast", WORD.encode())
        return AuthResult(success=good, handled=good)

    async def handle_RCPT(self, _s: Any, _n: Any, envelope: Any, address: str, _o: Any) -> str:
        if self.answer:
            return self.answer
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        read = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(read, EmailMessage)
        self.got.append((envelope.rcpt_tos, read))
        return "250 taken"

    def settings(self, **more: Any) -> Mail:
        known = {
            "server": f"localhost:{self._controller.port}", "security": self.kind,
            "ca": str(self.root / "cert.pem"), "sender": "Outlast <outlast@corp.example>",
        }  # fmt: skip
        if self.kind != "none":
            known |= {"user": "outlast", "password_file": str(self.word)}
        return Mail(**(known | more))

    def close(self) -> None:
        self._controller.stop()


@pytest.fixture(params=["starttls", "tls", "none"])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "office", request.param)
    yield made
    made.close()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    made = Repository(f"sqlite:///{tmp_path}/manager.db")
    made.migrate()
    made.write_now(lambda c: records.put_pool(c, "p", "Frankfurt ä", [], 1.0))
    made.write_now(lambda c: hooks.add_hook(c, new_hook(TO, ("vm-",), 1.0)))
    entry = TimelineEntry(
        wall_s=1e9, host="a1", code="vm-crashed", sentence="db is down:\r\nBcc: x@evil.example",
        id="n1", fields={"vm": "db", "why": "no room"},
    )  # fmt: skip
    made.write_now(lambda c: records.add_events(c, "p", [entry]))
    yield made
    made.close()


def log_of(repository: Repository) -> Delivery:
    (hook,) = repository.read_now(hooks.all_hooks)
    ((one,), _) = repository.read_now(lambda c: hooks.list_deliveries(c, hook.id, 0, 100))
    return one


def test_an_event_is_a_mail_that_people_can_read(office: Office, repository: Repository) -> None:
    mail = Webhooks(repository, mail=office.settings())
    assert asyncio.run(mail.round()) == 1
    assert asyncio.run(mail.round()) == 0
    ((to, got),) = office.got
    assert to == ["ops@corp.example"]
    assert got["Subject"] == "[Frankfurt ä] db is down:  Bcc: x@evil.example"
    assert (got["To"], got["From"]) == ("ops@corp.example", "Outlast <outlast@corp.example>")
    assert got["Bcc"] is None
    assert got.get_content_type() == "text/plain"
    body = got.get_content().splitlines()
    assert {"Pool: Frankfurt ä", "Host: a1", "VM: db", "When: 2001-09-09 01:46:40 UTC",
            "why: no room"} <= set(body)  # fmt: skip
    done = log_of(repository)
    assert (done.status, done.next_wall_s, done.sentence) == (250, 0, "the mail server took it")


def test_what_the_server_refuses_is_tried_again(office: Office, repository: Repository) -> None:
    now = [1000.0]
    mail = Webhooks(repository, lambda: now[0], mail=office.settings())
    office.answer = "451 come back later"
    asyncio.run(mail.round())
    tried = log_of(repository)
    assert (tried.tries, tried.status, tried.next_wall_s) == (1, 451, 1010.0)
    assert "451 come back later" in tried.sentence
    office.answer, now[0] = "", 1010.0
    asyncio.run(mail.round())
    assert (log_of(repository).tries, log_of(repository).status) == (2, 250)
    assert len(office.got) == 1


@pytest.mark.parametrize("kind", ["starttls", "tls"])
def test_nothing_is_said_without_tls_and_the_right_password(
    tmp_path: Path, repository: Repository, kind: str
) -> None:
    office, plain = Office(tmp_path / "office", kind), Office(tmp_path / "plain", "none")
    wrong = tmp_path / "wrong"
    wrong.write_text("not this one")
    wrong.chmod(0o600)
    now = [1000.0]
    try:
        for settings, words in (
            (office.settings(ca=""), "certificate verify failed"),
            (office.settings(password_file=str(wrong)), "535"),
            (office.settings(password_file=str(tmp_path / "none")), "cannot be read"),
            (office.settings(server=f"localhost:{free_port()}"), "refused"),
            (office.settings(server=plain.settings().server), "cannot be used"),
            (None, "knows no mail server"),
        ):
            asyncio.run(Webhooks(repository, lambda: now[0], mail=settings).round())
            now[0] = log_of(repository).next_wall_s
            assert words in log_of(repository).sentence
            assert "not this one" not in log_of(repository).sentence
        assert office.got == plain.got == []
    finally:
        office.close()
        plain.close()


def test_a_subject_has_an_end() -> None:
    body = json.dumps({"wall_s": 1.0, "pool_id": "p", "sentence": "x" * 4000, "code": "no-room"})
    parts = [Part(Delivery(n, "h", n, 1, 0, 0, ""), body) for n in (7, 8, 9)]
    for number, span, end in ((1, "7", "xx"), (3, "7-9", " (and 2 more)")):
        due = Due("h", TO, "", tuple(parts[:number]))
        made = message(due, Mail(server="x", sender="a@b.example"), 0.0)
        assert len(made["Subject"]) == SUBJECT_MAX
        assert made["Subject"].endswith(end)
        assert made["Message-ID"] == f"<{span}.h@outlast.invalid>"


class Day:
    """A mail server, a pool in which things happen, and a clock."""

    def __init__(self, office: Office, repository: Repository) -> None:
        self.now_s, self.count, self.office, self.repository = 1000.0, 0, office, repository
        self.mail = Webhooks(repository, lambda: self.now_s, mail=office.settings())
        self.hook = repository.read_now(hooks.all_hooks)[0].id
        self.run()
        self.office.got.clear()

    def happens(self, code: str, times: int = 1) -> None:
        entries = [
            TimelineEntry(
                wall_s=self.now_s, host="a1", code=code, sentence=f"{code} {n}", id=f"day{n}",
                fields={},
            )
            for n in range(self.count, self.count + times)
        ]  # fmt: skip
        self.count += times
        self.repository.write_now(lambda c: records.add_events(c, "p", entries))

    def run(self, seconds: float = 0) -> list[str]:
        """Rounds as often as a manager makes them; the subjects of what came."""
        before, end_s = len(self.office.got), self.now_s + seconds
        while True:
            asyncio.run(self.mail.round())
            if self.now_s >= end_s:
                return [str(read["Subject"]) for _, read in self.office.got[before:]]
            self.now_s += EVERY_S

    def tries(self) -> list[tuple[int, int, bool]]:
        log, _ = self.repository.read_now(lambda c: hooks.list_deliveries(c, self.hook, 0, 5000))
        return [(one.tries, one.status, one.next_wall_s > 0) for one in log]


@pytest.fixture
def day(tmp_path: Path, repository: Repository) -> Iterator[Day]:
    office = Office(tmp_path / "office", "none")
    made = Day(office, repository)
    made.now_s += REST_S
    yield made
    office.close()


def test_what_is_not_grave_waits_and_comes_together(day: Day) -> None:
    day.happens("vm-runs", 3)
    assert day.run(GATHER_S - 2 * EVERY_S) == []
    day.happens("vm-moved")  # waits no longer than the first
    assert day.run(2 * EVERY_S) == ["[Frankfurt ä] vm-runs 0 (and 3 more)"]
    lines = day.office.got[-1][1].get_content().splitlines()
    assert lines[0] == "4 events; what wants a look is marked with !"
    assert lines[2] == "Frankfurt ä"
    assert [line.split("UTC")[1] for line in lines[3:] if "UTC" in line] == [
        "    vm-runs 0", "    vm-runs 1", "    vm-runs 2", "    vm-moved 3",
    ]  # fmt: skip


def test_what_is_grave_comes_at_once_and_takes_the_rest_along(day: Day) -> None:
    day.happens("vm-runs", 2)
    assert day.run(20) == []
    day.happens("vm-crashed")
    assert day.run() == ["[Frankfurt ä] vm-crashed 2 (and 2 more)"]
    assert "UTC  ! vm-crashed 2" in day.office.got[-1][1].get_content()
    assert day.run(2 * GATHER_S) == []
    assert day.tries() == [(1, 250, False)] * 4


def test_a_storm_of_events_is_no_storm_of_mails(day: Day) -> None:
    """Twenty seconds in which 1,000 VMs die."""
    for _ in range(10):
        day.happens("vm-crashed", 100)
        day.run(EVERY_S)
    day.run(2 * REST_S)
    assert len(day.office.got) == 2
    assert day.tries() == [(1, 250, False)] * 1001
    told = [line for _, read in day.office.got for line in read.get_content().splitlines()]
    assert [line.split("! ")[1] for line in told if "UTC" in line] == [
        f"vm-crashed {n}" for n in range(1000)
    ]


def test_a_storm_while_the_mail_server_is_away_is_not_lost(day: Day) -> None:
    day.office.answer = "451 come back later"
    day.happens("vm-crashed", 200)
    day.run(100)
    assert max(tries for tries, _, _ in day.tries()) == 3  # at 0, 10 and 40 s: not each round
    day.office.answer = ""
    assert day.run(200) == ["[Frankfurt ä] vm-crashed 0 (and 199 more)"]


def test_tones_are_of_notes_that_there_are() -> None:
    said = [code for codes in TONES.values() for code in codes]
    assert sorted(said) == sorted(set(said))
    assert [code for code in said if code not in SENTENCES] == []


@pytest.mark.parametrize(
    "url", ["mailto:", "mailto:x", "mailto:a@b?cc=c@d.example", "mailto:a@b,c@d", "mailto:a b@c",
            "mailto:a@b\r\nBcc: c@d", "mailto:é@b"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidInput):
        new_hook(url, (), 1.0)


def test_settings_that_are_none() -> None:
    for mail in ({"server": "x"}, {"server": "x", "sender": "a@b", "security": "maybe"},
                 {"server": "x", "sender": "a@b", "security": "none", "user": "a"}):  # fmt: skip
        with pytest.raises(BadField):
            parse(Config, json.dumps({"mail": mail}))


def test_over_the_api(tmp_path: Path) -> None:
    office, root = Office(tmp_path / "office", "starttls"), tmp_path / "manager"
    desk, without = Desk(root / "a", mail=office.settings()), Desk(root / "b")
    try:
        token = desk.user("anna", Grant("admin"))
        made = desk.call("POST", f"{V}/webhooks", {"url": TO}, token=token)
        assert (made.status, made.json["secret"]) == (201, "")
        tried = desk.call("POST", f"{V}/webhooks/{made.json['id']}/test", token=token).json
        assert tried == {"status": 250, "sentence": "the mail server took it"}
        assert office.got[0][1]["Subject"] == "[test] this is a test"
        said = without.call(
            "POST", f"{V}/webhooks", {"url": TO}, token=without.user("bert", Grant("admin"))
        )
        assert (said.status, "no mail server" in said.error["sentence"]) == (409, True)
    finally:
        desk.close()
        without.close()
        office.close()
