"""A small OpenID Connect provider as a process of its own, over TLS; strict, and able to lie.

    python oidc_provider.py PORT CERT KEY     (SECRET of the client comes on stdin)

Rules:
1. It checks what the standards have it check: the client's secret, redirect_uri, PKCE (S256), codes
   that are good once. Whoever does not keep to them gets no token.
2. Signatures are made with `cryptography`, not with the library that checks them.
3. POST /lie takes JSON that says how the next answers differ from the truth; {} ends it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import ssl
import sys
import time
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT = "outlast manager"
KEYS = {name: rsa.generate_private_key(65537, 2048) for name in ("one", "other")}
PERSON: dict[str, Any] = {
    "sub": "4711", "preferred_username": "Olga", "groups": ["vm-operators", "choir"],
}  # fmt: skip


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def public(name: str) -> dict[str, str]:
    numbers = KEYS[name].public_key().public_numbers()
    n, e = (b64(v.to_bytes((v.bit_length() + 7) // 8, "big")) for v in (numbers.n, numbers.e))
    return {"kty": "RSA", "kid": name, "use": "sig", "n": n, "e": e}


def signed(claims: dict[str, Any], alg: str, key: str, kid: str, secret: str) -> str:
    head = b64(json.dumps({"alg": alg, "kid": kid}).encode())
    body = f"{head}.{b64(json.dumps(claims).encode())}"
    if alg == "none":
        return f"{body}."
    if alg == "HS256":  # with what everybody can know, or what both know
        shared = json.dumps(public("one")).encode() if key == "public" else secret.encode()
        return f"{body}.{b64(hmac.digest(shared, body.encode(), 'sha256'))}"
    made = KEYS[key].sign(body.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{body}.{b64(made)}"


class Handler(BaseHTTPRequestHandler):
    secret = ""
    lies: ClassVar[dict[str, Any]] = {}
    codes: ClassVar[dict[str, dict[str, str]]] = {}
    access: ClassVar[set[str]] = set()

    @property
    def issuer(self) -> str:
        return f"https://localhost:{self.server.server_address[1]}/realm"

    def do_GET(self) -> None:
        at = urlsplit(self.path)
        query = dict(parse_qsl(at.query))
        if at.path == "/realm/.well-known/openid-configuration":
            names = {n: f"{self.issuer}/{n}" for n in ("authorize", "token", "jwks", "userinfo")}
            self._say(
                {"issuer": self.issuer, "authorization_endpoint": names["authorize"],
                 "token_endpoint": names["token"], "jwks_uri": names["jwks"],
                 "userinfo_endpoint": names["userinfo"]} | self.lies.get("about", {})
            )  # fmt: skip
        elif at.path == "/realm/jwks":
            self._say({"keys": [public(name) for name in self.lies.get("jwks", ["one"])]})
        elif at.path == "/realm/authorize":
            self._authorize(query)
        elif at.path == "/realm/userinfo":
            good = self.headers.get("Authorization", "").removeprefix("Bearer ") in self.access
            self._say(PERSON | self.lies.get("userinfo", {}) if good else {"error": "no"},
                      200 if good else 401)  # fmt: skip
        else:
            self._say({"error": "nothing here"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/lie":
            type(self).lies = json.loads(body)
            self._say({})
        elif self.path == "/realm/token":
            self._token(dict(parse_qsl(body)))
        else:
            self._say({"error": "nothing here"}, 404)

    def _authorize(self, query: dict[str, str]) -> None:
        """Whoever comes is Olga, who consents at once, or by a click with the lie `page`."""
        right = {"response_type": "code", "client_id": CLIENT, "code_challenge_method": "S256"}
        if any(query.get(name) != value for name, value in right.items()) or not all(
            query.get(name) for name in ("redirect_uri", "state", "nonce", "code_challenge")
        ):
            self._say({"error": "invalid_request"}, 400)
            return
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        sent = {"code": code, "state": query["state"]} | self.lies.get("back", {})
        back = f"{query['redirect_uri']}?{urlencode(sent)}"
        page = f'<a href="{escape(back)}">Yes, I am Olga</a>' if self.lies.get("page") else ""
        self.send_response(200 if page else 302)
        self.send_header("Location", back)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page.encode())

    def _token(self, form: dict[str, str]) -> None:
        kind, _, pair = self.headers.get("Authorization", "").partition(" ")
        name, _, said = base64.b64decode(pair or "").decode().partition(":")
        client = (unquote(name), unquote(said)) if kind == "Basic" else ("", "")
        begun = self.codes.pop(form.get("code", ""), None)
        challenge = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if client != (CLIENT, self.secret):
            self._say({"error": "invalid_client"}, 401)
        elif form.get("grant_type") != "authorization_code" or begun is None:
            self._say({"error": "invalid_grant"}, 400)
        elif (begun["code_challenge"], begun["redirect_uri"]) != (
            challenge, form.get("redirect_uri"),
        ):  # fmt: skip
            self._say({"error": "invalid_grant", "error_description": "PKCE"}, 400)
        else:
            self._say(self._tokens(begun))

    def _tokens(self, begun: dict[str, str]) -> dict[str, Any]:
        lies, now = self.lies, int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300,
                  "nonce": begun["nonce"], "sub": PERSON["sub"]}  # fmt: skip
        claims |= lies.get("claims", {})
        claims = {name: value for name, value in claims.items() if value is not None}
        token = signed(claims, lies.get("alg", "RS256"), lies.get("key", "one"),
                       lies.get("kid", "one"), self.secret)  # fmt: skip
        access = secrets.token_urlsafe(16)
        self.access.add(access)
        return {"access_token": access, "token_type": "Bearer", "id_token": token}

    def _say(self, body: dict[str, Any], status: int = 200) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    port, cert, key = sys.argv[1:]
    Handler.secret = sys.stdin.readline().strip()
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
