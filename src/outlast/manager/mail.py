"""Events of pools as mail: what a webhook to `mailto:` posts.

Promises:
1. Plain text; the subject says what happened, and where. The same event has the same Message-ID, so
   that one that comes twice is seen as one.
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

from outlast.errors import OutlastError
from outlast.manager.outside import TIMEOUT_S, Mail, context_of, secret_of
from outlast.manager.repository.hooks import Due

SCHEME = "mailto:"
PORTS = {"starttls": 587, "tls": 465, "none": 25}
ADDRESS = re.compile(r"[A-Za-z0-9._%+=-]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,250}")
SUBJECT_MAX = 150


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
        return (
            error.smtp_code,
            f"the mail server answered {error.smtp_code} {_text(error.smtp_error)}",
        )
    except smtplib.SMTPRecipientsRefused as error:
        code, said = next(iter(error.recipients.values()))
        return code, f"the mail server answered {code} {_text(said)}"
    except OutlastError as error:
        return 0, error.sentence
    except (smtplib.SMTPException, OSError, ValueError) as error:
        return 0, f"the mail server cannot be used: {_text(error) or type(error).__name__}"


def message(due: Due, mail: Mail, wall_s: float) -> EmailMessage:
    """An event for people."""
    event = json.loads(due.body)
    pool = _text(event.get("pool") or event.get("pool_id") or "test")
    made = EmailMessage()
    made["Subject"] = f"[{pool}] {_text(event['sentence'])}"[:SUBJECT_MAX]
    made["From"], made["To"] = mail.sender, due.url.removeprefix(SCHEME)
    made["Date"] = formatdate(wall_s)
    made["Message-ID"] = f"<{due.delivery.event_id}.{due.delivery.webhook}@outlast.invalid>"
    made["Auto-Submitted"] = "auto-generated"
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(event.get("wall_s", wall_s)))
    known = {"Pool": pool, "Host": event.get("host"), "VM": event.get("vm"), "When": at,
             "Code": event["code"]} | event.get("fields", {})  # fmt: skip
    lines = [f"{name}: {_text(value)}" for name, value in known.items() if value not in (None, "")]
    made.set_content("\n".join([f"{_text(event['sentence'])}.", "", *lines, ""]))
    return made


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
