"""Imports from addresses: a real server that breaks off, changes its file, lies and leads away."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import image_files as make
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from image_shop import Shop

from outlast.errors import InvalidInput, NotFound, OutlastError, StorageTrouble, Unreachable
from outlast.images import fetch
from outlast.images.clean import clean
from outlast.images.library import Library


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Shop]:
    monkeypatch.setattr(fetch, "PAUSE_S", 0.01)
    server = Shop()
    server.data = make.raw(tmp_path / "sold.img").read_bytes()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def digest(shop: Shop) -> str:
    return hashlib.sha256(shop.data).hexdigest()


def taken(shop: Shop, pool_dir: Path, tmp_path: Path, url: str = "") -> None:
    """Import it; the disk must be what the shop sells."""
    library = Library(pool_dir)
    image = library.take("web", url or shop.url(), sha256=digest(shop), rate_bytes_s=0)
    (tmp_path / "now.img").write_bytes(shop.data)
    assert make.same_disk(tmp_path / "now.img", "raw", library.files(image)[0], "qcow2")
    assert [p.name for p in library.folder.iterdir()] == ["web"]


def test_a_broken_connection_goes_on_where_it_was(
    shop: Shop, pool_dir: Path, tmp_path: Path
) -> None:
    shop.breaks = [100_000, 0, 300_001]
    taken(shop, pool_dir, tmp_path)
    assert shop.asked == ["", "bytes=100000-", "bytes=100000-", "bytes=400001-"]


def test_the_next_try_goes_on_with_what_the_last_one_fetched(
    shop: Shop, pool_dir: Path, tmp_path: Path
) -> None:
    shop.breaks = [500_000] + [0] * fetch.TRIES
    with pytest.raises(Unreachable, match="broke off 5 times"):
        Library(pool_dir).take("web", shop.url(), sha256=digest(shop), rate_bytes_s=0)
    assert Library(pool_dir).all() == []
    shop.asked.clear()
    taken(shop, pool_dir, tmp_path)
    assert shop.asked == ["bytes=500000-"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(
    shop: Shop, pool_dir: Path, tmp_path: Path
) -> None:
    shop.breaks = [500_000] + [0] * fetch.TRIES
    with pytest.raises(Unreachable):
        Library(pool_dir).take("web", shop.url(), sha256=digest(shop), rate_bytes_s=0)
    shop.data, shop.mark = make.raw(tmp_path / "newer.img").read_bytes(), '"v2"'
    taken(shop, pool_dir, tmp_path)


def test_a_server_without_ranges_sends_it_whole(shop: Shop, pool_dir: Path, tmp_path: Path) -> None:
    shop.breaks, shop.ranges = [500_000], False
    taken(shop, pool_dir, tmp_path)


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ({"says": 404}, NotFound, "the server says 404"),
        ({"says": 503}, Unreachable, "the server says 503"),
        ({"length": 1 << 60}, StorageTrouble, "there is room for"),
        ({"data": b"something else"}, InvalidInput, "is damaged, or not the file|The SHA|SHA-256"),
    ],
)
def test_a_server_that_does_not_deliver(
    shop: Shop, pool_dir: Path, how: dict[str, object], kind: type[OutlastError], words: str
) -> None:
    known = digest(shop)
    for name, value in how.items():
        setattr(shop, name, value)
    with pytest.raises(kind, match=words):
        Library(pool_dir).take("web", shop.url(), sha256=known, rate_bytes_s=0)
    assert Library(pool_dir).all() == []


def test_a_part_that_nobody_wants_any_more_is_cleaned(
    shop: Shop, pool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.breaks = [500_000] + [0] * fetch.TRIES
    with pytest.raises(Unreachable):
        Library(pool_dir).take("web", shop.url(), sha256=digest(shop), rate_bytes_s=0)
    monkeypatch.setattr("outlast.images.work.STILL_S", -1.0)  # as if it was long ago
    assert [left.name for left in clean(pool_dir)] == ["web"]
    assert list((pool_dir / "images/library").iterdir()) == []


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


def test_over_https_the_server_must_be_who_it_says(
    shop: Shop, pool_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    plain = Shop()
    plain.data = shop.data
    plain.socket = context.wrap_socket(plain.socket, server_side=True)
    threading.Thread(target=plain.serve_forever, args=(0.02,), daemon=True).start()
    try:
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            Library(pool_dir).take("web", plain.url("https"), rate_bytes_s=0)
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        taken(shop, pool_dir, tmp_path, plain.url("https"))
        plain.to = shop.url("http")
        with pytest.raises(InvalidInput, match="leads away from https"):
            Library(pool_dir).take("other", plain.url("https"), rate_bytes_s=0)
    finally:
        plain.shutdown()
        plain.server_close()


def test_what_is_refused_is_not_kept(shop: Shop, pool_dir: Path) -> None:
    shop.data = b"<!DOCTYPE html>" + shop.data
    with pytest.raises(InvalidInput, match=f"^{shop.url()} is a page of the web"):
        Library(pool_dir).take("web", shop.url(), sha256=digest(shop), rate_bytes_s=0)
    assert list((pool_dir / "images/library").iterdir()) == []
    shop.data = shop.data[15:]
    with pytest.raises(InvalidInput, match="SHA-256"):
        Library(pool_dir).take("web", shop.url(), sha256="0" * 64, rate_bytes_s=0)
    assert list((pool_dir / "images/library").iterdir()) == []
