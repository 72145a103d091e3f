"""A real etcd for tests: members as own processes on loopback, certificates on both sides."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID as Use
from cryptography.x509.oid import NameOID

from outlast.storage.etcd import Etcd
from outlast.storage.etcd_access import Access

START_S = 20.0
HOST = "127.0.0.1"


class EtcdProcess:
    """One cluster, running in a `with`. Members have the numbers 0, 1, ...; nothing is left."""

    def __init__(self, folder: Path, members: int = 1, *options: str) -> None:
        self.folder, self.options = folder, options
        self.pki = folder / "pki"
        make_pki(self.pki, HOST)
        ports = _free_ports(2 * members)
        self.clients = [f"https://{HOST}:{port}" for port in ports[:members]]
        self.peers = [f"http://{HOST}:{port}" for port in ports[members:]]
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._paused: set[int] = set()

    def __enter__(self) -> EtcdProcess:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def access(self, pool: str, answer_s: float = 2.0) -> Access:
        return Access(tuple(self.clients), str(self.pki), pool, answer_s)

    def etcd(self, pool: str, *only: int, answer_s: float = 2.0) -> Etcd:
        """A client of all members, or of these only, in this order."""
        urls = tuple(self.clients[n] for n in only) or tuple(self.clients)
        return Etcd(Access(urls, str(self.pki), pool, answer_s))

    def start(self, *members: int) -> None:
        """Start these members, all by default, and wait until each answers."""
        wanted = members or tuple(range(len(self.clients)))
        for member in wanted:
            self._running[member] = self._spawn(member)
        for member in wanted:
            wait(lambda m=member: self.etcd("x", m).get("x").revision == 0, "etcd does not start")

    def kill(self, member: int) -> None:
        process = self._running.pop(member)
        process.kill()
        process.wait()

    def pause(self, member: int) -> None:
        self._running[member].send_signal(signal.SIGSTOP)
        self._paused.add(member)

    def resume(self, member: int) -> None:
        self._running[member].send_signal(signal.SIGCONT)
        self._paused.discard(member)

    @property
    def lost(self) -> list[int]:
        """The members that do not run."""
        return [n for n in range(len(self.clients)) if n not in self._running]

    def leader(self) -> int:
        """The number of the member that leads, as soon as one does."""
        leading: list[int] = []

        def found() -> bool:
            for member in self._running:
                if member not in self._paused:
                    said = self.etcd("x", member).call("/v3/maintenance/status", {})
                    if said.get("leader") == said["header"]["member_id"]:
                        leading.append(member)
            return bool(leading)

        wait(found, "nobody leads")
        return leading[0]

    def end(self) -> None:
        for member in tuple(self._running):
            self.kill(member)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _spawn(self, member: int) -> subprocess.Popen[bytes]:
        every = ",".join(f"m{n}={url}" for n, url in enumerate(self.peers))
        argv = [
            "etcd", "--name", f"m{member}", "--data-dir", str(self.folder / f"m{member}"),
            "--listen-client-urls", self.clients[member],
            "--advertise-client-urls", self.clients[member],
            "--listen-peer-urls", self.peers[member],
            "--initial-advertise-peer-urls", self.peers[member], "--initial-cluster", every,
            "--heartbeat-interval", "100", "--election-timeout", "1000", "--client-cert-auth",
            "--trusted-ca-file", str(self.pki / "ca.pem"),
            "--cert-file", str(self.pki / "cert.pem"), "--key-file", str(self.pki / "cert.key"),
            *self.options,
        ]  # fmt: skip
        log = (self.folder / f"m{member}.log").open("ab")
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        with log:
            return subprocess.Popen(argv, stdout=log, stderr=log, env=env, cwd=self.folder)


def wait(happened: Callable[[], bool], otherwise: str, timeout_s: float = START_S) -> None:
    end, said = time.monotonic() + timeout_s, ""
    while True:
        try:
            if happened():
                return
        except Exception as trouble:
            said = str(trouble)
        assert time.monotonic() < end, f"{otherwise}: {said}"
        time.sleep(0.05)


def make_pki(folder: Path, *addresses: str) -> None:
    """An authority and one certificate, good for servers and clients at these addresses."""
    folder.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("etcd of a test")
    ca = _signed(name, name, key, key, x509.BasicConstraints(True, None))
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    _write_key(folder / "ca.key", key)
    renew(folder, folder, *addresses)


def renew(authority: Path, folder: Path, *addresses: str, days: float = 1) -> None:
    """A new certificate in `folder` of the authority in that other one; below 0: it has ended."""
    ca = x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes())
    ca_key = load_pem_private_key((authority / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    cert = _signed(
        _named("host"), ca.subject, key, ca_key, x509.BasicConstraints(False, None),
        x509.ExtendedKeyUsage([Use.SERVER_AUTH, Use.CLIENT_AUTH]),
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]),
        days=days,
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    _write_key(folder / "cert.key", key)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _signed(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType, days: float = 1,
) -> x509.Certificate:  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(by, hashes.SHA256())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
