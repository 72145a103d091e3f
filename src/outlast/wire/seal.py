"""The pool's own PKI: one authority per pool, one certificate per host and for each of its callers.

Promises:
1. A context made here speaks TLS 1.3 only, trusts this pool's authority and nobody else, and
   demands a certificate from the other side as well.
2. What a caller may do stands in its certificate (`peer_role`), one of ROLES.
3. Private keys are born with mode 0600, never pass a world-readable state, an argv or a log.
4. The authority's certificate appears last: where there is a ca.pem, its key is complete.

Rules: EC P-256; certificates are valid from a day before their birth, so that clocks may differ.
A holder has ca.pem, cert.pem and cert.key in `/etc/outlast/pki`, the pool ca.pem and ca.key.

5. What was revoked (revocation.py) is refused by both sides wherever the list, crl.pem, lies beside
   ca.pem. QEMU has certificates of its own, with a role that agents refuse.

`cryptography` is imported only where something is signed, or a foreign certificate is read:
contexts need `ssl` alone.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import ssl
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast.errors import Conflict, InvalidInput, NotFound, Refused, StorageTrouble
from outlast.wire import revocation
from outlast.wire.files import trouble
from outlast.wire.files import write_file as write_file

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

PEOPLE = ("admin", "manager", "monitor")  # of callers that are no host
ROLES = ("host", *PEOPLE)
QEMU = "qemu"  # the role of QEMU's certificate: good for the memory of VMs on its way only
CA_CERT, CA_KEY = "ca.pem", "ca.key"
CERT, KEY = "cert.pem", "cert.key"
CRL, ABOUT = "crl.pem", "cert.json"
QEMU_CA = "ca-cert.pem"  # the authority's, under the name that QEMU looks for
AUTHORITY_DAYS = 365 * 30
HOLDER_DAYS = 365 * 10
EARLY = timedelta(days=1)


def create_authority(folder: Path, pool: str = "pool") -> None:
    """Make the authority of a new pool in an existing folder.

    Raises Conflict when there is one, StorageTrouble when it cannot be written.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    if (folder / CA_CERT).exists():
        raise Conflict(f"{folder} has a certificate authority already")
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("authority", f"outlast pool {pool}"[:64])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    start = datetime.now(UTC) - EARLY
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    cert = builder.sign(key, hashes.SHA256())
    write_file(folder / CA_KEY, _key_pem(key), 0o600)
    write_file(folder / CRL, revocation.signed_list(key, cert, set()), 0o644)
    write_file(folder / CA_CERT, _pem(cert), 0o644)


def issue_host(
    folder: Path, host: str, uuid: str, addresses: Iterable[str], role: str = "host",
    days: float = HOLDER_DAYS, names: Iterable[str] = (),
) -> tuple[bytes, bytes]:  # fmt: skip
    """A new key and certificate, both PEM, signed by the authority in `folder`.

    addresses: IP addresses, with or without a port; names: of DNS, or IP addresses. With `host`
    they are what it serves as.
    Raises InvalidInput for an unknown role or a bad address, StorageTrouble without an authority.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID as Use

    if role not in (*ROLES, QEMU):
        raise InvalidInput(f"there is no role '{role}'", hint="one of: " + ", ".join(ROLES))
    others = [served_as(name) for name in dict.fromkeys((host, *names))]
    others += [x509.IPAddress(_ip(address)) for address in sorted(set(addresses))]
    ca_key, ca = authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    ca_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    start = datetime.now(UTC) - EARLY
    cert = (
        x509.CertificateBuilder()
        .subject_name(_name(role, host, uuid))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + EARLY + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([Use.SERVER_AUTH, Use.CLIENT_AUTH]), False)
        .add_extension(x509.SubjectAlternativeName(others), critical=False)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    revocation.record(folder, host, role, cert)
    return _key_pem(key), _pem(cert)


def served_as(name: str) -> x509.GeneralName:
    """How a certificate says a name of DNS or an IP address. Raises InvalidInput."""
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if not name or not name.isascii() or not name.isprintable() or " " in name:
            raise InvalidInput(f"{name[:80]!r} is no name and no IP address") from None
        return x509.DNSName(name)


def install(folder: Path, ca_folder: Path, key: bytes, cert: bytes) -> None:
    """Put a holder's key, certificate and the authority's certificate into its own folder.

    Raises StorageTrouble when one of the folders cannot be read or written.
    """
    from cryptography import x509

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = (ca_folder / CA_CERT).read_bytes()
        revoked = (ca_folder / CRL).read_bytes() if (ca_folder / CRL).exists() else b""
    except OSError as error:
        raise trouble(error) from error
    made = x509.load_pem_x509_certificate(cert)
    about = {"serial": f"{made.serial_number:040x}",
             "not_after_wall_s": made.not_valid_after_utc.timestamp()}  # fmt: skip
    write_file(folder / KEY, key, 0o600)
    write_file(folder / CERT, cert, 0o644)
    write_file(folder / ABOUT, json.dumps(about).encode(), 0o644)
    if revoked:
        write_file(folder / CRL, revoked, 0o644)
    write_file(folder / CA_CERT, authority, 0o644)


def revoke(folder: Path, names: set[str]) -> list[revocation.Issued]:
    """Revoke all certificates of these names or serials; see revocation.py.

    Raises NotFound, StorageTrouble.
    """
    key, ca = authority(folder)
    return revocation.revoke(folder, names, key, ca)


def server_context(folder: Path) -> ssl.SSLContext:
    """For the listening side: shows the holder's certificate, demands one of this pool.

    Raises NotFound when the files are missing, InvalidInput when they are damaged.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, folder)
    return context


