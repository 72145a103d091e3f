"""Run in a machine: a Ceph of that one machine, as the tests have it, and a CephFS in it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, "/mnt/lab/tests/contract")
import ceph_process

ADDRESS, START_S = "10.77.0.3", 600  # translated, one command takes half a minute
# a monitor that has to wait for its own translation is not to replace the only MDS
PATIENT = "[global]\nmds beacon grace = 120\n"
KEYRING = Path("/root/ceph/mds.keyring")
MANAGER = Path("/var/lib/ceph/mgr/ceph-a/keyring")


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    ceph_process.MONITOR = f"[v2:{ADDRESS}:3300,v1:{ADDRESS}:6789]"
    ceph_process.LIMIT_S = START_S
    ceph_process.CONF = ceph_process.CONF.replace("[global]\n", PATIENT, 1)
    etc = Path("/etc/ceph")
    etc.mkdir(exist_ok=True)
    made = ceph_process.CephProcess(run, etc, KEYRING.parent)
    everything = ("mon", "allow *", "osd", "allow *", "mds", "allow *")
    made.ceph("auth", "caps", "client.admin", *everything)
    manager(made)
    for pool in ("meta", "data"):
        made.ceph("osd", "pool", "create", pool)
    made.ceph("fs", "new", "pool", "meta", "data")
    made.ceph("auth", "get-or-create", "mds.a", *everything, "-o", str(KEYRING))
    run("ceph-mds", "-i", "a", "--keyring", str(KEYRING))
    wait(made, "MDS", "up:active", "mds", "stat")


def manager(made: ceph_process.CephProcess) -> None:
    """Who alone knows how much room there is."""
    MANAGER.parent.mkdir(parents=True, exist_ok=True)
    caps = ("mon", "allow profile mgr", "osd", "allow *", "mds", "allow *")
    made.ceph("auth", "get-or-create", "mgr.a", *caps, "-o", str(MANAGER))
    run("ceph-mgr", "-i", "a")
    wait(made, "manager", '"available": true', "mgr", "stat")


def wait(made: ceph_process.CephProcess, what: str, sign: str, *words: str) -> None:
    end = time.monotonic() + START_S
    while sign not in made.ceph(*words):
        if time.monotonic() > end:
            raise SystemExit(f"its {what} does not come up")
        time.sleep(1)


if __name__ == "__main__":
    main()
