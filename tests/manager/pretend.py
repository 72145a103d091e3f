"""Statuses of pretend pools, and a whole real agent behind TLS, for the manager's tests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "agent"))

from memory_service import SETTINGS, MemoryService

from outlast.agent.server import Server
from outlast.agent.server_thread import ServerThread
from outlast.manager.follower import PoolLink
from outlast.wire import seal
from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus

POOL = "00000000-0000-4000-8000-00000000000a"


def vm(name: str, state: str = "running", host: str = "a", **more: object) -> VmStatus:
    values: dict[str, object] = {
        "name": name, "uuid": f"uuid-{name}", "state": state, "sentence": f"{name} is {state}",
        "desired": "running" if state == "running" else "stopped", "host": host,
        "memory_mib": 512, "vcpus": 1, "ha": True, "definition": 1,
    }  # fmt: skip
    return VmStatus.model_validate(values | more)


def host(name: str, slot: int = 1, **more: object) -> HostStatus:
    values: dict[str, object] = {
        "name": name, "slot": slot, "state": "member", "sentence": f"{name} is a member",
    }  # fmt: skip
    return HostStatus.model_validate(values | more)


def pool(*vms: VmStatus, id: str = POOL, name: str = "lab", **more: object) -> PoolStatus:
    values: dict[str, object] = {
        "name": name, "uuid": id, "preset": "standard", "answered_by": "a",
        "sentence": "all is well", "view": 7, "master": "a",
        "hosts": [host("a", 1, master=True, answering=True), host("b", 2)], "vms": list(vms),
    }  # fmt: skip
    return PoolStatus.model_validate(values | more)


class RealPool:
    """Hosts a and b of one pool: real agents' servers with real certificates, storage in memory."""

    id = SETTINGS.uuid

    def __init__(self, root: Path) -> None:
        self.root, self.authority = root, root / "authority"
        self.authority.mkdir()
        seal.create_authority(self.authority)
        for folder in ("images", "reg"):  # as on a pool's storage
            (root / folder).mkdir()
        self.a = MemoryService(root, slot=1)
        self.b = MemoryService(root, slot=2)
        self.b.register, self.b.leases, self.b.slots = self.a.register, self.a.leases, self.a.slots
        self.servers = {name: self._server(name) for name in ("a", "b")}
        self.threads: dict[str, ServerThread] = {}
        for name in self.servers:
            self.start(name)
        key, cert = seal.issue_host(self.authority, "manager", "u", [], "manager")
        self.pki = root / "manager-pki"
        seal.install(self.pki, self.authority, key, cert)
        for slot, name in ((1, "a"), (2, "b")):
            api = f"127.0.0.1:{self.servers[name].port}"
            self.a.slots[slot] = replace(self.a.slots[slot], api=api)

    def _server(self, name: str) -> Server:
        service = self.a if name == "a" else self.b
        key, cert = seal.issue_host(self.authority, name, f"uuid-{name}", ["127.0.0.1"])
        pki = self.root / name / "pki"
        seal.install(pki, self.authority, key, cert)
        socket = self.root / name / "agent.sock"
        return Server(service, socket, address="127.0.0.1:0", pki=pki)

    def url(self, name: str) -> str:
        return f"https://127.0.0.1:{self.servers[name].port}"

    def link(self, *names: str) -> PoolLink:
        return PoolLink(self.id, "lab", tuple(self.url(n) for n in names or ("a", "b")), self.pki)

    def start(self, name: str) -> None:
        server = self.servers[name]
        if server.port:  # again, at the same place
            server._address = f"127.0.0.1:{server.port}"
        self.threads[name] = ServerThread(server)
        self.threads[name].start()

    def stop(self, name: str) -> None:
        self.threads.pop(name).stop()

    def close(self) -> None:
        for name in list(self.threads):
            self.stop(name)


async def until(true: Callable[[], bool], within_s: float = 10) -> None:
    """Wait for something on this event loop."""
    import asyncio

    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)
