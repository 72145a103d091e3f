"""Services outside that a manager asks, as manager.json names them: directory, provider, mail.

Rules:
1. A secret is in a file of its own that nobody but its owner may read; it is read when it is used,
   so a new one counts at once. It is in no message.
2. Nothing goes to these services without TLS that was checked, but mail on purpose (`none`).
3. Who comes from outside has the roles that his groups have here, and what he owns. None: no entry.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from outlast.errors import InvalidInput
from outlast.manager.ports import Grant
from outlast.manager.rights import check

TIMEOUT_S = 10.0
BACK = "/sign-in/back"  # the path of this manager to which a provider sends browsers back
LDAP, OIDC = "ldap", "oidc"  # origins of users


def _address(*schemes: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not parts.hostname or parts.username:
            wanted = " or ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"{text[:80]!r} is no address here; it begins with {wanted}")
        return text

    return check


class Part(BaseModel):
    """A part of manager.json."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Rule(Part):
    """Who is in this group has this role."""

    group: str = Field(min_length=1, max_length=500)
    role: Literal["admin", "operator", "viewer", "own"]
    pool_id: str = ""  # "" = everything
    vm: str = ""

    @model_validator(mode="after")
    def _checked(self) -> Rule:
        try:
            check(self.grant())
        except InvalidInput as error:
            raise ValueError(error.sentence) from None
        return self

    def grant(self) -> Grant:
        return Grant(self.role, self.pool_id, self.vm)


class Ldap(Part):
    """A directory. {name} and {dn} are put in so that they stay values."""

    server: Annotated[str, AfterValidator(_address("ldaps", "ldap"))]  # ldap:// means StartTLS
    ca: str = ""  # PEM file; "" = those of the system
    bind_as: str = ""  # "uid={name},ou=people,dc=x" or "{name}@x"; "" = search first
    reader: str = ""  # who searches; "" = nobody in particular
    reader_password_file: str = ""
    people_base: str
    people_filter: str = "(uid={name})"
    groups_base: str = ""  # "" = people_base
    groups_filter: str = "(|(member={dn})(uniqueMember={dn})(memberUid={name}))"
    roles: tuple[Rule, ...]


class Oidc(Part):
    """An OpenID Connect provider."""

    issuer: Annotated[str, AfterValidator(_address("https"))]
    client_id: str = Field(min_length=1, max_length=500)
    client_secret_file: str = ""  # "" = a public client; PKCE is used either way
    address: Annotated[str, AfterValidator(_address("https"))]  # how browsers call this manager
    ca: str = ""
    label: str = Field(default="Single sign-on", max_length=60)  # on the button
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    roles: tuple[Rule, ...]


class Mail(Part):
    """The server that takes mail."""

    server: str = Field(min_length=1, max_length=300)  # host or host:port
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca: str = ""
    user: str = ""
    password_file: str = ""
    sender: str = Field(min_length=3, max_length=300)

    @model_validator(mode="after")
    def _no_password_in_the_open(self) -> Mail:
        if self.user and self.security == "none":
            raise ValueError("a password goes nowhere without TLS; leave out user, or security")
        return self


@dataclass(frozen=True, slots=True)
class Outsider:
    """Somebody whom a directory or provider knows, and vouches for."""

    origin: str
    subject: str  # never given to anybody else there
    name: str
    roles: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """One way to the provider and back."""

    secret: str  # for the cookie of that browser

    def part(self, what: str) -> str:
        """state, nonce or verifier; none of them tells another one."""
        mac = hmac.digest(self.secret.encode(), what.encode(), hashlib.sha256)
        return b64(mac)


class Elsewhere(Protocol):
    """Where users' passwords are kept that are not kept here."""

    async def person(self, name: str, password: str) -> Outsider | None:
        """None: the name or the password is wrong. Raises Unreachable, InvalidInput."""

    @property
    def looks(self) -> bool:
        """Can somebody be looked for without his password?"""

    async def look(self, name: str) -> Outsider | None:
        """Who has that name there now; None: nobody. Raises as person does."""


def roles_of(
    groups: Iterable[str], rules: Iterable[Rule], fold: Callable[[str], str] = str
) -> tuple[Grant, ...]:
    """fold: how names of groups are compared."""
    held = {fold(group) for group in groups}
    return tuple(dict.fromkeys(rule.grant() for rule in rules if fold(rule.group) in held))


def secret_of(file: str) -> str:
    """What the file holds, without the line's end; "" for no file. Raises InvalidInput."""
    if not file:
        return ""
    path = Path(file)
    try:
        if path.stat().st_mode & 0o077:
            raise InvalidInput(f"{path} can be read by others", hint=f"chmod 600 {path}")
        return path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text"
        raise InvalidInput(f"the secret in {path} cannot be read: {said}") from error


def context_of(ca: str) -> ssl.SSLContext:
    """TLS that checks names and certificates. Raises InvalidInput."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"the certificates in {ca} cannot be read: {error}") from error


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
