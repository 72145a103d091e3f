"""The pulse: `python -m outlast.guard.pulse`. Writes this host's heartbeat and hears the others.

It tells the guard whether this host's term may live on (pulse_core has the rules), the agent what
the storage and the network show, and the other hosts that this one is alive. It outlives the agent
and may be killed and started at any time: the term is the guard's, the rest is on the storage.

Files: pulse_windows (how long blocks stand still), pulse_facts, pulse_core (decisions), all pure;
pulse_io (storage thread), pulse_net (UDP), pulse_server (agents), pulse_snapshot, pulse_loop
(all of it together); pulse_client for agents.

Environment: OUTLAST_ETC (/etc/outlast, holds host.json), OUTLAST_RUN (/run/outlast, sockets).
Exit code: 0 after SIGTERM or SIGINT, else that of the error (errors.py), which goes to stderr.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from outlast.errors import InvalidInput, NotFound, OutlastError
from outlast.guard import priority
from outlast.guard.client import GuardClient
from outlast.guard.pulse_io import Area, Store
from outlast.guard.pulse_loop import Host, Pulse
from outlast.guard.pulse_server import lock
from outlast.model import SLOT_MAX
from outlast.storage.etcd import Etcd
from outlast.storage.etcd_access import read_access
from outlast.storage.etcd_heartbeat import EtcdArea
from outlast.storage.etcd_register import EtcdRegister
from outlast.storage.heartbeat import HeartbeatFile

PRIORITY = 40  # real-time, below the guard's
GUARD_TIMEOUT_S = 0.5  # beats must not wait for a guard that hangs; its watchdog ends that
_STACK_BYTES = 256 * 1024
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def read_host(etc: Path, boot_id: str) -> Host:
    """The host file.

    Raises NotFound without one, InvalidInput naming the field that cannot be taken.
    """
    path = etc / "host.json"
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(
            f"this host belongs to no pool: there is no {path}", hint="create or join a pool first"
        ) from None
    except (OSError, ValueError) as trouble:
        raise InvalidInput(f"{path} cannot be read: {trouble}") from None
    try:
        addresses = said["beat_addresses"]
        host = Host(
            Path(said["pool_dir"]), str(UUID(said["pool_uuid"])), str(said["host"]),
            int(said["slot"]), str(UUID(said["uuid"])), int(said["generation"]),
            tuple(str(a) for a in addresses), boot_id,
        )  # fmt: skip
    except KeyError as missing:
        raise InvalidInput(f"{path} has no {missing}") from None
    except (TypeError, ValueError, AttributeError) as trouble:
        raise InvalidInput(f"{path} cannot be taken: {trouble}") from None
    if not 1 <= host.slot <= SLOT_MAX or not 0 <= host.generation < 1 << 32:
        raise InvalidInput(f"{path}: slot {host.slot}, generation {host.generation} cannot be")
    return host


def harden() -> list[str]:
    """Real-time priority, locked memory, spared when memory runs out; gives what was refused.

    Called before the storage thread starts, which inherits the priority. Only pages that were
    touched are locked, so that thread stacks cost nothing.
    """
    refused = [said] if (said := priority.spare_from_oom()) else []
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as trouble:
        refused.append(f"real-time priority: {trouble.strerror}")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        refused.append(f"locking memory: {os.strerror(ctypes.get_errno())}")
    return refused


def open_store(pool_dir: Path, open_area: Callable[[Path, int], Area]) -> Store:
    """The pool's storage: what the directory holds, or the etcd that it names.

    Raises StorageTrouble.
    """
    access = read_access(pool_dir)
    if access is None:
        return Store(pool_dir, open_area)
    etcd = Etcd(access)
    return Store(pool_dir, lambda _, slot: EtcdArea(etcd, slot), EtcdRegister(etcd, "pulse"))


def run(open_area: Callable[[Path, int], Area] = HeartbeatFile) -> int:
    """Be the pulse until a signal ends it. open_area: how the heartbeat area is opened."""
    try:
        etc = Path(os.environ.get("OUTLAST_ETC") or "/etc/outlast")
        run_dir = Path(os.environ.get("OUTLAST_RUN") or "/run/outlast")
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        host = read_host(etc, boot_id)
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = lock(run_dir)
        for refusal in harden():
            print(f"pulse: refused, going on without: {refusal}", file=sys.stderr)  # noqa: T201
        threading.stack_size(_STACK_BYTES)
        guard = GuardClient(run_dir / "guard.sock", GUARD_TIMEOUT_S)
        pulse = Pulse(host, open_store(host.pool_dir, open_area), guard, run_dir / "pulse.sock")
    except OutlastError as trouble:
        hint = f" ({trouble.hint})" if trouble.hint else ""
        print(f"pulse: {trouble.sentence}{hint}", file=sys.stderr)  # noqa: T201
        return trouble.exit_code
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: pulse.stop())
    pulse.run()
    held.close()
    return 0


def main() -> None:
    code = run()
    sys.stderr.flush()
    os._exit(code)  # a storage thread that hangs must not keep the interpreter from ending


if __name__ == "__main__":
    main()
