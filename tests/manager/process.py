"""A manager as a process of its own, set up and asked as people do it: command line and https."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from desk import QUICK, user
from pretend import RealPool

from outlast.manager.accounts import Accounts
from outlast.manager.config import Config, Place, make_certificate
from outlast.manager.passwords import Passwords
from outlast.manager.ports import Grant
from outlast.manager.repository.store import Repository

RUN = "from outlast.cli.main import run; run()"
SRC = Path(__file__).parents[2] / "src"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One management server with folders of its own."""

    def __init__(
        self, root: Path, database: str = "", *, real: RealPool | None = None, **config: Any
    ) -> None:
        """real: a pool to follow; with it or settings it is set up without commands: quicker."""
        self.root, self.port = root, config.pop("port", 0) or free_port()
        root.mkdir(parents=True, exist_ok=True)
        self.trusted = root / "var/manager/tls/cert.pem"
        self.environment = os.environ | {
            "OUTLAST_ETC": str(root / "etc"), "OUTLAST_VAR": str(root / "var"),
            "PYTHONPATH": str(SRC),
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        if real is not None or config:
            place = Place(root / "etc", root / "var/manager")
            place.write(Config(listen=f"127.0.0.1:{self.port}", database=database, **config))
            make_certificate(root / "var/manager/tls", ["127.0.0.1"])
            if real is None:
                return
            place.pool_pki(real.id).parent.mkdir(parents=True)
            place.pool_pki(real.id).symlink_to(real.pki)
            return
        more = ["--database", database] if database else []
        self.init = json.loads(
            self.command("--json", "manager", "init", "--listen", f"127.0.0.1:{self.port}", *more)
        )

    def command(self, *arguments: str, typed: str = "", fails: bool = False) -> str:
        done = subprocess.run(
            [sys.executable, "-c", RUN, *arguments], env=self.environment, input=typed, text=True,
            capture_output=True, timeout=180, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if fails else done.stdout

    def user(self, name: str, *roles: Grant) -> str:
        """A user and a token of all its roles, without commands; before it starts."""
        repository = Repository(f"sqlite:///{self.root}/var/manager/manager.db")
        repository.migrate()
        people = Accounts(repository, passwords=Passwords(QUICK))
        token = asyncio.run(user(people, name, *roles))
        people.close()
        repository.close()
        return token

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, "manager", "run"], env=self.environment,
            stderr=(self.root / "log").open("ab"),
        )  # fmt: skip
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.call("GET", "/api/v1/health")[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        raise AssertionError(self.log)

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    def connect(self, timeout_s: float = 10) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.trusted))
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=timeout_s, context=context
        )

    def call(
        self, method: str, path: str, body: object = None, token: str = "", **headers: str
    ) -> tuple[int, Any]:
        connection = self.connect()
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        sent |= {k.replace("_", "-"): v for k, v in headers.items()}
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        return answer.status, json.loads(raw) if raw else None

    def stream(self, token: str, last: str = "") -> Iterator[str]:
        """Lines of the stream of changes, until it ends."""
        connection = self.connect()
        headers = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": last} if last else {})
        connection.request("GET", "/api/v1/events/stream", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200
        for line in answer:
            yield line.decode().rstrip("\n")
        connection.close()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None
