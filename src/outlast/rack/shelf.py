"""A rack: hosts a, b, c ..., one switch, one storage. Up, down, faults, status.

Rules:
1. `up` scrubs first: what a crashed rack left in this folder is killed and removed. One rack a
   folder, one folder a prefix; both are held by file locks that die with the process.
2. `down` leaves nothing outside of the folder: no process, namespace, mount, control group. The
   hosts' disks and the pool stay for the next `up`, unless purged.
3. Everything of a rack dies with the process that holds this object.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import outlast
from outlast.errors import Conflict, InvalidInput, NotFound, OutlastError
from outlast.rack import cgroup, needs, net, sockets
from outlast.rack.boot import Service
from outlast.rack.cgroup import Group
from outlast.rack.host import Host, Site
from outlast.rack.net import Fault
from outlast.rack.storage_server import StorageServer

STATE_FILE, LOCK_FILE, SERVER_GROUP = "rack.json", "lock", "storage-server"
CONTROL_TIMEOUT_S = 3.0
STORAGE_MODES = {"stall": "hang", "fail": "fail", "slow": "slow", "lose-replies": "lost-reply",
                 "heal": "ok"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """What kind of rack."""

    folder: Path
    hosts: int = 3
    storage: str = "rackfs"  # or "bind": the folder itself, no faults
    prefix: str = ""  # name of the control group; empty: made from the folder's path
    third: int = 0  # third part of the addresses
    lock_lease_s: float = 2.0  # locks of a host without power lapse after this time
    libvirt: bool = True
    shared_locks: bool = True  # False: image locks hold only within a host
    nowayout: bool = False  # the watchdogs cannot be disarmed
    services: tuple[Service, ...] = ()  # more services for every host


class Rack:
    """One rack, from `up` to `down`."""

    def __init__(self, shape: Shape) -> None:
        needs.check_shape(shape.hosts, shape.storage, shape.third, shape.lock_lease_s)
        self.shape = shape
        self.folder = shape.folder.absolute()
        self.prefix = shape.prefix or default_prefix(self.folder)
        if not self.prefix.replace("-", "").replace("_", "").isalnum():
            raise InvalidInput(f"'{self.prefix}' is no prefix", hint="letters, digits, - and _")
        self.names = tuple(chr(ord("a") + i) for i in range(shape.hosts))
        self.hosts: dict[str, Host] = {}
        self.server: StorageServer | None = None
        self.switch = net.Switch(shape.third)
        self._held = contextlib.ExitStack()
        self._closing = threading.Lock()
        self._is_up = False

    @property
    def compiled(self) -> Path:
        """Where the hosts' compiled Python files are: with this process's own, if it keeps them
        apart from the sources. Racks may share them."""
        return Path(sys.pycache_prefix or self.folder / "pycache").absolute()

    # -- up and down

    def up(self) -> None:
        """Build everything and boot all hosts. Raises OutlastError; then nothing is left."""
        needs.check(self.shape.libvirt)
        try:
            self._claim()
            self._build()
            self.each(Host.power_on)
        except BaseException:
            self.down()
            raise

    def down(self, purge: bool = False) -> None:
        """End everything. purge: the hosts' disks, the pool and the logs too. Idempotent."""
        with self._closing:
            for host in self.hosts.values():
                host.ended = True
            if self._is_up:
                self._take_down()
            self.switch.close()
            if self._is_up and purge:
                remove_disks(self.folder)
            self._is_up = False
            self._held.close()

    def each(self, action: Callable[[Host], object], names: Sequence[str] = ()) -> None:
        """Do something to several hosts at once; raises the first trouble when all are done."""
        hosts = [self.host(name) for name in names or self.names]
        with ThreadPoolExecutor(len(hosts)) as pool:
            futures = [pool.submit(action, host) for host in hosts]
        for future in futures:
            future.result()

    def host(self, name: str) -> Host:
        """Raises NotFound."""
        try:
            return self.hosts[name]
        except KeyError:
            known = ", ".join(self.hosts)
            raise NotFound(f"there is no host '{name}'", hint=f"hosts: {known}") from None

    def _claim(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._held.enter_context((self.folder / LOCK_FILE).open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"a rack is already up in {self.folder}",
                           hint="outlast rack down") from None  # fmt: skip
        former = recorded_prefix(self.folder)
        if former and former != self.prefix:
            scrub_group(Group(cgroup.find_root() / former))
        self.group = Group(cgroup.find_root() / self.prefix)
        self._held.enter_context(self.group.owned())
        self._is_up = True
        (self.folder / STATE_FILE).write_text(json.dumps({"prefix": self.prefix}))
        for child in (path for path in self.group.path.iterdir() if path.is_dir()):
            Group(child).remove()
        for folder in (self.folder / "pool", self.compiled):
            folder.mkdir(parents=True, exist_ok=True)

    def _build(self) -> None:
        from outlast.rack import pki  # only a rack itself needs a cryptography library

        site = self._site()
        self.switch.up()
        if self.shape.storage == "rackfs":
            self.server = StorageServer(
                self.folder, self.switch, Group(self.group.path / SERVER_GROUP), site.env,
                self.shape.lock_lease_s,
            )  # fmt: skip
            self.server.start()
        for name in self.names:
            host = Host(site, name)
            self.hosts[name] = host
            if self.shape.libvirt:
                addresses = [host.address(n) for n in net.NETS]
                pki.equip(host.base / "disk/pki", self.folder / "ca", name, addresses)
            host.plug_watchdog()

    def _take_down(self) -> None:
        troubles = []
        with ThreadPoolExecutor(max(1, len(self.hosts))) as pool:
            for future in [pool.submit(_end, host) for host in self.hosts.values()]:
                try:
                    future.result()
                except OutlastError as error:
                    troubles.append(error)
        if self.server is not None:
            self.server.stop()
        try:
            self.group.remove()
        except OutlastError as error:
            troubles.append(error)
        (self.folder / STATE_FILE).unlink(missing_ok=True)
        if troubles:
            raise troubles[0]

    def _site(self) -> Site:
        source = Path(outlast.__file__).resolve().parent.parent
        binaries = "" if sys.prefix.startswith("/usr") else f"{sys.prefix}/bin:"
        env = {
            "PATH": binaries + needs.SEARCH,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(source),
            "PYTHONPYCACHEPREFIX": str(self.compiled),
        }
        return Site(
            self.folder, self.switch, self.group, self.names, self.shape.storage,
            self.shape.libvirt, env, source, self.shape.shared_locks, self.shape.services,
            self.shape.nowayout,
        )  # fmt: skip

    # -- faults of the network

    def cut(self, a: str, b: str, one_way: bool = False, network: str = "mgmt") -> None:
        """Frames from a to b vanish, and from b to a too unless one_way."""
        net.check_net(network)
        for name in (a, b):
            self.host(name)
        if a == b:
            raise InvalidInput("a host has no cable to itself")
        faults = [Fault(network, a, b)] + ([] if one_way else [Fault(network, b, a)])
        self.switch.add(*faults)

    def isolate(self, name: str, network: str = "mgmt") -> None:
        """A host reaches nobody on a network, not even the storage server."""
        self.loss(name, 100, network)

    def loss(self, name: str, percent: int, network: str = "mgmt") -> None:
        """Each frame from and to a host vanishes with this chance; 0 heals."""
        net.check_net(network)
        self.host(name)
        if not 0 <= percent <= 100:
            raise InvalidInput(f"a loss of {percent} % cannot be", hint="0 to 100")
        if percent == 0:
            self.switch.heal(name, net=network)
        else:
            self.switch.add(Fault(network, name, "", percent), Fault(network, "", name, percent))

    def link(self, name: str, up: bool, network: str = "mgmt") -> None:
        """Pull (up False) or plug a host's cable; a pulled one stays so over power cycles."""
        net.check_net(network)
        self.switch.link(self.host(name).name, network, up)

    def heal(self, names: Sequence[str] = (), network: str = "") -> None:
        """Heal the network: all of it, all of one host, or what is between two hosts."""
        if network:
            net.check_net(network)
        for name in names:
            self.host(name)
        self.switch.heal(*names, net=network)

    # -- faults of the storage

    def storage(self, action: str, name: str = "", **detail: object) -> dict[str, object]:
        """Fault switch of one host, or of the server (empty name).

        action for a host: stall | fail | slow | lose-replies | heal, with "path" (regular
        expression), "ops", "errno" (name), "ms"; for the server: stall | stop | heal.
        Returns the state of that storage client or server.
        """
        if self.server is None:
            raise InvalidInput("a rack with bind storage has no storage faults", hint="use rackfs")
        if not name:
            return self._server_fault(self.server, action)
        mode = STORAGE_MODES.get(action)
        if mode is None:
            raise InvalidInput(f"no storage fault '{action}'", hint=", ".join(STORAGE_MODES))
        wanted = {"path", "ops", "errno", "ms"}
        if set(detail) - wanted:
            raise InvalidInput(f"unknown: {set(detail) - wanted}", hint=", ".join(sorted(wanted)))
        return self._ask_client(self.host(name), {"mode": mode, **detail})

    def _server_fault(self, server: StorageServer, action: str) -> dict[str, object]:
        actions = {"stall": server.stall, "stop": server.stop, "heal": server.start}
        if action not in actions:
            raise InvalidInput(
                f"the storage server cannot '{action}'", hint="one of: " + ", ".join(actions)
            )
        actions[action]()
        return {"server": server.state()}

    def _ask_client(self, host: Host, question: Mapping[str, object]) -> dict[str, object]:
        host.need_power()
        if host.state() == "frozen":
            raise Conflict(f"host {host.name} is frozen, its storage client too", hint="thaw it")
        answer = sockets.ask(host.base / "run/rack/storage.sock", question, CONTROL_TIMEOUT_S)
        if "error" in answer:
            raise InvalidInput(str(answer["error"]))
        return answer

    # -- looking

    def status(self) -> dict[str, object]:
        """All there is to know, as JSON."""
        server = self.server
        storage: dict[str, object] = {"kind": self.shape.storage, "pool": str(self.folder / "pool")}
        if server is not None:
            storage |= {"server": server.state(), "server_pid": server.pid(),
                        "lock_lease_s": self.shape.lock_lease_s}  # fmt: skip
        state = self.switch.state
        return {
            "folder": str(self.folder),
            "prefix": self.prefix,
            "pid": os.getpid(),
            "switch_thread": self.switch.thread_id,
            "storage": storage,
            "hosts": {name: self._host_status(host) for name, host in self.hosts.items()},
            "faults": [str(f) for f in state.faults]
            + [f"{network}: cable of {name} pulled" for name, network in sorted(state.unplugged)],
        }

    def _host_status(self, host: Host) -> dict[str, object]:
        power = host.power
        fault: object = None
        if power is not None and self.server is not None and host.state() == "on":
            with contextlib.suppress(OutlastError):
                fault = self._ask_client(host, {})
        return {
            "power": host.state(),
            "pid": power.pid if power else 0,
            "boot_id": power.boot_id if power else "",
            "machine_id": host.machine_id,
            "addresses": {n: host.address(n) for n in net.NETS},
            "run": str(host.base / "run"),
            "log": str(host.base / "log"),
            "services": host.services() if power else {},
            "watchdog": host.watchdog.status(),
            "storage": fault,
        }


def _end(host: Host) -> None:
    try:
        host.power_off()
    finally:
        host.unplug_watchdog()


def default_prefix(folder: Path) -> str:
    """A control group name of its own for every folder."""
    return "rack-" + hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]


def recorded_prefix(folder: Path) -> str:
    """The prefix of the rack that is or was up in a folder; empty if none."""
    try:
        return str(json.loads((folder / STATE_FILE).read_text())["prefix"])
    except (OSError, ValueError, KeyError):
        return ""


def scrub(folder: Path, purge: bool = False) -> bool:
    """Remove what a crashed rack left. True: there was something.

    Raises Conflict if the rack is up.
    """
    if not folder.is_dir():
        return False
    with open(folder / LOCK_FILE, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"the rack in {folder} is up", hint="outlast rack down") from None
        prefix = recorded_prefix(folder)
        if prefix:
            scrub_group(Group(cgroup.find_root() / prefix))
        (folder / STATE_FILE).unlink(missing_ok=True)
        if purge:
            remove_disks(folder)
    return bool(prefix)


def scrub_group(group: Group) -> None:
    """Kill and remove a group unless a living rack holds it."""
    if group.path.exists():
        with group.owned():
            group.remove()


def remove_disks(folder: Path) -> None:
    """Remove the hosts' disks, the pool, the certificates and the caches of a rack that is down."""
    for entry in list(folder.iterdir()):
        ours = entry.name in ("pool", "pycache", "ca") or (entry / "disk").is_dir()
        if ours and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
