"""A host that shuts down says goodbye to its pool: `python -m outlast.guard.farewell`.

Run by systemd when outlast-farewell.service stops, which is before pulse and guard do. It has the
pulse leave the pool: the guard ends the VMs that are still here and the block says closed, so that
the others start them at once instead of waiting for silence.

Rules:
1. Only while the machine shuts down: a service that is merely restarted leaves no pool. --now says
   that it does.
2. It waits as long as that can take and no longer; whatever fails, the shutdown goes on (exit 0).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from outlast.guard.pulse_client import PulseClient

WAIT_S = 45.0  # a guard may need its kill window and the pulse its time to settle


def shutting_down() -> bool:
    """What systemd says."""
    try:
        done = subprocess.run(
            ["systemctl", "is-system-running"], capture_output=True, text=True, timeout=5,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == "stopping"


def leave(socket: Path, wait_s: float) -> str:
    """Leave the pool and wait until the block says so; what was reached, in a word."""
    state = "unheard"
    with PulseClient(socket) as pulse:
        timer = threading.Timer(wait_s, pulse.close)
        timer.daemon = True
        timer.start()
        told_closed = 0
        for snapshot in pulse.snapshots():
            if snapshot is None:
                continue
            state = str(snapshot.get("state"))
            if not snapshot.get("leaving"):
                pulse.leave()
            told_closed += state == "closed"
            if state in ("denied", "looking") or told_closed > 1:  # written since it was said
                break
        timer.cancel()
    return state


def main(arguments: list[str]) -> int:
    if "--now" not in arguments and not shutting_down():
        return 0
    run = Path(os.environ.get("OUTLAST_RUN", "/run/outlast"))
    print(f"farewell: {leave(run / 'pulse.sock', WAIT_S)}", file=sys.stderr)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
