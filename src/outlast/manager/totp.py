"""Codes of an authenticator app (RFC 6238): six digits, SHA-1, 30 seconds, as all apps know them.

Rules:
1. A code is good for its own 30 seconds and the 30 before and after, as clocks differ.
2. `step_of` says which 30 seconds a code belongs to; whoever keeps that number can refuse repeats.
3. Nothing here is stored or sent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from urllib.parse import quote, urlencode

STEP_S = 30
DIGITS = 6
AROUND = 1  # steps before and after that are good as well
SECRET_BYTES = 20


def new_secret() -> str:
    """Base32, as it is typed into an app."""
    return base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()


def code_of(secret: str, step: int) -> str:
    """The code of these 30 seconds (RFC 4226, 5.3). Raises ValueError for a secret that is none."""
    try:
        key = base64.b32decode(secret)
    except binascii.Error as error:
        raise ValueError("the secret is not base32") from error
    mac = hmac.digest(key, step.to_bytes(8, "big"), hashlib.sha1)
    at = mac[-1] & 0xF
    number = int.from_bytes(mac[at : at + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def step_of(secret: str, code: str, wall_s: float, after: int = 0) -> int | None:
    """Which 30 seconds a code belongs to, of those later than `after`; None: it is not good."""
    now = int(wall_s // STEP_S)
    found = None
    for step in range(max(0, now - AROUND), now + AROUND + 1):
        # every step is compared, so that the time it takes says nothing
        same = hmac.compare_digest(code_of(secret, step).encode(), code.encode())
        if same and step > after and found is None:
            found = step
    return found


def uri(secret: str, name: str, issuer: str) -> str:
    """What an app reads out of the picture."""
    label = quote(f"{issuer}:{name}", safe="")
    query = urlencode({"secret": secret, "issuer": issuer}, quote_via=quote)
    return f"otpauth://totp/{label}?{query}"
