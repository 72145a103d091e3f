"""Events of pools as mail: what a webhook to `mailto:` posts.

Promises:
1. Plain text; the subject says the worst that happened, and where. The same events have the same
   Message-ID, so that a mail that comes twice is seen as one.
2. With `starttls` and `tls` nothing is said before TLS was checked, and a server without it gets
   nothing. No sentence holds the password.
3. In a thread; nothing waits beyond TIMEOUT_S.
"""

from __future__ import annotations

import json
import re
import smtplib
import time
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

from outlast.errors import OutlastError
from outlast.manager.outside import TIMEOUT_S, Mail, context_of, secret_of
from outlast.manager.repository.hooks import Due
from outlast.manager.tones import BAD, INFO, OK, WARN, tone

SCHEME = "mailto:"
PORTS = {"starttls": 587, "tls": 465, "none": 25}
ADDRESS = re.compile(r"[A-Za-z0-9._%+=-]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,250}")
SUBJECT_MAX = 150
RANK = (BAD, WARN, OK, INFO)  # the worst first


def is_address(url: str) -> bool:
    """mailto: and one address, without anything else that such a URL may hold."""
    return url.startswith(SCHEME) and ADDRESS.fullmatch(url.removeprefix(SCHEME)) is not None


def send(due: Due, mail: Mail, wall_s: float) -> tuple[int, str]:
    """The server's last code, 0 without one, and a sentence."""
    try:
        with _connected(mail) as server:
            if mail.user:
                server.login(mail.user, secret_of(mail.password_file))
            server.send_message(message(due, mail, wall_s))
        return 250, "the mail server took it"
    except smtplib.SMTPResponseException as error:
        return _answered(error.smtp_code, error.smtp_error)
    except smtplib.SMTPRecipientsRefused as error:
        return _answered(*next(iter(error.recipients.values())))
    except OutlastError as error:
        return 0, error.sentence
    except (smtplib.SMTPException, OSError, ValueError) as error:
        return 0, f"the mail server cannot be used: {_text(error) or type(error).__name__}"


def message(due: Due, mail: Mail, wall_s: float) -> EmailMessage:
    """Events for people, oldest first."""
    events = sorted((json.loads(part.body) for part in due.parts),
                    key=lambda e: (e.get("wall_s", 0.0), e.get("id", 0)))  # fmt: skip
    ids = sorted({part.delivery.event_id for part in due.parts})
    made = EmailMessage()
    made["Subject"] = _subject(events)[:SUBJECT_MAX]
    made["From"], made["To"] = mail.sender, due.url.removeprefix(SCHEME)
    made["Date"] = formatdate(wall_s)
    span = "-".join(str(one) for one in dict.fromkeys((ids[0], ids[-1])))
    made["Message-ID"] = f"<{span}.{due.webhook}@outlast.invalid>"
    made["Auto-Submitted"] = "auto-generated"
    lines = _one(events[0], wall_s) if len(events) == 1 else _many(events)
    made.set_content("\n".join([*lines, ""]))
    return made


def _subject(events: list[dict[str, Any]]) -> str:
    pools = {_pool(event) for event in events}
    where = pools.pop() if len(pools) == 1 else f"{len(pools)} pools"
    worst = min(events, key=lambda e: RANK.index(tone(e["code"])))
    more = f" (and {len(events) - 1} more)" if len(events) > 1 else ""
    room = SUBJECT_MAX - len(f"[{where}] {more}")
    return f"[{where}] {_text(worst['sentence'])[:room]}{more}"


def _one(event: dict[str, Any], wall_s: float) -> list[str]:
    known = {"Pool": _pool(event), "Host": event.get("host"), "VM": event.get("vm"),
             "When": _at(event.get("wall_s", wall_s)), "Code": event["code"]}  # fmt: skip
    known |= event.get("fields", {})
    lines = [f"{name}: {_text(value)}" for name, value in known.items() if value not in (None, "")]
    return [f"{_text(event['sentence'])}.", "", *lines]


def _many(events: list[dict[str, Any]]) -> list[str]:
    """By pool; what is bad stands out without colours."""
    lines = [f"{len(events)} events; what wants a look is marked with !"]
    for pool in dict.fromkeys(_pool(event) for event in events):
        lines += ["", pool]
        lines += [
            f"  {_at(e['wall_s'])}  {'!' if tone(e['code']) == BAD else ' '} {_text(e['sentence'])}"
            for e in events if _pool(e) == pool
        ]  # fmt: skip
    return lines


def _pool(event: dict[str, Any]) -> str:
    return _text(event.get("pool") or event.get("pool_id") or "test")


def _at(wall_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall_s))


def _connected(mail: Mail) -> smtplib.SMTP:
    """Raises SMTPException, OSError."""
    host, colon, port = mail.server.rpartition(":")
    where = (host, int(port)) if colon and port.isdigit() else (mail.server, PORTS[mail.security])
    if mail.security == "tls":
        return smtplib.SMTP_SSL(*where, timeout=TIMEOUT_S, context=context_of(mail.ca))
    server = smtplib.SMTP(*where, timeout=TIMEOUT_S)
    if mail.security == "starttls":
        try:
            server.starttls(context=context_of(mail.ca))
        except BaseException:
            server.close()
            raise
    return server


def _answered(code: int, said: bytes | str) -> tuple[int, str]:
    return code, f"the mail server answered {code} {_text(said)}"


def _text(said: object) -> str:
    """In one line, short and printable."""
    words = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return "".join(c if c.isprintable() else " " for c in words)[:300].strip()
