"""Unix sockets at paths of any length, and one JSON line each way over them.

The kernel takes at most 107 bytes of path; a folder opened first makes any path short.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from outlast.errors import TimedOut, Unreachable

ANSWER_MAX = 1 << 20


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def listen(path: Path) -> socket.socket:
    """A listening socket that only root may use; replaces a stale one."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _short(path) as short:
        sock.bind(short)
    path.chmod(0o600)
    sock.listen(16)
    return sock


def connect(path: Path, timeout_s: float | None) -> socket.socket:
    """Raises OSError (nobody there)."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        with _short(path) as short:
            sock.connect(short)
    except OSError:
        sock.close()
        raise
    return sock


def ask(path: Path, question: Mapping[str, object], timeout_s: float | None) -> dict[str, object]:
    """One question, one answer. Raises Unreachable or TimedOut."""
    try:
        with connect(path, timeout_s) as sock:
            sock.sendall(json.dumps(question).encode() + b"\n")
            return read_line(sock)
    except TimeoutError:
        raise TimedOut(f"no answer from {path} within {timeout_s:g} s") from None
    except OSError as error:
        raise Unreachable(f"nobody answers at {path}: {error.strerror or error}") from None


def read_line(sock: socket.socket) -> dict[str, object]:
    """The next JSON object on a connection. Raises ConnectionError if it ends before."""
    data = b""
    while not data.endswith(b"\n"):
        part = sock.recv(65536)
        if not part or len(data) > ANSWER_MAX:
            raise ConnectionError("the connection ended in the middle of an answer")
        data += part
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ConnectionError("the answer is no JSON object")
    return value
