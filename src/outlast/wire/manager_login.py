"""How somebody gets a token of a manager: a login as browsers do it, for that one call.

Promises:
1. Password and code go to the manager that shows the trusted certificate, and are kept nowhere.
2. The session ends when the token is there. The token may what its owner may, for `days`.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
from collections.abc import Callable
from dataclasses import replace
from http.cookies import SimpleCookie
from typing import Any

from outlast.errors import OutlastError, Refused, Unreachable
from outlast.wire.client import error_of
from outlast.wire.manager_client import ManagerPlace

TIMEOUT_S = 15.0
ANSWER_MAX = 1 << 20


def presented(place: ManagerPlace) -> str:
    """The certificate (PEM) that a manager shows, not checked. Raises Unreachable."""
    try:
        return ssl.get_server_certificate((place.host, place.port), timeout=TIMEOUT_S)
    except OSError as error:
        raise _away(place, error) from error


def fingerprint(pem: str) -> str:
    """SHA-256, as the manager's console and `openssl x509 -fingerprint -sha256` show it."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def known_here(place: ManagerPlace) -> bool:
    """Does this machine trust the manager's certificate already? Raises Unreachable."""
    try:
        _Visit(place).connect()
    except ssl.SSLCertVerificationError:
        return False
    except OSError as error:
        raise _away(place, error) from error
    return True


def token(
    place: ManagerPlace, name: str, password: str, code: Callable[[], str], label: str, days: float
) -> tuple[ManagerPlace, str]:
    """The place with a new token, and the token's id; `code` is asked for a second factor.

    Raises Refused, Unreachable, InvalidInput.
    """
    visit = _Visit(place)
    stage = visit.call("POST", "/login", {"name": name, "password": password})["stage"]
    if stage == "code":
        stage = visit.call("POST", "/login/code", {"code": code()})["stage"]
    if stage:
        raise Refused("a second factor has to be set up first", hint=f"in a browser: {place.url}")
    try:
        roles = visit.call("GET", "/me")["roles"]
        made = visit.call("POST", "/tokens", {"name": label, "roles": roles, "days": days})
    finally:
        visit.call("POST", "/logout")
    return replace(place, token=str(made["token"])), str(made["id"])


def who(place: ManagerPlace) -> str:
    """Whose token it is. Raises Refused, Unreachable."""
    return str(_Visit(place).call("GET", "/me")["name"])


def pools(place: ManagerPlace) -> list[str]:
    """Names of the pools that the token's owner sees."""
    found = _Visit(place).call("GET", "/pools?limit=500")["items"]
    return [str(pool["name"]) for pool in found]


def forget(place: ManagerPlace, token_id: str) -> None:
    """Have the token count no more. Raises Refused, NotFound, Unreachable."""
    _Visit(place).call("DELETE", f"/tokens/{token_id}")


class _Visit:
    """Calls of one session, or of one token."""

    def __init__(self, place: ManagerPlace) -> None:
        self._place = place
        self._headers = {"Authorization": f"Bearer {place.token}"} if place.token else {}

    def connect(self) -> http.client.HTTPSConnection:
        found = http.client.HTTPSConnection(
            self._place.host, self._place.port, timeout=TIMEOUT_S, context=self._place.context()
        )
        found.connect()
        return found

    def call(self, method: str, path: str, body: object = None) -> Any:
        sent = dict(self._headers) | ({"Content-Type": "application/json"} if body else {})
        try:
            connection = self.connect()
            connection.request(method, f"/api/v1{path}", json.dumps(body) if body else None, sent)
            answer = connection.getresponse()
            raw = answer.read(ANSWER_MAX)
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise _away(self._place, error) from error
        if answer.status >= 400:
            raise error_of(raw)
        for line in answer.headers.get_all("Set-Cookie") or ():
            for name, morsel in SimpleCookie(line).items():
                self._headers["Cookie"] = f"{name}={morsel.value}"
        try:
            said = json.loads(raw) if raw else {}
        except ValueError:
            raise Unreachable(f"what answers at {self._place.url} is no manager") from None
        if isinstance(said, dict) and said.get("csrf"):
            self._headers["X-CSRF-Token"] = str(said["csrf"])
        return said


def _away(place: ManagerPlace, error: Exception) -> OutlastError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused(
            f"{place.url} shows a certificate that is not trusted: {error.verify_message}",
            hint="is the address one that the certificate names? else --ca FILE",
        )
    reason = getattr(error, "strerror", "") or str(error) or type(error).__name__
    return Unreachable(f"no manager answers at {place.url}: {reason}", hint="is it running?")
