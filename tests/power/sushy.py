"""A BMC that speaks Redfish: the emulator of sushy-tools, with a power button of ours behind it.

It notifies somebody outside of what it was asked for, and says that it is so a second later. (Left
alone it takes up to eleven seconds at random; the timing `quick` has no room for that.)
"""

from __future__ import annotations

import contextlib
import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import bcrypt
from redfish import PASSWORD as PASSWORD
from redfish import USER, certificate

SYSTEM = str(uuid.UUID(int=7))
START_S = 60.0
RUN = "import random; random.randint = min; from sushy_tools.emulator.main import main; main()"
CONFIG = """\
SUSHY_EMULATOR_LISTEN_IP = {address!r}
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_SSL_CERT = SUSHY_EMULATOR_SSL_KEY = {certificate!r}
SUSHY_EMULATOR_AUTH_FILE = {passwords!r}
SUSHY_EMULATOR_STATE_DIR = {folder!r}
SUSHY_EMULATOR_FAKE_DRIVER = True
SUSHY_EMULATOR_FAKE_SYSTEMS = [
    dict(uuid={system!r}, name="host", power_state="On", external_notifier=True, nics=[]),
]
EXTERNAL_NOTIFICATION_URL = "http://{address}:{button}"
"""


class SushyBmc:
    """Runs in a `with`. act: told "off" or "on", as the button is pressed."""

    def __init__(
        self, folder: Path, address: str = "127.0.0.1", act: Callable[[str], object] = str
    ) -> None:
        self.address, self.pressed = address, list[str]()
        self._folder, self._act = folder / "sushy", act
        self._folder.mkdir()
        self._button = http.server.ThreadingHTTPServer((address, 0), self._handler())
        with socket.create_server((address, 0)) as free:
            self.port = int(free.getsockname()[1])
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode().replace("$2b", "$2y")
        (self._folder / "passwords").write_text(f"{USER}:{hashed}\n")
        (self._folder / "config").write_text(CONFIG.format(
            address=address, port=self.port, button=self._button.server_address[1], system=SYSTEM,
            certificate=str(certificate(self._folder)), folder=str(self._folder),
            passwords=str(self._folder / "passwords"),
        ))  # fmt: skip
        self._emulator: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SushyBmc:
        threading.Thread(target=self._button.serve_forever, args=(0.05,), daemon=True).start()
        with (self._folder / "log").open("wb") as log:
            self._emulator = subprocess.Popen(
                [sys.executable, "-c", RUN, "--config", str(self._folder / "config")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._emulator is not None
        self._emulator.kill()
        self._emulator.wait()
        self._button.shutdown()
        self._button.server_close()

    def wait(self) -> None:
        """Until it can be asked."""
        end = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection((self.address, self.port), START_S).close()
                return
            assert time.monotonic() < end, self.asked
            time.sleep(0.1)

    def fall_silent(self) -> None:
        """As without power: it takes calls and answers none."""
        assert self._emulator is not None
        self._emulator.send_signal(signal.SIGSTOP)

    @property
    def asked(self) -> str:
        """What it wrote about those who asked it."""
        return (self._folder / "log").read_text()

    def options(self) -> tuple[str, ...]:
        """What a fence agent must be told to reach it; the password is no option."""
        return (f"ip={self.address}", f"ipport={self.port}", f"username={USER}", "ssl_insecure=1",
                f"systems_uri=/redfish/v1/Systems/{SYSTEM}")  # fmt: skip

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        bmc = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_PUT(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if wished := told.get("pending_power"):
                    bmc.pressed.append(wished["power_state"].lower())
                    bmc._act(bmc.pressed[-1])
                self.send_response(204)
                self.end_headers()

        return Handler
