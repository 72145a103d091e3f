"""How a manager is set up on its machine: `/etc/outlast/manager.json` and folders beside it.

    /etc/outlast/manager.json              0600, as the database's address may hold a password
    /etc/outlast/manager/pools/<pool id>/  this manager's certificate in each pool
    /var/lib/outlast/manager/              manager.db, tls/, setup-code (0600)

OUTLAST_ETC and OUTLAST_VAR move both. Everything in the file may be left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from outlast.errors import InvalidInput, NotFound, StorageTrouble
from outlast.manager.outside import Ldap, Mail, Oidc, Part
from outlast.wire.files import trouble, write_file
from outlast.wire.seal import served_as
from outlast.wire.shapes import BadField, parse

PORT = 7792
DAYS = ("events_days", "tasks_days", "metrics_days")  # may be said in the database, too


class Config(Part):
    """manager.json."""

    listen: str = Field(default=f"0.0.0.0:{PORT}", max_length=200)
    database: str = ""  # "" = SQLite beside the other state
    certificate: str = ""  # PEM files of a CA of your own; "" = one made here
    key: str = ""
    events_days: int = Field(default=90, ge=1, le=3660)
    tasks_days: int = Field(default=30, ge=1, le=3660)
    metrics_days: int = Field(default=732, ge=1, le=732)
    second_factor: Literal["optional", "admins", "everybody"] = "optional"  # who needs one
    outside_days: int = Field(default=30, ge=1, le=366)  # then tokens of others' people rest
    ldap: Ldap | None = None
    oidc: Oidc | None = None
    mail: Mail | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A manager's folders."""

    etc: Path
    var: Path

    @staticmethod
    def of_environment() -> Place:
        etc = Path(os.environ.get("OUTLAST_ETC", "/etc/outlast"))
        return Place(etc, Path(os.environ.get("OUTLAST_VAR", "/var/lib/outlast")) / "manager")

    @property
    def file(self) -> Path:
        return self.etc / "manager.json"

    @property
    def setup_code(self) -> Path:
        return self.var / "setup-code"

    def pool_pki(self, pool_id: str) -> Path:
        return self.etc / "manager" / "pools" / pool_id

    def config(self) -> Config:
        """What the file says; defaults without one. Raises InvalidInput, StorageTrouble."""
        try:
            return parse(Config, self.file.read_bytes())
        except FileNotFoundError:
            return Config()
        except BadField as error:
            raise InvalidInput(f"{self.file}: {error.sentence}", hint=error.hint) from None
        except OSError as error:
            raise trouble(error) from error

    def write(self, config: Config) -> None:
        """Raises StorageTrouble."""
        try:
            self.etc.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise trouble(error) from error
        body = config.model_dump_json(exclude_defaults=True, indent=2)
        write_file(self.file, (body + "\n").encode(), 0o600)

    def database(self, config: Config) -> str:
        return config.database or f"sqlite:///{self.var / 'manager.db'}"

    def write_setup_code(self, code: str) -> None:
        try:
            self.var.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise trouble(error) from error
        write_file(self.setup_code, (code + "\n").encode(), 0o600)

    def tls(self, config: Config) -> tuple[Path, Path]:
        """Certificate and key to listen with. Raises NotFound, InvalidInput."""
        if bool(config.certificate) != bool(config.key):
            raise InvalidInput(
                "a certificate needs its key", hint=f"name both, or none, in {self.file}"
            )
        if config.certificate:
            cert, key = Path(config.certificate), Path(config.key)
        else:
            cert, key = self.var / "tls" / "cert.pem", self.var / "tls" / "cert.key"
        for path in (cert, key):
            if not path.is_file():
                raise NotFound(f"there is no file {path}", hint="outlast manager init")
        return cert, key


def split_address(text: str) -> tuple[str, int]:
    """ "10.0.0.5:7792" or "[::1]:7792". Raises InvalidInput."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise InvalidInput(f"{text[:80]!r} is no address to listen on", hint="like 0.0.0.0:7792")
    return host.strip("[]"), int(port)


def make_certificate(folder: Path, names: list[str]) -> None:
    """A certificate that this manager signs itself, for names and IP addresses.

    Raises StorageTrouble.
    """
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    others = [served_as(name) for name in dict.fromkeys(names)]
    start = datetime.now(UTC) - timedelta(days=1)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=825))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.SubjectAlternativeName(others), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageTrouble(f"{folder} cannot be made: {error.strerror}") from error
    write_file(folder / "cert.key", private, 0o600)
    write_file(folder / "cert.pem", cert.public_bytes(serialization.Encoding.PEM), 0o644)


def fingerprint(cert: Path) -> str:
    """SHA-256 of a certificate, as browsers show it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    digest = x509.load_pem_x509_certificate(cert.read_bytes()).fingerprint(hashes.SHA256())
    return digest.hex(":").upper()


def valid_until_s(cert: Path) -> float:
    """Raises OSError, ValueError."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc.timestamp()
