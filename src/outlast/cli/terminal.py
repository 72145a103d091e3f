"""This terminal as the other end of a VM's serial console.

Promises: the terminal is given back as it was found, whatever ends the session. Ctrl-] leaves; all
other keys go to the VM. Without a terminal stdin is sent as it is and its end ends the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator

from outlast.cli.context import warn
from outlast.wire.console import connect, pump
from outlast.wire.target import Target

LEAVE = b"\x1d"  # Ctrl-]
CHUNK = 4096


def run_console(target: Target, vm: str) -> None:
    """Until one side ends. Raises OutlastError when there is no console to be had."""
    why = asyncio.run(_session(target, vm))
    if why:
        warn(f"\r\n{why}")


async def _session(target: Target, vm: str) -> str:
    outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    async with connect(target, vm) as socket:
        with _raw(vm):
            # a closed terminal or a kill must still give the terminal back
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, outgoing.put_nowait, None)
            source = sys.stdin.fileno()
            with _reading(loop, source, outgoing):
                return await pump(socket, outgoing, _write)


@contextlib.contextmanager
def _raw(vm: str) -> Iterator[None]:
    """The terminal in raw mode; nothing without one."""
    if not sys.stdin.isatty():
        yield
        return
    warn(f"connected to the console of {vm}; Ctrl-] leaves")
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _reading(
    loop: asyncio.AbstractEventLoop, fd: int, outgoing: asyncio.Queue[bytes | None]
) -> Iterator[None]:
    """Keys go to the queue; the end of input and Ctrl-] put None."""

    def ready() -> None:
        data = os.read(fd, CHUNK)
        keys, leave, _ = data.partition(LEAVE) if os.isatty(fd) else (data, b"", b"")
        if keys:
            outgoing.put_nowait(keys)
        if leave or not data:
            with contextlib.suppress(ValueError, OSError):
                loop.remove_reader(fd)
            outgoing.put_nowait(None)

    try:
        loop.add_reader(fd, ready)
    except PermissionError:  # a plain file cannot be waited for, and need not be
        while data := os.read(fd, CHUNK):
            outgoing.put_nowait(data)
        outgoing.put_nowait(None)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, OSError):
            loop.remove_reader(fd)


def _write(data: bytes) -> None:
    out = sys.stdout.buffer
    out.write(data)
    out.flush()
