"""How people say that a pool is on etcd: options of `pool init`, `host join`, `storage probe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from outlast.storage.etcd_access import Access

PKI = Path("/etc/outlast/etcd")

Urls = Annotated[
    list[str] | None,
    typer.Option(
        "--etcd", metavar="URL",
        help="The pool is on this etcd, like https://10.0.0.1:2379; once for each member.",
    ),
]  # fmt: skip
Pki = Annotated[
    Path,
    typer.Option(
        "--etcd-pki", metavar="FOLDER",
        help="ca.pem of etcd's authority, and cert.pem and cert.key that etcd takes.",
    ),
]  # fmt: skip


def access_of(urls: list[str], pki: Path, pool: str = "") -> Access:
    """What was said, checked. Raises InvalidInput."""
    from outlast.storage.etcd_access import Access, check_access

    tls = any(url.startswith("https:") for url in urls)
    return check_access(Access(tuple(urls), str(pki.absolute()) if tls else "", pool))
