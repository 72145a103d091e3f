"""The consoles and the control of fake VMs: unix sockets in their folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from outlast.hypervisor.driver import LibvirtGone


class SocketConsole:
    """See driver.Console."""

    def __init__(self, name: str, stream: socket.socket) -> None:
        self._name = name
        self._stream = stream

    def recv(self, limit: int) -> bytes:
        try:
            return self._stream.recv(limit)
        except OSError:
            return b""

    def send(self, data: bytes) -> None:
        try:
            self._stream.sendall(data)
        except OSError as error:
            raise LibvirtGone(f"the console of '{self._name}' has ended") from error

    def close(self) -> None:
        try:
            self._stream.shutdown(socket.SHUT_RDWR)  # wakes a waiting recv
        except OSError:
            return
        finally:
            self._stream.close()


def connect(path: Path) -> socket.socket:
    """Connect through the folder's fd: a unix socket's address may have 107 bytes only."""
    stream = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        stream.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError as error:
        stream.close()
        raise LibvirtGone(f"{path.name} does not answer: {error.strerror}") from error
    finally:
        os.close(folder)
    return stream
