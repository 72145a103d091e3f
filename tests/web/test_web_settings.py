"""The page of the manager's settings: what it shows, what its forms do, what it never shows."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk
from test_mail import Office
from test_pages import check_page
from test_web_live import Stream
from test_webhooks import Receiver

from conftest import Site, made
from outlast.manager.config import make_certificate
from outlast.manager.repository import hooks


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, Office]]:
    office = Office(tmp_path / "office", "none")
    plain = Desk.__init__
    monkeypatch.setattr(
        Desk, "__init__", lambda self, root: plain(self, root, mail=office.settings())
    )
    found = made(tmp_path / "site")
    make_certificate(found.desk.place.var / "tls", ["manager"])
    yield found, office
    found.close()
    office.close()


def told(said: object) -> str:
    """What the page says came of it."""
    text = check_page(said, "/settings")  # type: ignore[arg-type]
    note = re.search(r'role="(?:status|alert)"[^>]*>.*?</strong>(.*?)</div>', text, re.S)
    assert note, text
    return html.unescape(re.sub(r"<[^>]+>", "", note[0].partition(">")[2]))


def test_the_page_says_what_is_set_and_where(site: tuple[Site, Office]) -> None:
    found, office = site
    page = check_page(found.get("/settings"), "/settings")
    assert office.settings().server in page
    for words in ("this one, it leads", "days left", "0.1.0", "manager.json", "sqlite3"):
        assert words in page
    assert page.count("<dt>To the hosts of") == 2


def test_how_long_things_are_kept_is_changed_here(site: tuple[Site, Office]) -> None:
    found, _ = site
    days = {"events_days": "365", "tasks_days": "", "metrics_days": ""}
    assert found.post("/settings", days).status == 303
    page = found.get("/settings").body.decode()
    assert re.search(r'name="events_days"[^>]*value="365"[^>]*365 \(database\)', page)
    for wrong in ("0", "many", "-3", "1e3", "9999999"):
        said = found.post("/settings", days | {"tasks_days": wrong})
        assert said.status == 422
        assert "tasks_days" in told(said)
        assert f'value="{wrong}"' in said.body.decode(), "it stays as it was typed"
    assert found.post("/settings", days, "otto").status == 403


def test_a_mail_is_tried(site: tuple[Site, Office]) -> None:
    found, office = site
    assert "took it" in told(found.post("/settings/try/mail", {"to": "ops@corp.example"}))
    assert office.got[0][0] == ["ops@corp.example"]
    office.answer = "550 no <such> one"
    said = found.post("/settings/try/mail", {"to": "ops@corp.example"})
    assert said.status == 409
    assert "550 no <such> one" in told(said)
    assert found.post("/settings/try/oidc", {}).status == 409


def test_webhooks_come_and_go(site: tuple[Site, Office]) -> None:
    found, _ = site
    receiver = Receiver()
    try:
        said = found.post("/settings/webhooks", {"url": receiver.url, "codes": "vm-, host-"})
        assert "gets what happens from now on" in told(said)
        hook = found.run(found.manager.repository.read(hooks.all_hooks))[0]  # type: ignore[index]
        assert hook.codes == ("vm-", "host-")
        assert hook.secret in said.body.decode()
        assert hook.secret not in found.get("/settings").body.decode(), "shown once"
        assert "Delivered" in told(found.post(f"/settings/webhooks/{hook.id}/test"))
        assert len(receiver.got) == 1
        receiver.status = 500
        refused = found.post(f"/settings/webhooks/{hook.id}/test")
        assert (refused.status, "500" in told(refused)) == (422, True)
        assert found.post(f"/settings/webhooks/{hook.id}/remove").status == 303
        assert found.run(found.manager.repository.read(hooks.all_hooks)) == []
        for url in ("ftp://x", "https://user:word@x/"):
            assert found.post("/settings/webhooks", {"url": url}).status == 422
        assert found.post("/settings/webhooks/none/test").status == 404
    finally:
        receiver.close()


def test_what_changes_by_itself_is_live(site: tuple[Site, Office]) -> None:
    found, _ = site
    stream = Stream(found, "page=settings")
    assert found.post("/settings/webhooks", {"url": "https://hooks.example/new"}).status == 200
    end = time.monotonic() + 20
    while "hooks.example/new" not in (said := stream.next()):
        assert time.monotonic() < end, said
    assert 'name="url"' not in said, "what somebody types is not replaced"
    stream.close()
    assert found.get("/live?page=settings", "otto").status == 403
