"""A switched PDU that speaks SNMP: Net-SNMP's own daemon, with the objects of one outlet."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

COMMUNITY = 'c0mm "unity'
PASSPHRASE, PRIVATE = "auth s3cret", "priv s3cret"
PROGRAMS = ("snmpd", "snmpget", "fence_apc_snmp")
STARTED_S = 20.0
CONFIGURATION = """\
rwcommunity "c0mm \\"unity"
createUser root SHA "{PASSPHRASE}" AES "{PRIVATE}"
rwuser root priv
override .1.3.6.1.2.1.1.2.0 object_id .1.3.6.1.4.1.318.1.3.4.5
override .1.3.6.1.4.1.318.1.1.12.3.5.1.1.4.3 integer 1
"""
OUTLET = "plug=3"  # it is on


def missing() -> str:
    """The program that is not here; "" = all are."""
    return next((program for program in PROGRAMS if shutil.which(program) is None), "")


class Pdu:
    """Runs in a `with`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pdu"
        self._folder.mkdir()
        words = CONFIGURATION.format(PASSPHRASE=PASSPHRASE, PRIVATE=PRIVATE)
        (self._folder / "snmpd.conf").write_text(words)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])

    def __enter__(self) -> Pdu:
        log = self._folder / "log"
        self._daemon = subprocess.Popen(
            ["snmpd", "-f", "-Lf", log, "-C", "-c", "snmpd.conf", f"udp:127.0.0.1:{self._port}"],
            cwd=self._folder, stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin", "SNMP_PERSISTENT_DIR": str(self._folder)},
        )  # fmt: skip
        until = time.monotonic() + STARTED_S
        while "NET-SNMP version" not in (log.read_text() if log.exists() else ""):
            assert self._daemon.poll() is None and time.monotonic() < until, "no snmpd"
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._daemon.kill()
        self._daemon.wait()

    def options(self, *more: str) -> tuple[str, ...]:
        return ("ip=127.0.0.1", f"ipport={self._port}", OUTLET, *more)
