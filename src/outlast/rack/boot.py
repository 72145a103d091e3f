"""PID 1 of an emulated host: file systems, names, network, storage, services; then it reaps.

    unshare ... python -m outlast.rack.boot SPEC READY_FD

READY_FD gets one line: "ready", or a sentence that says why the host does not boot.

Rules:
1. When this process dies the kernel kills everything in the host: that is the power switch.
2. A service runs while its condition file exists and is started again `restart_s` after its end,
   like systemd's Restart=always. /run/rack/services.json tells pids (as seen inside) and starts.
3. Without storage the host boots all the same: the mount is there and waits, as a hard mount does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from outlast.rack import root

STATUS = Path("/run/rack/services.json")
CONTROL = "/run/rack/storage.sock"
NIC_WAIT_S, STORAGE_WAIT_S, LOOK_S, BOOT_LOOK_S = 10.0, 10.0, 0.25, 0.01


@dataclass(frozen=True, slots=True)
class Service:
    """A process that a host keeps running."""

    name: str
    argv: tuple[str, ...]
    condition: str = ""  # run only while this file exists
    ready: str = ""  # the host counts as booted when this exists
    restart_s: float = 0.1
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything a host must know to boot; written by host.py at each power on."""

    name: str
    base: str
    hide: str
    nets: Mapping[str, str]  # network -> address/prefix length
    binds: tuple[tuple[str, str, bool], ...]
    files: Mapping[str, str]
    storage: tuple[str, ...]  # command that mounts the pool; empty: it is among the binds
    env: Mapping[str, str]
    services: tuple[Service, ...]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Spec:
        raw = json.loads(path.read_text())
        raw["services"] = tuple(Service(**{**s, "argv": tuple(s["argv"])}) for s in raw["services"])
        raw["binds"] = tuple((s, d, bool(r)) for s, d, r in raw["binds"])
        raw["storage"] = tuple(raw["storage"])
        return cls(**raw)


@dataclass(slots=True)
class Running:
    """State of one service."""

    service: Service
    pid: int = 0
    starts: int = 0
    due_s: float = 0.0


class Supervisor:
    """Starts services, starts them again, reaps everything that comes to PID 1."""

    def __init__(self, services: tuple[Service, ...], env: Mapping[str, str]) -> None:
        self._all = [Running(s) for s in services]
        self._env = env
        self._wake, bell = socket.socketpair()
        for end in (self._wake, bell):
            end.setblocking(False)
        self._bell = bell
        signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def step(self, booted: bool) -> None:
        """Reap, start what is due, then sleep until something ends or must be looked at."""
        now = time.monotonic()
        changed = self._reap(now)
        for run in self._all:
            if not run.pid and now >= run.due_s and self._wanted(run):
                self._start(run)
                changed = True
        if changed:
            self._tell()
        select.select([self._wake], [], [], self._wait_s(now) if booted else BOOT_LOOK_S)
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)

    def _wait_s(self, now_s: float) -> float | None:
        """Until the next start that is due, or the next look for condition files."""
        waits = [max(0.0, r.due_s - now_s) if self._wanted(r) else LOOK_S
                 for r in self._all if not r.pid]  # fmt: skip
        return min(waits, default=None)

    def ready(self) -> bool:
        return all(not r.service.ready or Path(r.service.ready).exists() for r in self._all)

    def _wanted(self, run: Running) -> bool:
        return not run.service.condition or Path(run.service.condition).exists()

    def _reap(self, now_s: float) -> bool:
        changed = False
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return changed
            if pid == 0:
                return changed
            for run in self._all:
                if run.pid == pid:
                    run.pid, run.due_s, changed = 0, now_s + run.service.restart_s, True

    def _start(self, run: Running) -> None:
        service = run.service
        log = os.open(
            f"/var/log/outlast/{service.name}.log",
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )
        run.starts += 1
        try:
            run.pid = os.posix_spawnp(
                service.argv[0], service.argv, {**self._env, **service.env},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True, setsigdef=[signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT],
            )  # fmt: skip
        except OSError as error:
            os.write(log, f"cannot start {service.argv[0]}: {error}\n".encode())
            run.due_s = time.monotonic() + 10 * service.restart_s
        finally:
            os.close(log)

    def _tell(self) -> None:
        state = {r.service.name: {"pid": r.pid, "starts": r.starts} for r in self._all}
        fresh = STATUS.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.rename(STATUS)


def set_up_network(name: str, nets: Mapping[str, str]) -> None:
    """Name the host and give its network cards their addresses as soon as they are plugged."""
    socket.sethostname(name)
    end = time.monotonic() + NIC_WAIT_S
    while not set(nets) <= {card for _, card in socket.if_nameindex()}:
        if time.monotonic() > end:
            raise OSError("the network cards were not plugged in")
        time.sleep(0.002)
    lines = ["link set lo up"]
    for net, address in nets.items():
        lines += [f"addr add {address} dev {net}", f"link set {net} up"]
    subprocess.run(
        ["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True,
        capture_output=True,
    )  # fmt: skip


def mount_pool(command: tuple[str, ...], env: Mapping[str, str]) -> None:
    """Start the storage client and wait until the pool is mounted (not until it answers)."""
    client = subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(env))
    assert client.stdout is not None
    ready, _, _ = select.select([client.stdout], [], [], STORAGE_WAIT_S)
    if not ready or client.stdout.readline().strip() != b"ready":
        raise OSError("the storage client did not mount the pool; see log/console.log")


def main(argv: list[str]) -> int:
    spec, report = Spec.read(Path(argv[1])), int(argv[2])
    os.set_inheritable(report, False)
    os.umask(0o022)
    os.environ.clear()
    os.environ.update(spec.env)
    try:
        root.build(Path(spec.base), Path(spec.hide), spec.binds, spec.files)
        set_up_network(spec.name, spec.nets)
        if spec.storage:
            mount_pool(spec.storage, spec.env)
        supervisor = Supervisor(spec.services, spec.env)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        detail = getattr(error, "stderr", "") or ""
        os.write(report, f"{error} {detail}".strip().encode() + b"\n")
        return 1
    booted = False
    while True:
        supervisor.step(booted)
        if not booted and supervisor.ready():
            booted = True
            os.write(report, b"ready\n")
            os.close(report)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
