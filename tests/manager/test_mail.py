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
from outlast.manager.repository.hooks import Delivery, Due
from outlast.manager.repository.store import Repository
from outlast.manager.webhooks import Webhooks, new_hook
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
        wall_s=1e9, host="a1", code="vm-down", sentence="db is down:\r\nBcc: x@evil.example",
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
    body = json.dumps({"id": 7, "pool_id": "p", "sentence": "x" * 4000, "code": "vm-down"})
    due = Due(Delivery(1, "h", 7, 1, 0, 0, ""), TO, "", body)
    made = message(due, Mail(server="x", sender="a@b.example"), 0.0)
    assert len(made["Subject"]) == SUBJECT_MAX
    assert made["Message-ID"] == "<7.h@outlast.invalid>"


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
