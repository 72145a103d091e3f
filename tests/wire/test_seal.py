"""The pool's PKI with real TLS on loopback."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from outlast.errors import Conflict, InvalidInput, NotFound, Refused, StorageTrouble
from outlast.wire import seal


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    folder = tmp_path / "pool-pki"
    folder.mkdir()
    seal.create_authority(folder, "lab")
    return folder


def holder(authority: Path, where: Path, name: str = "a", **more: object) -> Path:
    addresses = ["127.0.0.1:7791"]
    key, cert = seal.issue_host(authority, name, f"uuid-{name}", addresses, **more)  # type: ignore[arg-type]
    seal.install(where, authority, key, cert)
    return where


def talk(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1"
) -> tuple[dict[str, object], dict[str, object]]:
    """One exchange; what each side saw of the other. Raises what the client met."""
    seen: dict[str, object] = {}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def serve() -> None:
            try:
                raw, _ = listener.accept()
                with server.wrap_socket(raw, server_side=True) as peer:
                    seen.update(peer.getpeercert() or {})
                    peer.sendall(peer.recv(10))
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            raw = socket.create_connection(listener.getsockname(), timeout=5)
            with client.wrap_socket(raw, server_hostname=name) as there:
                there.sendall(b"hello")
                assert there.recv(10) == b"hello", "the server hung up"
                assert there.version() == "TLSv1.3"
                return seen, dict(there.getpeercert() or {})
        finally:
            thread.join()


def test_two_holders_of_a_pool_know_each_other(authority: Path, tmp_path: Path) -> None:
    a = holder(authority, tmp_path / "a")
    b = holder(authority, tmp_path / "b", "b", role="manager")
    at_server, at_client = talk(seal.server_context(a), seal.client_context(b))
    assert (seal.peer_role(at_server), seal.peer_name(at_server)) == ("manager", "b")
    assert (seal.peer_role(at_client), seal.peer_name(at_client)) == ("host", "a")
    talk(seal.server_context(a), seal.client_context(b), "a")


def test_another_pools_certificate_is_refused_by_both(authority: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    seal.create_authority(other, "lab")
    a, b = holder(authority, tmp_path / "a"), holder(other, tmp_path / "b", "b")
    with pytest.raises(ssl.SSLCertVerificationError):
        talk(seal.server_context(a), seal.client_context(b))
    trusting = seal.client_context(b)
    trusting.load_verify_locations(authority / "ca.pem")
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        talk(seal.server_context(a), trusting)


def test_no_certificate_is_refused(authority: Path, tmp_path: Path) -> None:
    a = holder(authority, tmp_path / "a")
    bare = ssl.create_default_context(cafile=str(authority / "ca.pem"))
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        talk(seal.server_context(a), bare)


def test_an_expired_certificate_is_refused(authority: Path, tmp_path: Path) -> None:
    a = holder(authority, tmp_path / "a")
    old = holder(authority, tmp_path / "old", "old", days=-0.5)
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        talk(seal.server_context(a), seal.client_context(old))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        talk(seal.server_context(old), seal.client_context(a))


def test_a_host_cannot_pass_for_another(authority: Path, tmp_path: Path) -> None:
    a = holder(authority, tmp_path / "a")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        talk(seal.server_context(a), seal.client_context(a), "b")


def test_tls_1_2_is_refused(authority: Path, tmp_path: Path) -> None:
    a = holder(authority, tmp_path / "a")
    old = seal.client_context(a)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        talk(seal.server_context(a), old)


def test_a_holder_cannot_issue(authority: Path, tmp_path: Path) -> None:
    """A host's certificate signs nothing: the chain through it is refused."""
    a = holder(authority, tmp_path / "a")
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "ca.key").write_bytes((a / "cert.key").read_bytes())
    (fake / "ca.pem").write_bytes((a / "cert.pem").read_bytes())
    key, cert = seal.issue_host(fake, "evil", "u", ["127.0.0.1"], "admin")
    chain = cert + (a / "cert.pem").read_bytes()
    evil = tmp_path / "evil"
    seal.install(evil, authority, key, chain)
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        talk(seal.server_context(a), seal.client_context(evil))


def test_private_keys_are_private(authority: Path, tmp_path: Path) -> None:
    os.umask(0o022)
    a = holder(authority, tmp_path / "a")
    for path in (authority / "ca.key", a / "cert.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(a.stat().st_mode) == 0o700
    there = ["ca.pem", "cert.json", "cert.key", "cert.pem", "crl.pem"]
    assert sorted(p.name for p in a.iterdir()) == there


def test_openssl_agrees(authority: Path, tmp_path: Path) -> None:
    a = holder(authority, tmp_path / "a")
    said = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", authority / "ca.pem", a / "cert.pem"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_second_authority_is_refused(authority: Path) -> None:
    before = (authority / "ca.pem").read_bytes()
    with pytest.raises(Conflict):
        seal.create_authority(authority)
    assert (authority / "ca.pem").read_bytes() == before


def test_bad_input_is_named(authority: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no role 'king'"):
        seal.issue_host(authority, "a", "u", [], "king")
    with pytest.raises(InvalidInput, match="not an IP address"):
        seal.issue_host(authority, "a", "u", ["example.org:1"])
    with pytest.raises(StorageTrouble):
        seal.issue_host(tmp_path, "a", "u", [])
    with pytest.raises(StorageTrouble):
        seal.create_authority(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="no certificate"):
        seal.client_context(tmp_path)
    (authority / "ca.key").write_bytes(b"garbage")
    with pytest.raises(StorageTrouble, match="damaged"):
        seal.issue_host(authority, "a", "u", [])
    with pytest.raises(Refused):
        seal.peer_role(None)
    with pytest.raises(Refused):
        seal.peer_role({"subject": ((("organizationalUnitName", "root"),),)})
