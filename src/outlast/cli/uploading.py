"""Sends a file to an agent, piece by piece, and goes on after whatever broke it off."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.errors import Conflict, NotFound, StorageTrouble, Unreachable

if TYPE_CHECKING:
    from outlast.cli.waiting import Tell
    from outlast.wire.images import ImageClient, UploadStatus

PIECE = 1 << 20
TRIES, PAUSE_S = 5, 1.0  # a connection that breaks is tried again, while each try brings something


def send(client: ImageClient, name: str, file: Path, rate_bytes_s: int, tell: Tell) -> None:
    """Until all of it is there. Raises NotFound, StorageTrouble for the file, Conflict,
    Unreachable."""
    from outlast.wire.images import UploadWish

    digest, size = _digest(file, tell)
    wish = UploadWish(size_bytes=size, sha256=digest)
    tries, got = TRIES, -1
    while True:
        try:
            there = client.begin(name, wish)
            if there.got_bytes == size:
                return
            tries, got = (TRIES, there.got_bytes) if there.got_bytes > got else (tries - 1, got)
            _send_rest(client, there, file, rate_bytes_s, tell)
        except Unreachable:
            tries -= 1
            if tries <= 0:
                raise
            tell(f"{name}: the connection broke; trying again")
            time.sleep(PAUSE_S)


def _send_rest(
    client: ImageClient, there: UploadStatus, file: Path, rate_bytes_s: int, tell: Tell
) -> None:
    from outlast.images.pace import Pace

    pace, size = Pace(rate_bytes_s), there.size_bytes

    def pieces() -> Iterator[bytes]:
        at = there.got_bytes
        with file.open("rb") as opened:
            opened.seek(at)
            while data := opened.read(min(PIECE, size - at)):
                at += len(data)
                tell(f"sending {there.name} {20 * at // size * 5} %")
                pace.took(len(data))
                yield data
        if at != size:
            raise Conflict(f"{file} became shorter meanwhile", hint="begin again")

    client.send(there.name, there.got_bytes, pieces(), size - there.got_bytes)


def _digest(file: Path, tell: Tell) -> tuple[str, int]:
    tell(f"reading {file}")
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as opened:
            while data := opened.read(PIECE):
                digest.update(data)
                size += len(data)
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except OSError as error:
        raise StorageTrouble(f"{file} cannot be read: {error.strerror}") from error
    return digest.hexdigest(), size
