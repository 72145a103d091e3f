"""A manager in a host of a rack, and the command line of somebody who is logged in there."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import outlast
from outlast.rack.lab import POOL, Lab

MAIN = [sys.executable, "-m", "outlast.cli.main"]
AT = "https://127.0.0.1:7792"
PASSWORD = "a long password of anna"
READY_S = 300  # on a machine that others keep busy, too


@contextlib.contextmanager
def logged_in(lab: Lab, host: str, folder: Path) -> Iterator[Callable[..., str]]:
    """Commands go through the manager, as anna, who is an administrator there."""
    source = str(Path(outlast.__file__).resolve().parent.parent)
    env = {
        "PYTHONPATH": source, "OUTLAST_ETC": f"{folder}/etc", "OUTLAST_VAR": f"{folder}/var",
        "OUTLAST_RUN": f"{folder}/run", "XDG_CONFIG_HOME": f"{folder}/config",
    }  # fmt: skip

    def call(*arguments: str, typed: str = "") -> str:
        done = lab.rack.exec(host, [*MAIN, *arguments], input=typed, timeout_s=READY_S, env=env)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    pki = f"{folder}/pki"
    lab.outlast(
        host, "pool", "certificate", "m1", "--role", "manager", "--pool", POOL, "--out", pki
    )
    call("manager", "init", "--listen", AT.removeprefix("https://"))
    call("manager", "user", "add", "anna", "--role", "admin", typed=f"{PASSWORD}\n")
    agent = next(h.api for h in lab.client(host).status().hosts if h.name == host)
    call("manager", "add-pool", f"https://{agent}", "--pki", pki)
    with (folder / "log").open("ab") as log:
        manager = lab.rack.popen(host, [*MAIN, "manager", "run"], env=env, stderr=log)
    try:
        trusted = f"{folder}/var/manager/tls/cert.pem"
        words = ["login", AT, "--ca", trusted, "--user", "anna"]
        until = time.monotonic() + READY_S
        while "listening" not in (folder / "log").read_text() and time.monotonic() < until:
            time.sleep(0.2)
        call(*words, typed=f"{PASSWORD}\n")
        yield call
    finally:
        manager.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            manager.wait(20)
        manager.kill()
        manager.wait()
