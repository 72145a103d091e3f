"""Keeps this host's trust current while everything runs: revoked certificates, a renewed own one.

Rules:
1. The pool's list of revoked certificates is copied from the storage into the host's own folders
   (and QEMU's), so that it counts also when the storage is away.
2. Contexts in use learn of it at once; connections that are open stay.
3. Reading may hang with the storage: one thread of its own, nobody waits for it.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from outlast.errors import OutlastError
from outlast.storage import etcd_tls
from outlast.wire import seal
from outlast.wire.files import write_file
from outlast.words import plural

log = logging.getLogger("outlast.agent.trust")

LOOK_S = 2.0
WARN_DAYS = 30


class Trust:
    """own: the host's folder of certificates. pool: the authority's. qemu: QEMU's folder."""

    def __init__(self, own: Path, pool: Path, qemu: Path, contexts: Iterable[ssl.SSLContext]):
        self._own, self._pool, self._qemu = own, pool, qemu
        self._contexts = tuple(contexts)
        self._loaded = self._state()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trust", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Copy and load what is new. Raises OSError, OutlastError."""
        revoked = _read(self._pool / seal.CRL)
        if revoked and revoked != _read(self._own / seal.CRL):
            write_file(self._own / seal.CRL, revoked, 0o644)
            log.info("the pool's list of revoked certificates is taken over")
        ours = _read(self._own / seal.CA_CERT)
        trusts_us = bool(ours) and _read(self._qemu / "ca-cert.pem") == ours
        if revoked and trusts_us and _read(self._qemu / "ca-crl.pem") != revoked:
            write_file(self._qemu / "ca-crl.pem", revoked, 0o644)
        state = self._state()
        if state != self._loaded:
            for context in self._contexts:
                seal.refresh(context, self._own)
            self._loaded = state

    def _state(self) -> tuple[bytes, ...]:
        return tuple(_read(self._own / name) for name in (seal.CRL, seal.CERT))

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self.look()
            except (OSError, OutlastError) as trouble:
                log.debug("certificates could not be looked at: %s", trouble)


def endings(own: Path, etcd: Path | None) -> dict[str, str]:
    """Of the certificates in these folders that end soon: a sentence, and what is to be done."""
    now_s = time.time()
    found = [("this host's certificate", seal.days_left(own, now_s), "outlast host renew")]
    if etcd is not None:
        days = seal.days_of(etcd / etcd_tls.CERT, now_s)
        found.append(("its certificate for etcd", days, f"put a new one into {etcd}"))
    return {
        f"{what} {_when(days)}": hint
        for what, days, hint in found if days is not None and days <= WARN_DAYS
    }  # fmt: skip


def _when(days: float) -> str:
    return f"ends in {plural(round(days), 'day')}" if days > 0 else "has ended"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
