"""The serial console through the manager: real agents, real TLS, tickets that are good once."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import wait
from desk import Desk
from pretend import RealPool
from qemu_screen import QEMU, QemuScreen

from conftest import Site
from outlast.manager.ports import COOKIE, Grant
from outlast.manager.repository import records
from outlast.manager.web.tunnel import TICKET_S, Tickets
from outlast.wire.client import AgentClient
from outlast.wire.shapes import VmCreate, make


class Line:
    """A web socket to the application, on its loop."""

    def __init__(self, desk: Desk, app: Any, ticket: str, **headers: str) -> None:
        self.desk = desk
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.got: asyncio.Queue[Any] = asyncio.Queue()
        known = {"host": "manager", "origin": "https://manager"} | headers
        scope = {
            "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1",
            "scheme": "wss", "path": "/console", "raw_path": b"/console", "root_path": "",
            "query_string": f"ticket={ticket}".encode(), "client": ("10.1.1.1", 1),
            "server": ("manager", 443), "subprotocols": [],
            "headers": [(k.encode(), v.encode()) for k, v in known.items()],
        }  # fmt: skip
        self.sent.put_nowait({"type": "websocket.connect"})

        async def begin() -> Any:
            return asyncio.ensure_future(app(scope, self.sent.get, self.got.put))

        self.running = desk.run(begin())

    def next(self) -> Any:
        return self.desk.run(asyncio.wait_for(self.got.get(), 8))

    def until(self, words: bytes) -> None:
        seen = b""
        while words not in seen:
            message = self.next()
            assert message["type"] == "websocket.send", message
            seen += message.get("bytes") or b""

    def read(self, count: int) -> bytes:
        seen = b""
        while len(seen) < count:
            seen += self.next()["bytes"]
        return seen

    def type(self, data: bytes) -> None:
        self.desk.run(self.sent.put({"type": "websocket.receive", "bytes": data}))

    def hang_up(self) -> None:
        async def end() -> None:
            await self.sent.put({"type": "websocket.disconnect", "code": 1000})
            await asyncio.wait([self.running], timeout=5)

        self.desk.run(end())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, RealPool]]:
    """A manager with pages and a real pool, in which `web` runs."""
    root: Path = tmp_path_factory.mktemp("console")
    real = RealPool(root)
    site = Site(root / "manager", pretend=False)
    site.desk.follow(real.link("a"))
    AgentClient(real.url("a"), pki=real.pki).create(make(VmCreate, name="web", memory="512MiB"))
    AgentClient(real.url("a"), pki=real.pki).start("web")
    wait(lambda: "web" in [v.name for v in site.manager.reads.pool(real.id).status.vms])
    yield site, real
    site.close()
    real.close()


def ticket(site: Site, real: RealPool, who: str = "anna") -> Any:
    return site.post(f"/pools/{real.id}/vms/web/console", {}, who)


def cookie(site: Site, who: str = "anna") -> str:
    return f"{COOKIE}={site.person(who)[0]}"


def test_keys_go_there_and_the_line_comes_back(place: tuple[Site, RealPool]) -> None:
    site, real = place
    site.person("anna", Grant("admin"))
    said = ticket(site, real)
    assert said.status == 200 and len(said.body) > 24
    line = Line(site.desk, site.app, said.body.decode(), cookie=cookie(site))
    assert line.next()["type"] == "websocket.accept"
    line.until(b"welcome to web")
    line.type(b"hello")
    line.until(b"HELLO")
    line.hang_up()
    rows, _ = site.run(
        site.manager.repository.read(lambda c: records.list_audit(c, action="console"))
    )
    assert [(r.who, r.object, r.address) for r in rows] == [
        ("anna", f"{real.id}/web", "10.1.1.1")
    ] * 2
    assert rows[1].sentence == "console opened" and "the browser ended it" in rows[0].sentence


@pytest.mark.skipif(QEMU is None, reason="apt-get install qemu-system-x86")
def test_a_screen_is_that_of_the_vms_qemu(place: tuple[Site, RealPool]) -> None:
    """RFB by hand, from the browser's web socket to a real QEMU: version, no password, its size."""
    site, real = place
    site.person("anna", Grant("admin"))
    qemu = QemuScreen(real.a.screen)
    try:
        word = site.post(f"/pools/{real.id}/vms/web/screen").body.decode()
        line = Line(site.desk, site.app, word, cookie=cookie(site))
        assert line.next()["type"] == "websocket.accept"
        version = line.read(12)
        assert version == b"RFB 003.008\n"
        line.type(version)
        assert line.read(2) == b"\1\1"  # one way in, without a password
        line.type(b"\1")
        assert line.read(4) == bytes(4)
        line.type(b"\1")
        hello = line.read(24)
        width, height = struct.unpack(">HH", hello[:4])
        assert (width, height) >= (640, 400)
        qemu.close()
        while (told := line.next())["type"] == "websocket.send" and "text" not in told:
            pass
        assert "the screen has ended" in told["text"]
    finally:
        qemu.close()
    assert ticket(site, real).body  # and the console is another line
    rows, _ = site.run(
        site.manager.repository.read(lambda c: records.list_audit(c, action="console"))
    )
    assert "screen opened" in [r.sentence for r in rows]


