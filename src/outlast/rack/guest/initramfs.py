"""Writes an initramfs: a cpio archive of format "newc", gzip-packed (P).

Promise: the same entries give the same bytes, on any machine, without root rights and without a
cpio program. Deliberately missing: owners other than root, times, hard links.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from stat import S_IFCHR, S_IFDIR, S_IFREG

_TRAILER = "TRAILER!!!"
_GZIP_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the archive. `mode` holds type and rights; `device` is for device files only."""

    path: str  # without a leading slash
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(path: str) -> Entry:
    return Entry(path, S_IFDIR | 0o755)


def program(path: str, content: bytes) -> Entry:
    return Entry(path, S_IFREG | 0o755, content)


def plain(path: str, content: bytes) -> Entry:
    return Entry(path, S_IFREG | 0o644, content)


def character_device(path: str, major: int, minor: int) -> Entry:
    return Entry(path, S_IFCHR | 0o600, device=(major, minor))


def pack(entries: Iterable[Entry]) -> bytes:
    """The archive as the kernel takes it. Folders must come before what lies in them."""
    return gzip.compress(b"".join(_members(entries)), _GZIP_LEVEL, mtime=0)


def _members(entries: Iterable[Entry]) -> Iterator[bytes]:
    for number, entry in enumerate((*entries, Entry(_TRAILER, 0)), start=1):
        name = entry.path.encode() + b"\0"
        links = 2 if entry.mode & S_IFDIR == S_IFDIR else 1
        fields = (
            number, entry.mode, 0, 0, links, 0, len(entry.content),
            0, 0, *entry.device, len(name), 0,
        )  # fmt: skip
        header = b"070701" + b"".join(b"%08X" % value for value in fields)
        yield _padded(header + name)
        yield _padded(entry.content)


def _padded(data: bytes) -> bytes:
    """Members start at multiples of four bytes."""
    return data + bytes(-len(data) % 4)
