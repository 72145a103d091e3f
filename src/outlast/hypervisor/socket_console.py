"""A VM's console or screen behind a connected socket; see driver.Console."""

from __future__ import annotations

import socket

from outlast.hypervisor.driver import LibvirtGone


class SocketConsole:
    def __init__(self, what: str, stream: socket.socket) -> None:
        self._what = what
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
            raise LibvirtGone(f"{self._what} has ended") from error

    def close(self) -> None:
        try:
            self._stream.shutdown(socket.SHUT_RDWR)  # wakes a waiting recv
        except OSError:
            return
        finally:
            self._stream.close()
