"""A real QEMU with nothing but its BIOS and a screen: VNC on a unix socket.

Without a disk the BIOS says so and waits for a key; on Ctrl+Alt+Del the machine resets, and with
`-no-reboot` its process ends, so that a test sees whether keys arrive.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

QEMU = shutil.which("qemu-system-x86_64")


class QemuScreen:
    def __init__(self, at: Path) -> None:
        self.at = at
        self.keys = at.with_suffix(".keys")  # every key that came, as QEMU traces it
        self.start()

    def start(self) -> None:
        assert QEMU is not None
        self.at.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [QEMU, "-accel", "tcg", "-m", "16", "-nodefaults", "-vga", "std", "-no-reboot",
             "-trace", "input_event_key_qcode", "-D", str(self.keys),
             "-device", "virtio-tablet-pci", "-display", f"vnc=unix:{self.at}"],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 20
        while not self.at.is_socket():
            assert time.monotonic() < end and self.process.poll() is None, "QEMU has no screen"
            time.sleep(0.02)

    def typed(self, count: int, within_s: float = 15) -> list[str]:
        """The keys that went down, once there are so many."""
        end = time.monotonic() + within_s
        while True:
            text = self.keys.read_text() if self.keys.exists() else ""
            found = re.findall(r"key qcode (\w+), down 1", text)
            if len(found) >= count:
                return found
            assert time.monotonic() < end, text
            time.sleep(0.05)

    def ended(self, within_s: float = 15) -> int:
        return self.process.wait(within_s)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
