"""One-time tokens: what lets a machine join a pool once, and proves to it that it is that pool.

    outlast1.<id>.<secret>.<fingerprint of the pool's authority>     8, 32 and 32 hex digits

Rules:
1. The pool keeps the hash of the secret only, in the register `token/<id>`. A token is used by a
   swap of that register, so that of two machines with one token only one gets in. The machine that
   used it may go on with it when its join was interrupted.
2. The joining machine looks at the authority first: a directory that is not the pool of the token
   gets no secret and no slot.
3. The first host needs none: whoever made the pool is still alone with it. Pools made with
   `--open-join` ask nobody for one.
4. A token is never an argument of a command, where other users could see it: it is asked for, or
   read from a file.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from outlast.equipment import JoinToken
from outlast.errors import Conflict, InvalidInput, NotFound, Refused, StorageTrouble
from outlast.storage.layout import PoolDir
from outlast.storage.records import token_from, token_to
from outlast.storage.register import Outcome, Register
from outlast.wire.seal import CA_CERT, fingerprint

_FORM = re.compile(r"outlast1\.([0-9a-f]{8})\.([0-9a-f]{32})\.([0-9a-f]{32})\Z")
KEEP_S = 30 * 86400  # how long the list shows tokens that are over
HINT = "'outlast host token' on a host of the pool makes one"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as people carry it."""

    id: str
    secret: str
    authority: str

    def __str__(self) -> str:
        return f"outlast1.{self.id}.{self.secret}.{self.authority}"


def parse(text: str) -> Token:
    """The token in this text. Raises InvalidInput; the text is not repeated, it may be a secret."""
    match = _FORM.match(text.strip())
    if match is None:
        raise InvalidInput("this is not a token", hint=f"it begins with 'outlast1.'; {HINT}")
    return Token(*match.groups())


def issue(pool: PoolDir, register: Register, host: str, by: str, for_s: int) -> tuple[Token, int]:
    """A new token and until when it is good, in seconds since 1970.

    host: the only name it is good for, "" for any. Raises StorageTrouble.
    """
    made = Token(secrets.token_hex(4), secrets.token_hex(16), fingerprint(pool.pki / CA_CERT))
    until = int(time.time()) + for_s
    record = JoinToken(made.id, _hash(made.secret), until, host, by)
    if register.swap(f"token/{made.id}", 0, token_to(record)).outcome is not Outcome.OK:
        raise StorageTrouble("the storage did not say whether the token was written",
                             hint="try again")  # fmt: skip
    return made, until


def check(pool: PoolDir, register: Register, token: Token, host: str, uuid: str) -> None:
    """Rules 1 and 2, without using it. Raises InvalidInput, NotFound, Conflict, Refused."""
    if token.authority != fingerprint(pool.pki / CA_CERT):
        raise Refused(
            f"the token is not one of pool '{pool.name}': the pool's certificate authority is "
            "another one",
            hint="is the right storage mounted here? nothing was sent to it",
        )
    _read(register, token, host, uuid)


def use(register: Register, token: Token, host: str, uuid: str) -> None:
    """Use it up for this machine. Raises as check does, and StorageTrouble."""
    version, record = _read(register, token, host, uuid)
    if record.used_by_uuid == uuid:
        return
    used = replace(record, used_by=host, used_by_uuid=uuid)
    answer = register.swap(f"token/{token.id}", version, token_to(used))
    if answer.outcome is Outcome.OK:
        return
    if answer.outcome is Outcome.UNKNOWN:
        raise StorageTrouble("the storage did not say whether the token was used",
                             hint="join again with the same token")  # fmt: skip
    _read(register, token, host, uuid)  # who was faster, in words


def revoke(register: Register, id_: str) -> JoinToken:
    """Make a token worthless. Raises NotFound, Conflict when it was used, StorageTrouble."""
    name = f"token/{id_}"
    version, value = register.read(name) if re.fullmatch(r"[0-9a-f]{8}", id_) else (0, None)
    if value is None:
        raise NotFound(f"there is no token '{id_[:20]}'", hint="outlast host token --list")
    record = token_from(value)
    if record.used_by:
        raise Conflict(f"the token was used by {record.used_by} already",
                       hint="outlast pool revoke takes back a host's certificates")  # fmt: skip
    if register.swap(name, version, token_to(replace(record, until_wall_s=0))).ok:
        return record
    raise Conflict("the token was changed just now", hint="look with 'outlast host token --list'")


def known(register: Register) -> list[JoinToken]:
    """All tokens, newest last, without those that were over long ago. Raises StorageTrouble."""
    values = (register.read(name)[1] for name in register.names("token"))
    found = [token_from(value) for value in values if value is not None]
    since = time.time() - KEEP_S
    return sorted((t for t in found if t.until_wall_s > since), key=lambda t: t.until_wall_s)


def ask(file: Path | None, pool: str) -> Token:
    """The person's token: from this file ("-": stdin), or by a question.

    Raises Refused when there is nobody to ask, InvalidInput.
    """
    if file is None:
        if not sys.stdin.isatty():
            raise Refused(f"pool '{pool}' asks for a token from who joins",
                          hint=f"{HINT}; give it with --token-file")  # fmt: skip
        return parse(typer.prompt("Token for this machine", hide_input=True, err=True))
    try:
        return parse(sys.stdin.readline() if str(file) == "-" else file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        why = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is not text"
        raise InvalidInput(f"the token in {file} cannot be read: {why}") from error


def _read(register: Register, token: Token, host: str, uuid: str) -> tuple[int, JoinToken]:
    version, value = register.read(f"token/{token.id}")
    record = token_from(value) if value is not None else None
    if record is None or not hmac.compare_digest(record.secret_hash, _hash(token.secret)):
        raise Refused("the pool does not know this token", hint=HINT)
    if record.used_by_uuid == uuid:
        return version, record
    if record.used_by:
        raise Refused(f"the token was used by {record.used_by} already", hint=HINT)
    if record.host and record.host != host:
        raise Refused(f"the token is for a host named '{record.host}'",
                      hint=f"join with --name {record.host}, or: {HINT}")  # fmt: skip
    if time.time() >= record.until_wall_s:
        raise Refused("the token is good no more", hint=HINT)
    return version, record


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
