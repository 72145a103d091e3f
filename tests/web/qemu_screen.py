"""A real QEMU with nothing but its BIOS and a screen: VNC on a unix socket.

Without a disk the BIOS says so and waits for a key; on Ctrl+Alt+Del the machine resets, and with
`-no-reboot` its process ends, so that a test sees whether keys arrive.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

QEMU = shutil.which("qemu-system-x86_64")


class QemuScreen:
    def __init__(self, at: Path) -> None:
        self.at = at
        self.start()

    def start(self) -> None:
        assert QEMU is not None
        self.at.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [QEMU, "-accel", "tcg", "-m", "16", "-nodefaults", "-vga", "std", "-no-reboot",
             "-device", "virtio-tablet-pci", "-display", f"vnc=unix:{self.at}"],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 20
        while not self.at.is_socket():
            assert time.monotonic() < end and self.process.poll() is None, "QEMU has no screen"
            time.sleep(0.02)

    def ended(self, within_s: float = 15) -> int:
        return self.process.wait(within_s)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
