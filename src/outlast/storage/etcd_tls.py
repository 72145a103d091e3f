"""This host's certificate for etcd, as it stands in its folder now.

Rules:
1. A certificate that was renewed counts from the next connection on: nothing is restarted for it.
2. While files are exchanged, or when what came is damaged, the former one goes on.

Standard library only, for the pulse lives on it.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from outlast.errors import StorageTrouble

CA, CERT, KEY = "ca.pem", "cert.pem", "cert.key"  # etcd's authority; this host's own


class Credentials:
    """folder: has the three files. Reads nothing yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context: ssl.SSLContext | None = None
        self._stamp: tuple[tuple[int, int, int], ...] = ()  # of the files it was made of

    def context(self) -> ssl.SSLContext:
        """For a new connection. Raises StorageTrouble when there never was a good one."""
        try:
            stats = [(self._folder / name).stat() for name in (CA, CERT, KEY)]
            stamp = tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
            if self._context is None or stamp != self._stamp:
                self._context, self._stamp = self._made(), stamp
        except FileNotFoundError:
            self._or_former(StorageTrouble(
                f"there is no certificate for etcd in {self._folder}",
                hint="it needs ca.pem (etcd's authority), cert.pem and cert.key (this host's own)",
            ))  # fmt: skip
        except OSError as error:
            self._or_former(StorageTrouble(f"the certificate for etcd in {self._folder}: {error}"))
        assert self._context is not None
        return self._context

    def _or_former(self, trouble: StorageTrouble) -> None:
        """Rule 2."""
        if self._context is None:
            raise trouble from None

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # etcd 3.4 of some builds has no 1.3
        context.load_verify_locations(self._folder / CA)
        context.load_cert_chain(self._folder / CERT, self._folder / KEY)
        return context
