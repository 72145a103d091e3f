"""Events of pools, posted to addresses of the administrators' choice, signed; or mailed.

Promises:
1. Each event is delivered at least once, or tried TRIES times over about a day; the newest try is
   in the delivery log. Receivers tell repeats apart by X-Outlast-Event.
2. X-Outlast-Signature is "t=SECONDS,v1=HEX": HMAC-SHA-256 with the webhook's secret over
   "SECONDS.BODY". The time is in it, so that an old call cannot be played again.
3. No redirect is followed, no answer is read beyond its first KiB, nothing waits beyond TIMEOUT_S.
4. Mail is gathered: an event that is bad (tones.py) goes out at once and takes along what waits;
   all others wait GATHER_S at most. After a mail its address has REST_S of peace. So a storm of
   events is a mail a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import logging
import secrets
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from sqlalchemy import Connection

from outlast.manager.leader import rounds
from outlast.manager.mail import is_address, send
from outlast.manager.outside import Mail
from outlast.manager.repository import hooks
from outlast.manager.repository.hooks import Delivery, Due, Hook, Part
from outlast.manager.repository.store import Repository
from outlast.manager.tones import BAD, tone
from outlast.wire.shapes import BadField

log = logging.getLogger("outlast.manager.webhooks")

EVERY_S = 2.0
TIMEOUT_S = 10.0
TRIES = 10
FIRST_WAIT_S, MOST_WAIT_S = 10.0, 4 * 3600.0
AT_A_TIME = 20
GATHER_S, REST_S = 300.0, 60.0
URL_MAX = 1000


class Webhooks:
    """Runs on the manager that leads."""

    def __init__(
        self, repository: Repository, wall: Callable[[], float] = time.time, *,
        mail: Mail | None = None,
    ) -> None:  # fmt: skip
        self._repository, self._wall, self._mail = repository, wall, mail
        self._mailed: dict[str, float] = {}  # webhook -> when it took its newest mail

    async def run(self, leads: Callable[[], bool]) -> None:
        """Until it is cancelled."""
        await rounds(leads, EVERY_S, self.round, log, "webhooks")

    async def round(self) -> int:
        """Hand over what is new, send what is due; how many messages. Raises StorageTrouble."""
        wall_s = self._wall()
        due = await self._repository.write(lambda c: self._due(c, wall_s))
        await asyncio.gather(*(self._deliver(one) for one in due))
        return len(due)

    def _due(self, c: Connection, wall_s: float) -> list[Due]:
        mails = {hook.id for hook in hooks.all_hooks(c) if is_address(hook.url)}
        self._mailed = {
            hook: at_s for hook, at_s in self._mailed.items()
            if hook in mails and wall_s - at_s < REST_S
        }  # fmt: skip

        def due_wall_s(hook: Hook, code: str) -> float:
            return wall_s + GATHER_S * (hook.id in mails and tone(code) != BAD)

        hooks.hand_over(c, due_wall_s)
        return hooks.claim(c, wall_s, AT_A_TIME, gathered=mails, resting=self._mailed)

    async def _deliver(self, due: Due) -> None:
        status, sentence = await asyncio.to_thread(deliver, due, self._mail, self._wall())
        good = 200 <= status < 300
        if good and is_address(due.url):
            self._mailed[due.webhook] = self._wall()
        ends = []
        for part in due.parts:
            wait_s, tries = 0.0, part.delivery.tries
            if not good and tries < TRIES:
                wait_s = self._wall() + min(FIRST_WAIT_S * 3 ** (tries - 1), MOST_WAIT_S)
            ends.append((part.delivery.id, wait_s))
        if not good:
            log.warning("webhook %s, %d events: %s", due.webhook, len(ends), sentence)

        def end(c: Connection) -> None:
            for delivery_id, wait_s in ends:
                hooks.end(c, delivery_id, wait_s, status, sentence)

        await self._repository.write(end)


def new_hook(url: str, codes: tuple[str, ...], wall_s: float) -> Hook:
    """Raises BadField for an address that is none."""
    if not is_address(url):
        _check_url(url)
    if not all(code.replace("-", "").isalnum() and len(code) <= 60 for code in codes):
        raise BadField("codes are beginnings of event codes", field="codes", hint="like 'vm-'")
    secret = "" if is_address(url) else secrets.token_urlsafe(32)
    return Hook(secrets.token_hex(6), url, secret, codes, 0, wall_s)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("https", "http") and bool(parts.hostname) and not parts.username
        parts.port  # noqa: B018 - raises
    except ValueError:
        good = False
    if not good or len(url) > URL_MAX or not url.isascii() or any(c.isspace() for c in url):
        raise BadField(
            f"{url[:80]!r} is no address to post to", field="url",
            hint="https://host/path or mailto:name@host; secrets belong into the path or nowhere",
        )  # fmt: skip


def made_up(hook: Hook) -> Due:
    """An event that never was, to try a webhook with."""
    body = '{"code": "test", "sentence": "this is a test"}'
    return Due(hook.id, hook.url, hook.secret, (Part(Delivery(0, hook.id, 0, 1, 0, 0, ""), body),))


def signature(secret: str, body: str, wall_s: float) -> str:
    """What stands in X-Outlast-Signature."""
    at = str(int(wall_s))
    mac = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


def deliver(due: Due, mail: Mail | None, wall_s: float) -> tuple[int, str]:
    """In a thread: the status of the answer, 0 without one, and a sentence."""
    if not is_address(due.url):
        return post(due, wall_s)
    if mail is None:
        return 0, "this manager knows no mail server: see mail in manager.json"
    return send(due, mail, wall_s)


def post(due: Due, wall_s: float) -> tuple[int, str]:
    """One event, by HTTP."""
    parts = urlsplit(due.url)
    (part,) = due.parts
    host, path = parts.hostname or "", parts.path or "/"
    headers = {
        "Content-Type": "application/json", "User-Agent": "outlast",
        "X-Outlast-Event": str(part.delivery.event_id),
        "X-Outlast-Signature": signature(due.secret, part.body, wall_s),
    }  # fmt: skip
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            host, parts.port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)
    try:
        query = f"?{parts.query}" if parts.query else ""
        connection.request("POST", path + query, part.body.encode(), headers)
        answer = connection.getresponse()
        answer.read(1024)
        if 200 <= answer.status < 300:
            return answer.status, "delivered"
        return answer.status, f"the receiver answered {answer.status} {answer.reason}"[:200]
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, f"the receiver cannot be reached: {error or type(error).__name__}"[:200]
    finally:
        connection.close()
