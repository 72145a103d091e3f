"""A real Ceph for tests: a monitor and an OSD that keeps all in memory, with cephx.

It lives in namespaces of somebody else, and ends with them.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool", "rbd")
LIMIT_S = 30  # for one command, and for its OSD
MONITOR = "[v2:127.0.0.1:33001,v1:127.0.0.1:33002]"
CONF = """\
[global]
fsid = {fsid}
mon host = {monitor}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 268435456
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
mon data = {folder}/mon
mon data avail warn = 0
mon data avail crit = 0
osd data = {folder}/osd
[mon]
keyring = {folder}/mon.keyring
[osd]
osd client watch timeout = 2
keyring = {folder}/osd/keyring
"""
Run = Callable[..., str]


def why_not() -> str:
    """Why there can be none here, "" if there can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"needs {missing[0]}" if missing else ""


class CephProcess:
    """`run` runs a command where Ceph shall live; there `etc` is /etc/ceph."""

    def __init__(self, run: Run, etc: Path, folder: Path) -> None:
        self._run, self._etc, self._folder = run, etc, folder
        for name in ("mon", "osd"):
            (folder / name).mkdir(parents=True)
        fsid = str(uuid.uuid4())
        (etc / "ceph.conf").write_text(CONF.format(fsid=fsid, monitor=MONITOR, folder=folder))
        self._start_monitor(fsid)
        self._start_osd()

    def ceph(self, *words: str) -> str:
        return self._run("timeout", str(LIMIT_S), "ceph", *words)

    def rbd(self, *words: str) -> str:
        return self._run("timeout", str(LIMIT_S), "rbd", *words)

    def pool(self, name: str) -> None:
        self.ceph("osd", "pool", "create", name)
        self.rbd("pool", "init", name)

    def _start_monitor(self, fsid: str) -> None:
        admin, mon = self._etc / "ceph.client.admin.keyring", self._folder / "mon.keyring"
        everything = [word for who in ("mon", "osd") for word in ("--cap", who, "allow *")]
        make = ("ceph-authtool", "--create-keyring", "--gen-key")
        self._run(*make, str(admin), "-n", "client.admin", *everything)
        self._run(*make, str(mon), "-n", "mon.", "--cap", "mon", "allow *")
        self._run("ceph-authtool", str(mon), "--import-keyring", str(admin))
        monmap = str(self._folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", MONITOR, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", str(mon))
        self._run("ceph-mon", "-i", "a")

    def _start_osd(self) -> None:
        name = str(uuid.uuid4())
        self.ceph("osd", "new", name)
        caps = ("mon", "allow profile osd", "osd", "allow *")
        self.ceph("auth", "get-or-create", "osd.0", *caps, "-o", str(self._folder / "osd/keyring"))
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", name)
        self._run("ceph-osd", "-i", "0")
        end = time.monotonic() + LIMIT_S
        while "1 up" not in self.ceph("osd", "stat"):
            assert time.monotonic() < end, "its OSD does not come up"
            time.sleep(0.1)
