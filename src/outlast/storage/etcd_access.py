"""How a host reaches its pool's etcd: addresses, certificates, the pool's name there.

Rules:
1. Addresses are IP addresses, because looking up a name may hang.
2. TLS with certificates of both sides, unless an address begins with http; who makes or joins a
   pool refuses that outside of a lab (etcd_pool.py).
3. It stands in etcd.json in the pool's directory on each host. No file: the pool is on a shared
   file system. A damaged one is never taken for none.

Standard library only, for the pulse reads it.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from outlast.errors import InvalidInput, StorageTrouble

ACCESS = "etcd.json"
ROOT = "/outlast/"  # pools are below it, each under its name
ANSWER_S = 2.0


@dataclass(frozen=True, slots=True)
class Access:
    """How a host reaches its pool's etcd; the content of etcd.json."""

    urls: tuple[str, ...]
    pki: str = ""  # folder with ca.pem, cert.pem and cert.key; "" for http
    pool: str = ""  # the pool's name there
    answer_s: float = ANSWER_S

    @property
    def prefix(self) -> str:
        return f"{ROOT}{self.pool}/"


def read_access(root: Path) -> Access | None:
    """The access of the pool in this directory; None when it is on a shared file system.

    Raises StorageTrouble when the file is damaged.
    """
    path = root / ACCESS
    try:
        said = json.loads(path.read_bytes())
        return check_access(Access(
            tuple(map(str, said["urls"])), str(said["pki"]), str(said["pool"]),
            float(said["answer_s"]),
        ))  # fmt: skip
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageTrouble(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, InvalidInput) as error:
        why = error.sentence if isinstance(error, InvalidInput) else "not how an etcd is reached"
        raise StorageTrouble(f"{path} is damaged: {why}", hint="join this host again") from None


def access_text(access: Access) -> bytes:
    """The content of etcd.json."""
    return json.dumps(asdict(access), indent=2).encode() + b"\n"


def check_access(access: Access) -> Access:
    """The access itself, if it can be one. Raises InvalidInput."""
    for url in access.urls:
        parts = urlsplit(url)
        try:
            ipaddress.ip_address(parts.hostname or "")
            good = parts.scheme in {"http", "https"} and bool(parts.port)
        except ValueError:
            good = False
        if not good or parts.path.strip("/") or parts.query or "@" in parts.netloc:
            raise InvalidInput(
                f"'{url[:80]}' is not an address of etcd",
                hint="like https://10.0.0.1:2379, no host names",
            )
        if parts.scheme == "https" and not access.pki:
            raise InvalidInput(
                "etcd with TLS asks for a certificate",
                hint="--etcd-pki FOLDER, with ca.pem, cert.pem and cert.key in it",
            )
    if not access.urls or not access.answer_s > 0:
        raise InvalidInput("etcd has no address", hint="--etcd https://10.0.0.1:2379")
    return access
