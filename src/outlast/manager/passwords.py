"""Passwords, secrets and how often somebody may guess.

Rules:
1. Passwords are kept as Argon2id; secrets drawn here have 256 bits and are kept as SHA-256.
2. At most HASHERS passwords are checked at a time: each takes 64 MiB while it is.
3. A name that does not exist takes as long to refuse as one that does.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from outlast.manager.errors import TooOften
from outlast.wire.shapes import BadField

T = TypeVar("T")

PASSWORD_MIN, PASSWORD_MAX = 10, 500
HASHERS = 2
FREE_TRIES, FREE_TRIES_ADDRESS = 5, 20
WAIT_FIRST_S, WAIT_MAX_S = 2.0, 300.0
FORGET_S = 900.0
KEPT_KEYS = 10_000


class Passwords:
    """Argon2 beside the event loop."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(HASHERS, thread_name_prefix="argon2")
        self._nobody = self._hasher.hash(secrets.token_hex(8))

    async def hash(self, password: str, name: str = "") -> str:
        """Raises BadField for a password that is too easy to guess."""
        check_password(password, name)
        return await self._run(lambda: self._hasher.hash(password))

    async def fits(self, password: str, hash_: str | None) -> bool:
        """hash_: None = there is no such user."""
        if len(password) > PASSWORD_MAX:
            return False
        known = hash_ or self._nobody
        right = await self._run(lambda: self._verify(password, known))
        return right and hash_ is not None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password: str, hash_: str) -> bool:
        try:
            return self._hasher.verify(hash_, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def check_password(password: str, name: str = "") -> None:
    """Raises BadField. Length is what counts; no rules about signs."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise BadField(
            f"a password has {PASSWORD_MIN} to {PASSWORD_MAX} characters", field="password",
            hint="several words are easy to remember and hard to guess",
        )  # fmt: skip
    easy = {name.lower(), "password", "outlast", "1234567890"} - {""}
    rest = password.lower()
    for word in sorted(easy, key=len, reverse=True):
        rest = rest.replace(word, "")
    if len(set(rest)) < 4:
        raise BadField("this password is too easy to guess", field="password")


def secret() -> str:
    """A new one, 256 bits, that may stand in URLs and headers."""
    return secrets.token_urlsafe(32)


def short_code() -> str:
    """80 bits that a person can type; for what is good once."""
    return "-".join(secrets.token_hex(2) for _ in range(5))


def secret_hash(text: str) -> str:
    """How a drawn secret is kept; drawn ones need no slow hash."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


class Guesses:
    """Counts what failed, by name and by address; each further guess has to wait longer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()  # count, newest

    def check(self, *keys: str) -> None:
        """Raises TooOften. Notes a guess, so that many at a time are no way round; `right` takes
        it back."""
        now_s = self._clock()
        for key in keys:
            count, last_s = self._failed.get(key, (0, 0.0))
            # many people may come from one address
            free = FREE_TRIES_ADDRESS if key.startswith("address:") else FREE_TRIES
            if count >= free:
                wait_s = min(WAIT_FIRST_S * 2 ** min(count - free, 20), WAIT_MAX_S)
                left_s = last_s + wait_s - now_s
                if left_s > 0:
                    raise TooOften(left_s)
        for key in keys:
            count, last_s = self._failed.pop(key, (0, 0.0))
            self._failed[key] = (count + 1 if now_s - last_s < FORGET_S else 1, now_s)
        while len(self._failed) > KEPT_KEYS:
            self._failed.popitem(last=False)

    def right(self, *keys: str) -> None:
        for key in keys:
            self._failed.pop(key, None)
