"""A VM's serial console through a libvirt stream.

The stream is non-blocking and fed by libvirt's event loop: `recv` waits on a condition of ours, so
`close` from another thread always wakes it. While nobody reads, at most BUFFER_MAX bytes are kept;
then the stream is left alone until there is room, and libvirt holds the VM's output back.
A stream is told nothing when its connection breaks, so a waiting `recv` looks every ALIVE_S.
"""

from __future__ import annotations

import threading
from typing import Any

import libvirt

from outlast.hypervisor.driver import LibvirtGone

BUFFER_MAX = 256 * 1024
CHUNK = 16 * 1024
RETRY_S = 0.02
ALIVE_S = 0.5

_ENDS = (
    libvirt.VIR_STREAM_EVENT_READABLE
    | libvirt.VIR_STREAM_EVENT_ERROR
    | libvirt.VIR_STREAM_EVENT_HANGUP
)


class LibvirtConsole:
    """See driver.Console. Opening takes the console away from whoever had it.

    gently: it is not taken away; libvirtError when somebody has it.
    """

    def __init__(self, conn: Any, domain: Any, name: str, *, gently: bool = False) -> None:
        self._conn = conn
        self._name = name
        self._change = threading.Condition()
        self._buffer = bytearray()
        self._over = False
        self._closed = False
        self._held = False  # reading is suspended: the buffer is full
        self._stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
        flags = 0 if gently else libvirt.VIR_DOMAIN_CONSOLE_FORCE
        domain.openConsole(None, self._stream, flags)
        self._stream.eventAddCallback(_ENDS, self._ready, None)

    def recv(self, limit: int) -> bytes:
        with self._change:
            while not self._change.wait_for(lambda: self._buffer or self._over, ALIVE_S):
                if not self._alive():
                    self._end()
            data = bytes(self._buffer[:limit])
            del self._buffer[:limit]
            if self._held and not self._over and len(self._buffer) < BUFFER_MAX // 2:
                self._held = False
                self._stream.eventUpdateCallback(_ENDS)
            return data

    @property
    def heard(self) -> bool:
        """True while there is something to read."""
        return bool(self._buffer)

    def _alive(self) -> bool:
        try:
            return bool(self._conn.isAlive())
        except libvirt.libvirtError:
            return False

    def send(self, data: bytes) -> None:
        rest = data
        while rest:
            with self._change:
                if self._over:
                    raise LibvirtGone(f"the console of '{self._name}' has ended")
                try:
                    sent = self._stream.send(rest)
                except libvirt.libvirtError as error:
                    raise LibvirtGone(f"the console of '{self._name}' broke: {error}") from error
                if sent < 0:  # -2: no room yet
                    self._change.wait(RETRY_S)
                    continue
            rest = rest[sent:]

    def close(self) -> None:
        with self._change:
            if self._closed:
                return
            self._closed = True
            self._end()
        try:
            self._stream.abort()
        except libvirt.libvirtError:
            return  # the other side was gone already

    def _ready(self, stream: Any, events: int, _: Any) -> None:
        """On the event loop's thread: there is something to read, or the end."""
        with self._change:
            if self._over:
                return
            try:
                while len(self._buffer) < BUFFER_MAX:
                    data = stream.recv(CHUNK)
                    if data == -2:  # all read for now
                        break
                    if not data:
                        self._end()
                        return
                    self._buffer += data
                else:
                    self._held = True
                    stream.eventUpdateCallback(
                        libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP
                    )
            except libvirt.libvirtError:
                self._end()
                return
            if events & (libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP):
                self._end()
                return
            self._change.notify_all()

    def _end(self) -> None:
        """Wake everybody. Asks libvirtd nothing: its event loop may be the caller."""
        if self._over:
            return
        self._over = True
        self._change.notify_all()
        try:
            self._stream.eventRemoveCallback()
        except libvirt.libvirtError:
            return  # the connection is gone, and the callback with it
