"""Hosts made of a real guard and a real pulse on one plain directory: the bench of these tests.

Run as a program it is a pulse whose storage hangs as long as the file `hang` lies in OUTLAST_RUN:
only the storage thread waits there, as it would in a system call that does not return.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from guard_process import ProcessGuard, until

from outlast.guard.pulse_client import PulseClient
from outlast.model import Member, SlotRecord, View
from outlast.settings import S, Timing
from outlast.storage.format import AREA_SIZE, BLOCK_SIZE, decode_block, slot_to, view_to
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.layout import PoolDir, create_pool

SRC = Path(__file__).parents[2] / "src"
TIMING = Timing("test", S // 5, 3 * S, 3 * S // 2, 1, 3 * S // 10, 6 * S, 2 * S)


class HangingArea(HeartbeatFile):
    """Reads and writes wait for the file to go away."""

    def write_block(self, raw: bytes) -> None:
        _wait()
        super().write_block(raw)

    def read_all(self, slots_max: int = 64) -> list[bytes]:
        _wait()
        return super().read_all(slots_max)


def _wait() -> None:
    while (Path(os.environ["OUTLAST_RUN"]) / "hang").exists():
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def make_pool(folder: Path, timing: Timing = TIMING) -> PoolDir:
    folder.mkdir()
    return create_pool(folder, "test", timing, lab=True)


class Host:
    """One host; `snapshot` is what its pulse said last, None after a lost connection."""

    def __init__(self, pool: PoolDir, folder: Path, slot: int) -> None:
        self.pool, self.slot, self.uuid = pool, slot, str(uuid.uuid4())
        folder.mkdir()
        self.guard = ProcessGuard(folder)
        self.run, self.etc = self.guard.run, folder / "pulse-etc"
        self.etc.mkdir()
        self.address = f"127.0.0.1:{free_port()}"
        self.log = folder / "pulse-log"
        self.snapshot: dict[str, Any] | None = None
        self.snapshots = 0
        self.nudges: list[dict[str, Any]] = []
        self.client = PulseClient(self.run / "pulse.sock")
        self.write_host_file()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def write_host_file(self, **changes: object) -> None:
        said = {
            "pool_dir": str(self.pool.root), "pool_uuid": self.pool.uuid, "host": f"h{self.slot}",
            "slot": self.slot, "uuid": self.uuid, "generation": 1,
            "beat_addresses": [self.address], **changes,
        }  # fmt: skip
        (self.etc / "host.json").write_text(json.dumps(said))

    def register(self, **changes: Any) -> None:
        """Write the slot record."""
        said: dict[str, Any] = {
            "slot": self.slot, "host": f"h{self.slot}", "uuid": self.uuid, "generation": 1,
            "active": True, "addresses": (self.address,), **changes,
        }  # fmt: skip
        register, name = self.pool.register(self.slot), f"slot/{self.slot}"
        assert register.swap(name, register.read(name)[0], slot_to(SlotRecord(**said))).ok

    def launch(self, *, hanging: bool = False) -> None:
        env = {
            **os.environ, "OUTLAST_RUN": str(self.run), "OUTLAST_ETC": str(self.etc),
            "PYTHONPATH": os.pathsep.join([str(SRC), str(Path(__file__).parent)]),
        }  # fmt: skip
        words = [__file__] if hanging else ["-m", "outlast.guard.pulse"]
        with self.log.open("ab") as log:
            self.pulse = subprocess.Popen([sys.executable, *words], env=env, stderr=log)

    def _read(self) -> None:
        for snapshot in self.client.snapshots():
            self.snapshot = snapshot
            if snapshot is not None:
                self.snapshots += 1
                self.nudges += snapshot["nudges"]  # type: ignore[arg-type]

    def said(self, *keys: str) -> Any:
        value: Any = self.snapshot
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def until(self, true: Any, what: str, timeout_s: float = 15) -> None:
        try:
            until(true, what, timeout_s)
        except AssertionError:
            print(self.log.read_text(), json.dumps(self.snapshot))
            raise

    def until_state(self, state: str) -> None:
        self.until(lambda: self.said("state") == state, f"slot {self.slot} is {state}")

    def kill9(self) -> None:
        self.pulse.send_signal(signal.SIGKILL)
        self.pulse.wait(10)

    def clean(self) -> None:
        self.client.close()
        (self.run / "hang").unlink(missing_ok=True)
        if hasattr(self, "pulse"):
            self.pulse.kill()
            self.pulse.wait(10)
        self._reader.join(5)
        self.guard.clean()


def write_view(pool: PoolDir, *hosts: Host) -> int:
    """The next view, listing these hosts with the terms they have now."""
    register = pool.register(64)
    version, _ = register.read("view")
    members = {h.slot: Member(f"h{h.slot}", h.uuid, h.said("term")) for h in hosts}
    view = View(version + 1, members, min(members, default=0), "test", "a test said so", 64)
    assert register.swap("view", version, view_to(view)).ok
    return version + 1


def block_on_disk(pool: PoolDir, slot: int) -> Any:
    raw = pool.hb.read_bytes()
    assert len(raw) == AREA_SIZE
    return decode_block(raw[slot * BLOCK_SIZE : (slot + 1) * BLOCK_SIZE])


if __name__ == "__main__":
    from outlast.guard.pulse import run

    os._exit(run(HangingArea))
