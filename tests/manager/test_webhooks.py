"""Webhooks against a real receiver: signatures, retries, the log, nothing twice by two leaders."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from calling import V
from desk import Desk

from outlast.errors import InvalidInput
from outlast.manager.ports import Grant
from outlast.manager.repository import hooks, records
from outlast.manager.repository.store import Repository
from outlast.manager.webhooks import TRIES, Webhooks, new_hook, signature
from outlast.wire.shapes import TimelineEntry


class Receiver:
    """Answers with `status`; keeps what it got."""

    def __init__(self) -> None:
        self.status, self.got = 200, list[tuple[dict[str, str], bytes]]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(outer.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?x=1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def repository(database: str) -> Iterator[Repository]:
    made = Repository(database)
    made.migrate()
    yield made
    made.close()


def happen(repository: Repository, *codes: str) -> None:
    entries = [
        TimelineEntry(wall_s=1.0, host="a", code=c, sentence=f"it was {c}", id=f"{c}-{n}")
        for n, c in enumerate(codes)
    ]
    repository.write_now(lambda c: records.add_events(c, "p", entries))


def log_of(repository: Repository, hook_id: str) -> list[hooks.Delivery]:
    return repository.read_now(lambda c: hooks.list_deliveries(c, hook_id, 0, 100))[0]


def test_events_from_now_on_are_delivered_once_and_signed(
    repository: Repository, receiver: Receiver
) -> None:
    happen(repository, "old")
    hook = new_hook(receiver.url, ("vm-", "host-lost"), 1.0)
    repository.write_now(lambda c: hooks.add_hook(c, hook))
    happen(repository, "vm-started", "pool-quiet", "host-lost")
    webhooks = Webhooks(repository)
    assert asyncio.run(webhooks.round()) == 2
    assert asyncio.run(webhooks.round()) == 0
    assert sorted(json.loads(body)["code"] for _, body in receiver.got) == [
        "host-lost", "vm-started",
    ]  # fmt: skip
    for headers, body in receiver.got:
        at, mac = (part[2:].lstrip("=") for part in headers["x-outlast-signature"].split(","))
        right = hmac.new(hook.secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
        assert hmac.compare_digest(mac, right.hexdigest())
        assert headers["x-outlast-event"] == str(json.loads(body)["id"])
    assert [(d.status, d.next_wall_s) for d in log_of(repository, hook.id)] == [(200, 0)] * 2


def test_what_fails_is_tried_again_and_given_up_at_last(
    repository: Repository, receiver: Receiver
) -> None:
    now = [1000.0]
    hook = new_hook(receiver.url, (), 1.0)
    repository.write_now(lambda c: hooks.add_hook(c, hook))
    happen(repository, "x")
    webhooks = Webhooks(repository, lambda: now[0])
    receiver.status = 302  # not followed
    assert asyncio.run(webhooks.round()) == 1
    assert asyncio.run(webhooks.round()) == 0
    (one,) = log_of(repository, hook.id)
    assert (one.tries, one.status, one.next_wall_s) == (1, 302, 1010.0)
    while one.next_wall_s:
        now[0] = one.next_wall_s
        assert asyncio.run(webhooks.round()) == 1
        (one,) = log_of(repository, hook.id)
    assert one.tries == TRIES == len(receiver.got)
    assert now[0] - 1000 > 6 * 3600
    assert "302" in one.sentence


def test_a_receiver_that_is_not_there_costs_a_try(repository: Repository) -> None:
    hook = new_hook("http://127.0.0.1:1/x", (), 1.0)
    repository.write_now(lambda c: hooks.add_hook(c, hook))
    happen(repository, "x")
    assert asyncio.run(Webhooks(repository).round()) == 1
    (one,) = log_of(repository, hook.id)
    assert (one.status, one.next_wall_s > 0) == (0, True)
    assert "cannot be reached" in one.sentence


def test_two_leaders_deliver_nothing_twice(repository: Repository, receiver: Receiver) -> None:
    hook = new_hook(receiver.url, (), 1.0)
    repository.write_now(lambda c: hooks.add_hook(c, hook))
    happen(repository, *(f"c{n}" for n in range(30)))

    async def both() -> None:
        one, other = Webhooks(repository), Webhooks(repository)
        for _ in range(3):
            await asyncio.gather(one.round(), other.round())

    asyncio.run(both())
    told = [json.loads(body)["code"] for _, body in receiver.got]
    assert sorted(told) == sorted(f"c{n}" for n in range(30))


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://a/b", "https://", "https://user:pw@a/", "https://a b/", "http://a:x/",
     "https://é/", "https://a/\r\nX: y", "https://a/" + "x" * 1000, "file:///etc/passwd"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidInput):
        new_hook(url, (), 1.0)
    with pytest.raises(InvalidInput):
        new_hook("https://a/", ("x'",), 1.0)


def test_over_the_api(tmp_path: Path, receiver: Receiver) -> None:
    desk = Desk(tmp_path)
    try:
        token = desk.user("anna", Grant("admin"))
        made = desk.call("POST", f"{V}/webhooks", {"url": receiver.url}, token=token)
        at, secret = f"{V}/webhooks/{made.json['id']}", made.json["secret"]
        assert secret not in desk.call("GET", f"{V}/webhooks", token=token).body.decode()
        tried = desk.call("POST", f"{at}/test", token=token).json
        assert tried == {"status": 200, "sentence": "delivered"}
        headers, body = receiver.got[0]
        wall_s = int(headers["x-outlast-signature"][2:].split(",")[0])
        assert headers["x-outlast-signature"] == signature(secret, body.decode(), wall_s)
        happen(desk.manager.repository, "x")
        desk.run(desk.manager.webhooks.round())
        log = desk.call("GET", f"{at}/deliveries", token=token).json
        assert (log["total"], log["items"][0]["status"]) == (1, 200)
        assert desk.call("DELETE", at, token=token).status == 204
        assert desk.call("GET", f"{at}/deliveries", token=token).status == 404
        actions = desk.call("GET", f"{V}/audit?who=anna/test", token=token).json["items"]
        assert {a["action"] for a in actions} == {"webhook-add", "webhook-remove"}
    finally:
        desk.close()
