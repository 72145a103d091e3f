"""The way to the consoles and the control of fake VMs: unix sockets in their folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from outlast.hypervisor.driver import LibvirtGone


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
