"""A small Redfish service: one computer with a power button, as a BMC offers it, over TLS.

Only what a fence agent asks for; it keeps what it was asked. `obeys` False: it says "done" and does
nothing, as a broken BMC does.
"""

from __future__ import annotations

import base64
import datetime
import http.server
import json
import ssl
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

USER, PASSWORD = "root", "s3cret-of-the-bmc"
SYSTEM = "/redfish/v1/Systems/1"


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bmc")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "bmc.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Bmc(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.power, self.obeys = "On", True
        self.asked: list[str] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(folder))
        self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def options(self) -> tuple[str, ...]:
        """What a fence agent must be told to reach it; the password is no option."""
        return (f"ip={self.server_address[0]!s}", f"ipport={self.port}", f"username={USER}",
                "ssl_insecure=1", f"systems_uri={SYSTEM}")  # fmt: skip

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed in the middle of a question is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Bmc

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, code: int, body: object = None) -> None:
        data = json.dumps(body).encode() if body is not None else b""
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _known(self) -> bool:
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {wanted}":
            return True
        self._answer(401, {"error": {"message": "who are you?"}})
        return False

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        path = self.path.rstrip("/")
        if path == "/redfish/v1":
            self._answer(200, {"Systems": {"@odata.id": "/redfish/v1/Systems"}})
        elif not self._known():
            return
        elif path == SYSTEM:
            target = f"{SYSTEM}/Actions/ComputerSystem.Reset"
            self._answer(200, {
                "PowerState": self.server.power,
                "Actions": {"#ComputerSystem.Reset": {
                    "target": target,
                    "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "ForceRestart"],
                }},
            })  # fmt: skip
        else:
            self._answer(404)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        self.server.asked.append(f"POST {body.get('ResetType')}")
        if self._known():
            if self.server.obeys:
                self.server.power = "Off" if body.get("ResetType") == "ForceOff" else "On"
            self._answer(204)