def client_context(folder: Path) -> ssl.SSLContext:
    """For the calling side: checks the name it called and the pool's authority. Raises the same."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = True
    _harden(context, folder)
    return context


def refresh(context: ssl.SSLContext, folder: Path) -> None:
    """Take a new certificate, or a longer list of revoked ones, into a context that is in use.

    Connections that are open stay. Raises as server_context does.
    """
    _harden(context, folder)


def fingerprint(certificate: Path) -> str:
    """The first 128 bits of a certificate's SHA-256, hex. Raises NotFound, InvalidInput."""
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    except OSError as error:
        raise NotFound(
            f"{certificate}: {error.strerror}", hint="is the storage mounted?"
        ) from error
    except ValueError as error:
        raise InvalidInput(f"{certificate} is damaged") from error
    return hashlib.sha256(der).hexdigest()[:32]


def days_left(folder: Path, now_wall_s: float) -> float | None:
    """How long the holder's certificate is still good; None when that is not known."""
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        return (float(about["not_after_wall_s"]) - now_wall_s) / 86400
    except (OSError, ValueError, KeyError, TypeError):
        return None


def days_of(certificate: Path, now_wall_s: float) -> float | None:
    """The same of one certificate, whoever made it."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return None
    return (found.not_valid_after_utc.timestamp() - now_wall_s) / 86400


def peer_role(peercert: Mapping[str, Any] | None) -> str:
    """The role in a peer's certificate, as `SSLSocket.getpeercert()` gives it.

    Raises Refused when there is none or it has no known role.
    """
    role = _field(peercert, "organizationalUnitName")
    if role not in ROLES:
        raise Refused("the caller's certificate has no role in this pool")
    return role


def qemu_folder() -> Path:
    """Where QEMU looks, or below OUTLAST_ETC when the host keeps its files elsewhere."""
    etc = os.environ.get("OUTLAST_ETC")
    return Path(etc) / "qemu" if etc else Path("/etc/pki/qemu")


def peer_name(peercert: Mapping[str, Any] | None) -> str:
    """The name in a peer's certificate; "" without one."""
    return _field(peercert, "commonName")


def _harden(context: ssl.SSLContext, folder: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(folder / CA_CERT)
        if (folder / CRL).exists():
            context.load_verify_locations(folder / CRL)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        context.load_cert_chain(folder / CERT, folder / KEY)
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no certificate of this pool in {folder}",
            hint="'outlast host join' makes one for a host, 'outlast pool certificate' for people",
        ) from error
    except PermissionError as error:
        raise Refused(
            f"this user may not read the key in {folder}", hint="run it as root"
        ) from error
    except (ssl.SSLError, OSError) as error:
        raise InvalidInput(
            f"the certificate in {folder} cannot be used: {error}", hint="join this host again"
        ) from error


def _field(peercert: Mapping[str, Any] | None, wanted: str) -> str:
    for part in (peercert or {}).get("subject", ()):
        for name, value in part:
            if name == wanted:
                return str(value)
    return ""


def _name(role: str, common: str, uuid: str = "") -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = [(NameOID.ORGANIZATION_NAME, "outlast"), (NameOID.ORGANIZATIONAL_UNIT_NAME, role)]
    parts += [(NameOID.COMMON_NAME, common)] + ([(NameOID.SERIAL_NUMBER, uuid)] if uuid else [])
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def authority(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """The key and certificate of the authority in `folder`. Raises StorageTrouble."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key((folder / CA_KEY).read_bytes(), None)
        cert = x509.load_pem_x509_certificate((folder / CA_CERT).read_bytes())
    except OSError as error:
        raise trouble(error) from error
    except ValueError as error:
        raise StorageTrouble(f"the certificate authority in {folder} is damaged") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StorageTrouble(f"the certificate authority in {folder} is not one of Outlast")
    return key, cert


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())


def _pem(cert: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return cert.public_bytes(Encoding.PEM)


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    bare = address
    if address.startswith("["):
        bare = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        bare = address.partition(":")[0]
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        raise InvalidInput(
            f"{address[:80]!r} is not an IP address", hint="like 10.0.0.5 or 10.0.0.5:7790"
        ) from None
