"""What a pool's authority has issued, and what of it is no longer good.

    pki/issued/<serial>.json   {"name", "role", "not_after_wall_s", "issued_wall_s"}
    pki/crl.pem                the serials that are revoked, signed by the authority (RFC 5280)

Rules:
1. A certificate is recorded before it leaves the authority: what is not recorded was not issued.
2. Revocation is for good. A host whose certificate was revoked gets a new one with
   'outlast host renew', on that host.
3. The list never runs out by time: a pool without its administrator must go on.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.errors import NotFound, StorageTrouble
from outlast.wire.files import write_file

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

ISSUED, CRL = "issued", "crl.pem"
LIST_DAYS = 365 * 30


@dataclass(frozen=True, slots=True)
class Issued:
    serial: str  # hex
    name: str
    role: str
    issued_wall_s: float
    not_after_wall_s: float
    revoked: bool = False


def record(folder: Path, name: str, role: str, cert: x509.Certificate) -> None:
    """Rule 1. Raises StorageTrouble."""
    known = {
        "name": name,
        "role": role,
        "issued_wall_s": time.time(),
        "not_after_wall_s": cert.not_valid_after_utc.timestamp(),
    }
    try:
        (folder / ISSUED).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageTrouble(f"{folder / ISSUED}: {error.strerror}") from error
    path = folder / ISSUED / f"{cert.serial_number:040x}.json"
    write_file(path, json.dumps(known).encode(), 0o600)


def issued(folder: Path) -> list[Issued]:
    """All certificates of a pool, oldest first; damaged records are left out."""
    gone = _revoked(folder)
    found = []
    for path in (folder / ISSUED).glob("*.json"):
        try:
            known = json.loads(path.read_bytes())
            found.append(
                Issued(
                    path.stem, str(known["name"]), str(known["role"]),
                    float(known["issued_wall_s"]), float(known["not_after_wall_s"]),
                    int(path.stem, 16) in gone,
                )
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found, key=lambda one: one.issued_wall_s)


def revoke(
    folder: Path, names: set[str], key: ec.EllipticCurvePrivateKey, ca: x509.Certificate
) -> list[Issued]:
    """Revoke every certificate of these names or serials that is not revoked yet.

    Raises NotFound when there is none, StorageTrouble.
    """
    found = [one for one in issued(folder) if {one.name, one.serial} & names and not one.revoked]
    if not found:
        raise NotFound(
            f"no certificate of {', '.join(sorted(names))} is left to revoke",
            hint="outlast pool certificates lists them",
        )
    gone = _revoked(folder) | {int(one.serial, 16) for one in found}
    write_file(folder / CRL, signed_list(key, ca, gone), 0o644)
    return found


def signed_list(key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, gone: set[int]) -> bytes:
    """The list of revoked serials, PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(now - timedelta(days=1))
        .next_update(now + timedelta(days=LIST_DAYS))
        .add_extension(x509.CRLNumber(int(time.time() * 1000)), critical=False)
    )
    for serial in sorted(gone):
        one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(one.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _revoked(folder: Path) -> set[int]:
    from cryptography import x509

    try:
        crl = x509.load_pem_x509_crl((folder / CRL).read_bytes())
    except (OSError, ValueError):
        return set()
    return {one.serial_number for one in crl}
