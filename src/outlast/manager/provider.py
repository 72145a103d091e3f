"""Logins at an OpenID Connect provider: authorization code with PKCE, state and nonce.

Promises:
1. Who comes back is who went: state, nonce and the verifier of PKCE are made of one secret that
   only that browser's cookie holds. Nothing is kept here: any manager finishes what another began.
2. An ID token counts when its signature fits a key of the issuer and an algorithm that is not
   symmetric, and iss, aud, azp, exp, iat and nonce are as they must be (OpenID Connect Core,
   3.1.3.7).
3. Nothing is asked without checked TLS, no redirect is followed, no answer is read beyond MAX.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from outlast.errors import InvalidInput, OutlastError, Refused, Unreachable
from outlast.manager.outside import (
    BACK,
    OIDC,
    TIMEOUT_S,
    Flow,
    Oidc,
    Outsider,
    b64,
    context_of,
    roles_of,
    secret_of,
)
from outlast.manager.passwords import secret

MAX = 1 << 20
KEPT_S = 3600.0  # how long what the provider says of itself is believed
KEYS_S = 60.0  # a key that is not known is looked for at most so often
LEEWAY_S = 60
ALGORITHMS = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class Provider:
    def __init__(self, settings: Oidc, wall: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._wall = wall
        self._about: tuple[float, dict[str, Any]] = (0.0, {})
        self._keys: tuple[float, KeySet | None] = (0.0, None)

    @property
    def back(self) -> str:
        return self.settings.address.rstrip("/") + BACK

    async def begin(self) -> tuple[str, Flow]:
        """Where to send the browser, and what it has to keep. Raises Unreachable, InvalidInput."""
        async with self._client() as client:
            about = await self._discover(client)
        flow = Flow(secret())
        challenge = b64(hashlib.sha256(flow.part("verifier").encode()).digest())
        asked = {
            "response_type": "code", "client_id": self.settings.client_id,
            "redirect_uri": self.back, "scope": " ".join(self.settings.scopes),
            "state": flow.part("state"), "nonce": flow.part("nonce"),
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        at = str(about["authorization_endpoint"])
        return f"{at}{'&' if '?' in at else '?'}{urlencode(asked, quote_via=quote)}", flow

    async def finish(self, flow: Flow, said: Mapping[str, str]) -> Outsider:
        """Who came back. said: the query. Raises Refused, Unreachable, InvalidInput."""
        if not hmac.compare_digest(said.get("state", "").encode(), flow.part("state").encode()):
            raise Refused("this login was not begun in this browser", hint="begin it again")
        if said.get("iss", self.settings.issuer) != self.settings.issuer:
            raise Refused("the answer is of another provider", hint="begin it again")
        if "error" in said or not said.get("code"):
            words = said.get("error_description") or said.get("error") or "it sent no code"
            raise Refused(f"the provider let nobody in: {_words(words)}", hint="begin it again")
        async with self._client() as client:
            about = await self._discover(client)
            tokens = await self._redeem(client, about, said["code"], flow.part("verifier"))
            claims = await self._claims(client, about, tokens, flow.part("nonce"))
        return self._outsider(claims)

    # ---- what the provider says of itself

    async def _discover(self, client: aiohttp.ClientSession) -> dict[str, Any]:
        at_s, about = self._about
        if about and self._wall() - at_s < KEPT_S:
            return about
        issuer = self.settings.issuer
        at = issuer.rstrip("/") + "/.well-known/openid-configuration"
        about = await self._ask(client, "GET", at)
        if about.get("issuer") != issuer:
            raise InvalidInput(
                f"the provider calls itself {_words(about.get('issuer'))}, not {issuer}",
                hint="see oidc.issuer in manager.json, to the last sign",
            )
        for name in ENDPOINTS:
            if urlsplit(str(about.get(name, ""))).scheme != "https":
                raise InvalidInput(f"the provider names no https address as its {name}")
        self._about = self._wall(), about
        return about

    async def _key_set(
        self, client: aiohttp.ClientSession, about: dict[str, Any], fresh: bool
    ) -> KeySet:
        at_s, keys = self._keys
        kept_s = KEYS_S if fresh else KEPT_S
        if keys is None or self._wall() - at_s >= kept_s:
            found = await self._ask(client, "GET", str(about["jwks_uri"]))
            usable = [
                key for key in found.get("keys", [])
                if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP")
                and key.get("use", "sig") == "sig"
            ]  # fmt: skip
            try:
                keys = KeySet.import_key_set({"keys": usable})
            except (JoseError, ValueError, KeyError, TypeError) as error:
                raise InvalidInput(f"the provider's keys cannot be read: {error}") from error
            self._keys = self._wall(), keys
        return keys

    # ---- code to claims

    async def _redeem(
        self, client: aiohttp.ClientSession, about: dict[str, Any], code: str, verifier: str
    ) -> dict[str, Any]:
        known = self.settings
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.back,
            "code_verifier": verifier, "client_id": known.client_id,
        }  # fmt: skip
        headers = {}
        if shared := secret_of(known.client_secret_file):
            ways = about.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
            if "client_secret_basic" in ways:
                pair = f"{quote(known.client_id, safe='')}:{quote(shared, safe='')}"
                headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
            else:
                form["client_secret"] = shared
        at = str(about["token_endpoint"])
        return await self._ask(client, "POST", at, data=form, headers=headers)

    async def _claims(
        self, client: aiohttp.ClientSession, about: dict[str, Any], tokens: dict[str, Any],
        nonce: str,
    ) -> dict[str, Any]:  # fmt: skip
        """What the ID token says, with what only the userinfo endpoint does."""
        raw = tokens.get("id_token")
        if not isinstance(raw, str):
            raise Refused("the provider sent no ID token", hint="is 'openid' among the scopes?")
        claims = await self._checked(client, about, raw, nonce)
        at, access = str(about.get("userinfo_endpoint", "")), tokens.get("access_token")
        wanted = (self.settings.name_claim, self.settings.groups_claim)
        lacks = any(_claim(claims, name) is None for name in wanted)
        if lacks and urlsplit(at).scheme == "https" and isinstance(access, str):
            headers = {"Authorization": f"Bearer {access}"}
            more = await self._ask(client, "GET", at, headers=headers)
            if more.get("sub") != claims["sub"]:
                raise Refused("the provider's answers are about two people")
            claims = more | claims
        return claims

    async def _checked(
        self, client: aiohttp.ClientSession, about: dict[str, Any], raw: str, nonce: str
    ) -> dict[str, Any]:
        known = self.settings
        registry = jwt.JWTClaimsRegistry(
            now=int(self._wall()), leeway=LEEWAY_S, sub={"essential": True},
            iss={"essential": True, "value": known.issuer},
            aud={"essential": True, "value": known.client_id},
            nonce={"essential": True, "value": nonce},
            exp={"essential": True}, iat={"essential": True},
        )  # fmt: skip
        try:
            try:
                keys = await self._key_set(client, about, fresh=False)
                token = jwt.decode(raw, keys, algorithms=ALGORITHMS)
            except (JoseError, ValueError):  # maybe a key that is newer than those known here
                keys = await self._key_set(client, about, fresh=True)
                token = jwt.decode(raw, keys, algorithms=ALGORITHMS)
            registry.validate(token.claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise Refused(
                f"the provider's ID token is not good: {_words(error)}", hint="begin it again"
            ) from error
        claims, aud = token.claims, token.claims["aud"]
        party = claims.get("azp", known.client_id if isinstance(aud, str) or len(aud) == 1 else "")
        if party != known.client_id or not isinstance(claims["sub"], str) or not claims["sub"]:
            raise Refused("the provider's ID token is for somebody else", hint="begin it again")
        return claims

    def _outsider(self, claims: dict[str, Any]) -> Outsider:
        known = self.settings
        name = _claim(claims, known.name_claim)
        if not isinstance(name, str) or not name:
            raise Refused(
                f"the provider does not say '{known.name_claim}'", hint="see oidc.name_claim"
            )
        groups = _claim(claims, known.groups_claim)
        listed = [groups] if isinstance(groups, str) else groups
        held = [g for g in listed if isinstance(g, str)] if isinstance(listed, list) else []
        subject = f"{known.issuer} {claims['sub']}"
        return Outsider(OIDC, subject, name.lower(), roles_of(held, known.roles))

    # ---- asking

    def _client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), trust_env=True,
            connector=aiohttp.TCPConnector(ssl=context_of(self.settings.ca)),
        )  # fmt: skip

    async def _ask(
        self, client: aiohttp.ClientSession, method: str, url: str, **more: Any
    ) -> dict[str, Any]:
        """An answer that is a JSON object. Raises Unreachable, Refused."""
        try:
            async with client.request(method, url, allow_redirects=False, **more) as answer:
                body = b""
                async for chunk in answer.content.iter_chunked(65536):
                    body += chunk
                    if len(body) > MAX:
                        raise _trouble("its answer is too long")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _trouble(_words(error) or type(error).__name__) from error
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise _trouble(f"{urlsplit(url).path} answered {answer.status} and no JSON object")
        if answer.status != 200:
            words = found.get("error_description") or found.get("error") or answer.status
            raise Refused(f"the provider refuses: {_words(words)}", hint="begin it again")
        return found


def _trouble(what: str) -> OutlastError:
    return Unreachable(
        f"the provider does not answer as it should: {what}",
        hint="users whose password is kept here can log in meanwhile",
    )


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """By its name; with dots, of an object within (realm_access.roles). None: not there."""
    if name in claims:
        return claims[name]
    first, dot, rest = name.partition(".")
    within = claims.get(first) if dot else None
    return _claim(within, rest) if isinstance(within, dict) else None


def _words(said: object) -> str:
    """What somebody outside said, short and printable."""
    return "".join(c for c in str(said) if c.isprintable())[:200]
