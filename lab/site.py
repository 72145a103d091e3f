"""Three machines on one wire: `a` and `b` are hosts, `c` serves them.

    with Site(folder) as site:
        site.start("a", "b", "c")
        site["c"].check("systemctl start nfs-server")

Rule: when it is left, however that happens, no machine is left. Its folder stays, for its consoles.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from lab.machine import Machine
from lab.root import made
from outlast.errors import NotFound

NAMES = ("a", "b", "c")
HOSTS_FILE = r"127.0.0.1 localhost\n10.77.0.1 a\n10.77.0.2 b\n10.77.0.3 c nas\n"
TREE = Path(__file__).resolve().parents[1]
GATEWAY = "10.77.0.254"  # nobody; but a machine without a way out knows no address of its own
PLACES = ("usr/lib/outlast", "usr/bin/outlast")
T = TypeVar("T")


class Site:
    def __init__(self, folder: Path, memory_mib: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        given = _given(folder / "given")
        port = 20000 + secrets.randbelow(20000)
        root = made()
        self.machines = {
            name: Machine(name, number, root, folder, given, port, memory_mib)
            for number, name in enumerate(NAMES, 1)
        }

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for machine in self.machines.values():
            machine.kill()

    def start(self, *names: str) -> None:
        """Boot them and wait; what is given to them is at /mnt/lab then."""
        for name in names:
            self[name].start()
        self.both(names, self.wait)

    def wait(self, name: str) -> None:
        """After a boot, whoever asked for it."""
        self[name].wait_up()
        self[name].check(
            f"printf '{HOSTS_FILE}' >/etc/hosts; ip route replace default via {GATEWAY}; "
            "mkdir -p /mnt/lab && "
            "mount -t 9p -o trans=virtio,ro,version=9p2000.L,cache=loose lab /mnt/lab"
        )

    def wait_again(self, name: str) -> None:
        """The same of a machine that may have been reset or not."""
        self[name].wait_up()
        if self[name].run("mountpoint -q /mnt/lab").code:
            self.wait(name)

    def both(self, names: Sequence[str], work: Callable[[str], T]) -> list[T]:
        """The same in several machines at once."""
        with ThreadPoolExecutor(len(names)) as pool:
            return list(pool.map(work, names))

    def lend(self, *names: str) -> None:
        """Outlast as its package has it, without the minutes that installing takes here."""
        links = " && ".join(f"ln -sfn /mnt/lab/outlast/{place} /{place}" for place in PLACES)
        self.both(names, lambda name: self[name].check(links))


def _given(folder: Path) -> Path:
    """What machines may read: the newest package, and the tests of what they try."""
    packages = sorted((TREE / "build").glob("outlast_*.deb"), key=lambda p: p.stat().st_mtime)
    if not packages:
        raise NotFound("there is no package to try in build/", hint="make deb")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(packages[-1], folder)
    lent = folder / "outlast"
    subprocess.run(["dpkg-deb", "-x", str(packages[-1]), str(lent)], check=True)
    subprocess.run(["/usr/bin/python3", "-m", "compileall", "-q", str(lent)], check=True)
    for part in ("tests/contract", "tests/storage", "lab/inside"):
        shutil.copytree(TREE / part, folder / part)
    shutil.copy(TREE / "tests/conftest.py", folder / "tests")
    return folder
