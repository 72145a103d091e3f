"""A real manager process with a pretend fleet, for browsers: `python tests/web/stage.py ROOT PORT`.

It prints one line of JSON once it listens, then does what it reads, a word a line, and answers each
with "ok": step [SHARE] | silent POOL | back POOL | vm NAME STATE | storm N | stop.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from argon2 import PasswordHasher
from fleet import PretendPool
from fleet_follower import follow
from fleet_story import failure, lately
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.embed import Server

from outlast.errors import Unreachable
from outlast.manager import rounds
from outlast.manager.api.app import build
from outlast.manager.config import Config, Place, make_certificate
from outlast.manager.passwords import Passwords
from outlast.manager.ports import Grant, Person
from outlast.manager.repository import moments, rollups
from outlast.manager.serve import STREAMS_MAX, pages
from outlast.manager.service import Manager

PASSWORD = "correct horse battery"
BOSS = Person("boss", (Grant("admin"),))


class EchoLine:
    """A serial line that greets and answers in capital letters; what aiohttp's socket is."""

    def __init__(self, vm: str) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queue.put_nowait(f"welcome to {vm}\r\n{vm} login: ".encode())

    async def send_bytes(self, data: bytes) -> None:
        await self._queue.put(data.upper())

    def __aiter__(self) -> EchoLine:
        return self

    async def __anext__(self) -> SimpleNamespace:
        return SimpleNamespace(data=await self._queue.get())


class SocketLine:
    """A unix socket as such a line: the screen of a real QEMU."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def __aiter__(self) -> SocketLine:
        return self

    async def __anext__(self) -> SimpleNamespace:
        if data := await self._reader.read(65536):
            return SimpleNamespace(data=data)
        raise StopAsyncIteration


class Stage:
    def __init__(self, root: Path, port: int, *, fresh: bool = False) -> None:
        self.root, self.port, self.fresh = root, port, fresh
        self.place = Place(root / "etc", root)
        hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
        self.manager = Manager(self.place, Config(), passwords=Passwords(hasher))
        self.pools: dict[str, PretendPool] = {}
        self.followers: dict[str, Any] = {}

    async def start(self, sizes: dict[str, int]) -> None:
        rounds.EVERY_S = 0.2
        await self.manager.start()
        await asyncio.sleep(0)  # it has begun, and can be ended
        self.manager._loops[1].cancel()  # it would take away pools that the database lacks
        if self.fresh:
            return
        people = self.manager.people
        for name, role in (("anna", "admin"), ("otto", "operator"), ("vera", "viewer")):
            await people.add_user(BOSS, name, PASSWORD, (Grant(role),))
        for n, (name, vms) in enumerate(sizes.items(), 1):
            pool = self.pools[name] = PretendPool(n, name, hosts=8 if vms > 100 else 3, vms=vms)
            if n == 1:
                failure(pool)
                rows = lately(pool, "db-prod-0018")
                await self.manager.repository.write(lambda c, r=rows: rollups.add(c, r))
            self.followers[name] = follow(self.manager, pool)
            await self.manager.repository.write(
                lambda c, p=pool: moments.add_events(c, p.id, p.notes)
            )
        asyncio.get_running_loop().create_task(self._pulse())

    async def _pulse(self) -> None:
        """Answers come every second, and beats are as old as they are."""
        for n in itertools.count():
            for name, follower in self.followers.items():
                for host in list(self.pools[name].hosts.values()):
                    if host.state == "member":
                        age = (host.slot * 137 + n * 311) % 900 + 60
                        self.pools[name].change_host(host.name, beat_age_ms=age)
                follower.tell()
            self.manager.reads.age()
            await asyncio.sleep(1)

    @asynccontextmanager
    async def dial(
        self, manager: Manager, pool_id: str, vm: str, what: str
    ) -> AsyncIterator[EchoLine | SocketLine]:
        if what == "console":
            yield EchoLine(vm)
            return
        try:
            reader, writer = await asyncio.open_unix_connection(self.root / "screen")
        except OSError:
            raise Unreachable(f"{vm} does not run") from None
        try:
            yield SocketLine(reader, writer)
        finally:
            writer.close()

    async def obey(self, line: str) -> str:
        word, *more = line.split()
        if word == "step":
            for pool in self.pools.values():
                pool.step(float(more[0]) if more else 1.0)
        elif word in ("silent", "back"):
            self.pools[more[0]].answers = word == "back"
        elif word == "vm":
            pool = next(p for p in self.pools.values() if more[0] in p.vms)
            host = "" if more[1] in ("stopped", "down") else pool.vms[more[0]].host
            pool.change_vm(more[0], state=more[1], host=host, sentence=f"{more[0]} is {more[1]}")
        elif word == "moved":  # vm, host
            next(p for p in self.pools.values() if more[0] in p.vms).change_vm(
                more[0], host=more[1]
            )
        elif word == "lacks":  # thing, host
            stock = next(p.stock for p in self.pools.values() if more[1] in p.hosts)
            stock.lacks[more[0], more[1]] = "there is no card eno1"
        elif word == "imported":
            next(p.stock for p in self.pools.values() if more[0] in p.stock.jobs).imported(more[0])
        elif word == "breaks":
            self.pools["frankfurt-a"].stock.breaks = int(more[0])
        elif word == "storm":
            asyncio.get_running_loop().create_task(self._storm(int(more[0])))
        for follower in self.followers.values():
            follower.tell()
        return f"ok {time.time()}"

    async def _storm(self, events: int) -> None:
        """Twenty changes a second, each of another VM of the first pool."""
        name, pool = next(iter(self.pools.items()))
        names = [v.name for v in pool.vms.values() if v.state == "running"][:40]
        for n in range(events):
            pool.change_vm(names[n % len(names)], since_wall_s=time.time() - n)
            self.followers[name].tell()
            await asyncio.sleep(0.05)

    async def serve(self) -> None:
        make_certificate(self.root / "tls", ["127.0.0.1", "localhost"])
        app = pages(build(self.manager), self.manager)
        app.state.web.dial = self.dial
        server = Server(
            app, address="127.0.0.1", port=self.port,
            interface=Interfaces.ASGINL, http=HTTPModes.auto,
            ssl_cert=self.root / "tls/cert.pem", ssl_key=self.root / "tls/cert.key",
            log_level=LogLevels.error, websockets=True, backlog=1024, backpressure=STREAMS_MAX,
        )  # fmt: skip
        serving = asyncio.ensure_future(server.serve())
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.05)
        code = self.place.setup_code.read_text().strip() if self.fresh else ""
        print(json.dumps({"port": self.port, "code": code}), flush=True)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while line := (await reader.readline()).decode().strip():
            if line == "stop":
                break
            print(await self.obey(line), flush=True)
        self.manager.reads.hub.close()
        server.stop()
        await asyncio.wait([serving], timeout=5)
        await self.manager.stop()


async def main() -> None:
    root, port, kind = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    root.mkdir(parents=True, exist_ok=True)
    stage = Stage(root, port, fresh=kind == "fresh")
    sizes = {"frankfurt-a": 400, "lab": 24}
    if kind == "large":
        sizes = {"frankfurt-a": 5000, "berlin-b": 3000, "hamburg-c": 1976, "lab": 24}
    await stage.start(sizes)
    await stage.serve()


if __name__ == "__main__":
    asyncio.run(main())
