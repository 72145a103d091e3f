"""What the manager costs: lists of 10,000 VMs beside the same query done bare, and 200 streams.

    make bench-manager            20 pools of 500 VMs; two minutes

Rules:
1. Both sides are a process of their own behind the same server, TLS and connections. "Bare" is an
   ASGI function, one SELECT and one COUNT on SQLite, and json.dumps: no login, no checks.
2. Queries differ from each other, so that no side answers out of a cache of answers.
3. CPU is that of the server's process, from /proc, by requests; ratios count, as machines differ.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import socket
import sqlite3
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.embed import Server

from outlast.manager.api.app import build
from outlast.manager.config import Config, Place, make_certificate
from outlast.manager.passwords import Passwords
from outlast.manager.ports import Grant, Person
from outlast.manager.serve import STREAMS_MAX
from outlast.manager.service import Manager
from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus

POOLS, VMS = 20, 500
CONNECTIONS, REQUESTS = 16, 4000
READERS, EVENTS_S, STREAM_S = 200, 20, 10.0
STATES = ("running", "running", "running", "stopped", "waiting", "down")
TICKS_S = os.sysconf("SC_CLK_TCK")


def pool_id(n: int) -> str:
    return f"00000000-0000-4000-8000-{n:012d}"


def vm(pool: int, n: int, state: str = "") -> VmStatus:
    number = pool * VMS + n
    return VmStatus(
        name=f"vm-{number:05d}", uuid=f"10000000-0000-4000-8000-{number:012d}",
        state=state or STATES[number * 7 % len(STATES)], sentence="it runs since this morning",
        desired="running", host=f"host-{number % 8:02d}", since_wall_s=1.7e9 + number,
        memory_mib=512 << (number * 13 % 6), vcpus=1 + number % 8, ha=number % 5 != 0,
        definition=3, epoch=7, disks=[],
    )  # fmt: skip


def status(pool: int) -> PoolStatus:
    hosts = [
        HostStatus(name=f"host-{n:02d}", slot=n + 1, state="member", sentence="it is a member")
        for n in range(8)
    ]
    return PoolStatus(
        name=f"pool-{pool:02d}", uuid=pool_id(pool), preset="standard", answered_by="host-00",
        sentence="all is well", hosts=hosts, vms=[vm(pool, n) for n in range(VMS)],
    )  # fmt: skip


# ---- the two servers


async def serve(app: Any, root: Path, port: int) -> None:
    server = Server(
        app, address="127.0.0.1", port=port, interface=Interfaces.ASGINL,
        ssl_cert=root / "tls/cert.pem", ssl_key=root / "tls/cert.key", log_level=LogLevels.error,
        backlog=1024, backpressure=STREAMS_MAX,
    )  # fmt: skip
    await server.serve()


async def serve_manager(root: Path, port: int, changing: str) -> None:
    place = Place(root / "etc", root)
    hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    manager = Manager(place, Config(), passwords=Passwords(hasher))
    await manager.start()
    boss = Person("boss", (Grant("admin"),))
    await manager.people.add_user(boss, "bench", "a password of the bench", (Grant("admin"),))
    token, _ = await manager.people.add_token(boss, "bench", "b", (Grant("admin"),), 1)
    (root / "token").write_text(token)
    for loop in manager._loops:  # they would take away pools that the database does not know
        loop.cancel()
    for n in range(POOLS):
        manager.reads.add(pool_id(n), f"pool-{n:02d}")
        manager.reads.heard(status(n), manager.reads.now_s())
    work = {"lists": _change_vms, "stream": _publish}.get(changing)
    running = asyncio.ensure_future(work(manager)) if work else None
    await serve(build(manager), root, port)
    if running is not None:
        running.cancel()


async def _change_vms(manager: Manager) -> None:
    """One VM somewhere is another EVENTS_S times a second, as a follower would find it."""
    kept = [status(n) for n in range(POOLS)]
    for n in itertools.count():
        pool, which = n % POOLS, n // POOLS % VMS
        vms = list(kept[pool].vms)
        vms[which] = vm(pool, which, STATES[n % len(STATES)])
        kept[pool] = kept[pool].model_copy(update={"vms": vms})
        manager.reads.heard(kept[pool], manager.reads.now_s())
        await asyncio.sleep(1 / EVENTS_S)


async def _publish(manager: Manager) -> None:
    for n in itertools.count():
        manager.reads.hub.publish("vm", pool_id(n % POOLS), f"vm-{n:05d}")
        await asyncio.sleep(1 / EVENTS_S)


FIELDS = (
    "pool", "name", "uuid", "state", "sentence", "desired", "host", "since_wall_s", "epoch",
    "definition", "memory_mib", "vcpus", "ha",
)  # fmt: skip


def bare(root: Path) -> Callable[..., Awaitable[None]]:
    """The same question as an ASGI function, SQL and json.dumps."""
    database = sqlite3.connect(root / "bare.db", check_same_thread=False)
    database.execute(f"create table vms ({', '.join(FIELDS)})")
    marks = ", ".join("?" * len(FIELDS))
    for pool, n in itertools.product(range(POOLS), range(VMS)):
        one = vm(pool, n)
        values = [f"pool-{pool:02d}", *(getattr(one, name) for name in FIELDS[1:])]
        database.execute(f"insert into vms values ({marks})", values)
    database.execute("create index by_memory on vms (memory_mib, name)")
    database.commit()
    where = "where state = ? and name like ?"
    rows_sql = f"select {', '.join(FIELDS)} from vms {where} order by memory_mib desc, name desc"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        query = dict(p.split("=") for p in scope["query_string"].decode().split("&"))
        wanted = (query["state"], f"%{query['search']}%")
        rows = database.execute(rows_sql + " limit 50", wanted).fetchall()
        total = database.execute(f"select count(*) from vms {where}", wanted).fetchone()[0]
        items = [dict(zip(FIELDS, row, strict=True)) for row in rows]
        body = json.dumps({"items": items, "total": total}).encode()
        headers = [(b"content-type", b"application/json"),
                   (b"content-length", str(len(body)).encode())]  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


# ---- asking


class Side:
    """One server process."""

    def __init__(self, kind: str, changing: str = "") -> None:
        self.kind = kind
        self.root = Path(tempfile.mkdtemp(prefix="outlast-bench-"))
        make_certificate(self.root / "tls", ["127.0.0.1"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "bench.manager", "--serve", kind, str(self.root),
                   str(self.port), changing]  # fmt: skip
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.context = ssl.create_default_context(cafile=str(self.root / "tls/cert.pem"))
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                assert time.monotonic() < end and self.process.poll() is None, "it does not start"
                time.sleep(0.05)
        token = self.root / "token"
        self.head = f"Authorization: Bearer {token.read_text()}\r\n" if token.exists() else ""

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_S

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)

    def request(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{self.head}\r\n".encode()


def queries() -> list[str]:
    """200 that differ in state, search and so in what they find."""
    return [
        f"state={state}&search={n:02d}&sort=memory&descending=true&limit=50"
        for n in range(100) for state in ("running", "stopped")
    ]  # fmt: skip


async def load(side: Side, requests: int, connections: int) -> tuple[list[float], int]:
    """How long each took in s, and the bytes of the answers."""
    path = "/api/v1/vms?" if side.kind == "manager" else "/?"
    todo = itertools.islice(itertools.cycle(queries()), requests)
    took: list[float] = []
    size = 0

    async def one() -> None:
        nonlocal size
        reader, writer = await side.connect()
        for query in todo:
            begun = time.perf_counter()
            writer.write(side.request(path + query))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            size += len(await reader.readexactly(length))
            took.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return took, size


def measure(side: Side, requests: int) -> dict[str, float]:
    asyncio.run(load(side, 300, CONNECTIONS))  # warm
    before = side.cpu_s()
    took, size = asyncio.run(load(side, requests, CONNECTIONS))
    cpu_ms = (side.cpu_s() - before) * 1000 / requests
    alone, _ = asyncio.run(load(side, 400, 1))
    cuts = statistics.quantiles(took, n=100)
    return {"cpu_ms": cpu_ms, "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000,
            "alone_ms": statistics.median(alone) * 1000, "bytes": size / requests}  # fmt: skip


async def read_streams(side: Side) -> tuple[list[int], float]:
    """How many events each reader got within STREAM_S, and the server's CPU as a part of a core."""
    counts = [0] * READERS
    opened = asyncio.Barrier(READERS + 1)

    async def one(n: int) -> None:
        reader, writer = await side.connect()
        writer.write(side.request("/api/v1/events/stream"))
        await reader.readuntil(b"this is live")
        await opened.wait()
        while True:
            counts[n] += (await reader.read(65536)).count(b"event: vm")

    readers = [asyncio.ensure_future(one(n)) for n in range(READERS)]
    await opened.wait()
    await asyncio.sleep(1)
    before, start = list(counts), (side.cpu_s(), time.monotonic())
    await asyncio.sleep(STREAM_S)
    cpu = (side.cpu_s() - start[0]) / (time.monotonic() - start[1])
    got = [now - then for now, then in zip(counts, before, strict=True)]
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return got, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", nargs=4, metavar=("KIND", "DIR", "PORT", "CHANGING"))
    parser.add_argument("--requests", type=int, default=REQUESTS)
    chosen = parser.parse_args()
    if chosen.serve:
        kind, root, port, changing = chosen.serve
        if kind == "manager":
            asyncio.run(serve_manager(Path(root), int(port), changing))
        else:
            asyncio.run(serve(bare(Path(root)), Path(root), int(port)))
        return
    print(f"{POOLS * VMS} VMs in {POOLS} pools; 50 of them filtered, sorted, with the total;"
          f" {CONNECTIONS} connections")  # fmt: skip
    found = {}
    for name, kind, changing in (
        ("bare", "bare", ""), ("manager", "manager", ""),
        (f"manager, {EVENTS_S} changes/s", "manager", "lists"),
    ):  # fmt: skip
        side = Side(kind, changing)
        found[name] = measure(side, chosen.requests)
        side.close()
        line = "  ".join(f"{k} {v:8.2f}" for k, v in found[name].items())
        print(f"  {name:24} {line}   CPU x{found[name]['cpu_ms'] / found['bare']['cpu_ms']:.2f}")
    side = Side("manager", "stream")
    got, cpu = asyncio.run(read_streams(side))
    side.close()
    wanted = EVENTS_S * STREAM_S
    print(f"  {READERS} readers, {EVENTS_S} events/s for {STREAM_S:g} s: each got {min(got)} to"
          f" {max(got)} of about {wanted:g}; CPU {cpu * 100:.1f} % of a core")  # fmt: skip


if __name__ == "__main__":
    main()
