"""The provider of the tests as a process, and the settings of a manager that uses it."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

from oidc_provider import CLIENT
from process import free_port

from outlast.manager.config import make_certificate
from outlast.manager.outside import Oidc, Rule

RULES = (Rule(group="vm-operators", role="operator"), Rule(group="boss", role="admin"))


class Outside:
    """The provider's process."""

    def __init__(self, root: Path) -> None:
        make_certificate(root / "tls", ["localhost"])
        self.ca, self.port = root / "tls/cert.pem", free_port()
        self.issuer = f"https://localhost:{self.port}/realm"
        self.secret = root / "secret"
        self.secret.write_text("a client's secret: with/signs\n")
        self.secret.chmod(0o600)
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("oidc_provider.py"), str(self.port),
             self.ca, root / "tls/cert.key"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(self.secret.read_text())
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ready\n"

    def settings(self, **more: Any) -> Oidc:
        known = {
            "issuer": self.issuer, "client_id": CLIENT, "client_secret_file": str(self.secret),
            "address": "https://manager", "ca": str(self.ca), "roles": RULES,
            "label": "Sign in at <work>",
        }  # fmt: skip
        return Oidc(**(known | more))

    def call(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Status, and where it leads."""
        context = ssl.create_default_context(cafile=str(self.ca))
        line = http.client.HTTPSConnection("localhost", self.port, timeout=10, context=context)
        line.request(method, path, body)
        answer = line.getresponse()
        answer.read()
        line.close()
        return answer.status, answer.getheader("Location", "")

    def lie(self, **lies: Any) -> None:
        assert self.call("POST", "/lie", json.dumps(lies))[0] == 200

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
