"""Who may give a VM its memory: a real QEMU that waits for one, started by the wrapper."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.cli import qemu_tls
from outlast.guard import emulator
from outlast.wire import seal

QEMU = shutil.which("qemu-system-x86_64") or ""
WAIT_S = 60.0
pytestmark = pytest.mark.skipif(not QEMU, reason="needs qemu-system-x86")


class Waiting:
    """A QEMU that waits for a VM over TLS."""

    def __init__(self, wrapper: Path, pki: Path) -> None:
        tls = f"tls-creds-x509,id=tls,dir={pki},endpoint=server,verify-peer=on"
        self.process = subprocess.Popen(
            [wrapper, "-name", "guest=web", "-M", "none", "-nodefaults", "-display", "none", "-S",
             "-incoming", "defer", "-object", tls, "-qmp", "stdio"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._end = threading.Timer(WAIT_S, self.process.kill)
        self._end.start()
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self._ask("qmp_capabilities")
        self._ask("migrate-set-parameters", **{"tls-creds": "tls"})
        self._ask("migrate-incoming", uri="tcp:127.0.0.1:0")
        (address,) = self._ask("query-migrate")["socket-address"]
        self.port = int(address["port"])

    def _ask(self, word: str, **arguments: object) -> dict:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"execute": word, "arguments": arguments}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        while "return" not in (said := json.loads(self.process.stdout.readline())):
            assert "event" in said, said
        return said["return"]

    def told(self, holder: Path) -> str:
        """What it says when somebody with this certificate sends it nonsense for a VM."""
        context = ssl.create_default_context(cafile=str(holder / seal.CA_CERT))
        context.check_hostname = False
        context.load_cert_chain(holder / seal.CERT, holder / seal.KEY)
        raw = socket.create_connection(("127.0.0.1", self.port), WAIT_S)
        with contextlib.suppress(OSError), context.wrap_socket(raw) as link:
            link.sendall(b"nonsense" * 512)
            while link.recv(4096):
                pass
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def close(self) -> None:
        self._end.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host with its certificates, and a guard that says yes."""
    monkeypatch.setenv("OUTLAST_ETC", str(tmp_path / "etc"))
    (tmp_path / "pool/pki").mkdir(parents=True)
    seal.create_authority(tmp_path / "pool/pki")
    assert qemu_tls.install(tmp_path / "pool/pki", "b", "u", ("127.0.0.1",)) == ""
    with socket.socket(socket.AF_UNIX) as guard:
        guard.bind(str(tmp_path / "guard"))
        guard.listen()

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    asker, _ = guard.accept()
                    with asker:
                        asker.recv(4096)
                        asker.sendall(b'{"ok": true}\n')

        threading.Thread(target=answer, daemon=True).start()
        yield tmp_path
        guard.shutdown(socket.SHUT_RDWR)


def told(place: Path, role: str, pool_ca: str) -> str:
    holder = place / "holder"
    holder.mkdir()
    pki = place / "pool/pki"
    key, cert = seal.issue_host(pki, "a", "u", ("127.0.0.1",), role)
    for name, data in ((seal.KEY, key), (seal.CERT, cert), (seal.CA_CERT, b"")):
        (holder / name).write_bytes(data or (pki / seal.CA_CERT).read_bytes())
    emulator.install(
        place / "wrapper", socket=str(place / "guard"), qemu=QEMU, pool_ca=pool_ca,
        qemu_ca=str(seal.qemu_folder() / seal.QEMU_CA),
    )  # fmt: skip
    waiting = Waiting(place / "wrapper", seal.qemu_folder())
    try:
        return waiting.told(holder)
    finally:
        waiting.close()


@pytest.mark.parametrize("role", ["host", "admin", "monitor"])
def test_only_the_qemu_of_another_host_is_listened_to(place: Path, role: str) -> None:
    assert "is denied" in told(place, role, str(place / "pool/pki/ca.pem"))


def test_the_qemu_of_another_host_is_listened_to(place: Path) -> None:
    assert "Not a migration stream" in told(place, seal.QEMU, str(place / "pool/pki/ca.pem"))


def test_with_an_administrators_authority_qemu_asks_no_more_than_that(place: Path) -> None:
    (place / "ca.pem").write_text("another one")
    assert "Not a migration stream" in told(place, "host", str(place / "ca.pem"))