def test_a_ticket_is_good_once_and_for_its_owner(place: tuple[Site, RealPool]) -> None:
    site, real = place
    site.person("anna", Grant("admin"))
    site.person("otto", Grant("operator"))
    word = ticket(site, real).body.decode()

    def refused(ticket: str, **headers: str) -> bool:
        line = Line(site.desk, site.app, ticket, **headers)
        return bool(line.next()["type"] == "websocket.close")

    assert refused(word, cookie=cookie(site, "otto"))  # and it is used up by that
    assert refused(word, cookie=cookie(site))
    assert refused("none", cookie=cookie(site))
    assert refused(ticket(site, real).body.decode())  # nobody is signed in
    assert refused(ticket(site, real).body.decode(), cookie=cookie(site),
                   origin="https://evil.example")  # fmt: skip
    good = Line(site.desk, site.app, ticket(site, real).body.decode(), cookie=cookie(site))
    assert good.next()["type"] == "websocket.accept"
    good.hang_up()


def test_a_viewer_gets_neither_page_nor_ticket(place: tuple[Site, RealPool]) -> None:
    site, real = place
    site.person("vera", Grant("viewer"))
    assert ticket(site, real, "vera").status == 403
    assert site.get(f"/pools/{real.id}/vms/web/console", "vera").status == 403
    site.person("anna", Grant("admin"))
    assert site.post(f"/pools/{real.id}/vms/web/console", {}, csrf="").status == 403
    page = site.get(f"/pools/{real.id}/vms/web/console")
    csp = page.headers["content-security-policy"]
    assert "'nonce-" in csp and "unsafe" not in csp and "script-src 'self';" in csp


def test_the_agents_reason_is_told(place: tuple[Site, RealPool]) -> None:
    site, real = place
    site.person("anna", Grant("admin"))
    AgentClient(real.url("a"), pki=real.pki).create(make(VmCreate, name="off", memory="512MiB"))
    wait(lambda: "off" in [v.name for v in site.manager.reads.pool(real.id).status.vms])
    word = site.post(f"/pools/{real.id}/vms/off/console").body.decode()
    line = Line(site.desk, site.app, word, cookie=cookie(site))
    assert line.next()["type"] == "websocket.accept"
    told = line.next()
    assert "off" in told["text"]
    assert line.next() == {"type": "websocket.close", "code": 4503, "reason": ""}


def test_tickets_grow_old() -> None:
    now = [100.0]
    tickets = Tickets(lambda: now[0])
    words = [tickets.make("anna", "p", "web") for _ in range(3)]
    assert len(set(words)) == 3
    assert tickets.take(words[0], "anna") is not None
    assert tickets.take(words[0], "anna") is None
    assert tickets.take(words[1], "otto") is None
    now[0] += TICKET_S
    assert tickets.take(words[2], "anna") is None
