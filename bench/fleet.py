"""What the manager costs with a large fleet: 100 pools of 64 hosts and 2,000 VMs.

    make bench-fleet              two minutes; POOLS=20 for a smaller one

Rules:
1. The pools are pretended, their agents' API is not: mutual TLS, one port a pool, the shapes and
   the differences of the real one (agent/answers.py). The manager is a whole one in a process of
   its own and follows them as any: addresses out of its database, one follower each.
2. Every second one VM of each pool changes, beats have other ages, and a few hosts' VM counts move;
   now and then a whole host of VMs is another's. How late the manager tells of a change is measured
   from the instant at which the pool had it, by a stamp in the VM.
3. CPU and memory are those of the manager's process, from /proc, after everything was heard once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aiohttp import web

from bench.manager import TICKS_S, pool_id, vm
from outlast.agent.answers import Answers
from outlast.manager.config import Config, Place
from outlast.manager.ports import Change
from outlast.manager.repository import records
from outlast.manager.service import Manager
from outlast.wire import seal
from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus

POOLS, HOSTS, VMS = 100, 64, 2000
SECONDS = 60.0
FAILOVER_S = 10.0  # every so often a host's VMs are another's
GOAL_MIB, GOAL_CPU = 1024, 1.0


class Pool:
    """One pretended pool."""

    def __init__(self, number: int) -> None:
        self.number, self.tick = number, 0
        self.answers = Answers()
        names = [f"host-{n:02d}" for n in range(HOSTS)]
        self.hosts = [
            HostStatus(
                name=name, slot=n + 1, state="member", sentence=f"{name} is a member",
                hears=[other for other in names if other != name], beat_age_ms=300,
                free_mib=1 << 18, free_vcpus=100, vm_count=VMS // HOSTS,
            )
            for n, name in enumerate(names)
        ]  # fmt: skip
        self.vms = [vm(number, n, "running") for n in range(VMS)]

    def change(self, which: int, host: str = "") -> None:
        stamp = {"since_wall_s": time.time(), "host": host or self.vms[which].host}
        self.vms[which] = self.vms[which].model_copy(update=stamp)

    def step(self, failover: bool) -> None:
        """What happens in a second."""
        self.tick += 1
        self.hosts = [
            h.model_copy(update={"beat_age_ms": (h.slot * 137 + self.tick * 311) % 2000})
            for h in self.hosts
        ]
        moved = self.tick % HOSTS
        count = self.tick % 40
        self.hosts[moved] = self.hosts[moved].model_copy(update={"vm_count": count})
        self.change(self.tick * 7 % VMS)
        if failover:
            for which in range(VMS // HOSTS):
                self.change((self.tick * 31 + which) % VMS, f"host-{moved:02d}")

    def status(self) -> PoolStatus:
        return PoolStatus(
            name=f"pool-{self.number:03d}", uuid=pool_id(self.number), preset="standard",
            answered_by="host-00", sentence="all is well", age_ms=100, view=7, hosts=self.hosts,
            vms=self.vms,
        )  # fmt: skip


async def serve_pools(count: int, root: Path) -> None:
    """Until it is ended; the ports are written to a file once all listen."""
    pools = [Pool(n) for n in range(count)]
    context = seal.server_context(root / "agent-pki")
    ports = []
    for pool in pools:
        app = web.Application()

        async def status(request: web.Request, pool: Pool = pool) -> web.Response:
            told = pool.answers.answer(pool.status(), request.query.get("since", ""))
            return web.Response(text=told.model_dump_json(), content_type="application/json")

        async def timeline(_: web.Request) -> web.Response:
            return web.json_response([])

        app.add_routes([web.get("/v1/status", status), web.get("/v1/timeline", timeline)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        ports.append(runner.addresses[0][1])
    (root / "ports.new").write_text(json.dumps(ports))
    (root / "ports.new").rename(root / "ports")
    failovers = 0
    while True:
        began = time.monotonic()
        due = int(began / FAILOVER_S)
        for pool in pools:
            pool.step(due != failovers and pool.number == due % count)
            await asyncio.sleep(1 / count / 2)  # not all at the same instant
        failovers = due
        await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))


async def serve_manager(root: Path) -> None:
    """A whole manager that follows; how late it tells of changes goes to a file, a line each."""
    manager = Manager(Place(root / "etc", root), Config())
    await asyncio.to_thread(manager.repository.migrate)
    ports = json.loads((root / "ports").read_text())
    for number, port in enumerate(ports):
        pki = manager.place.pool_pki(pool_id(number))
        pki.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(root / "manager-pki", pki)
        agents = (f"https://127.0.0.1:{port}",)
        await manager.repository.write(
            lambda c, n=number, a=agents: records.put_pool(c, pool_id(n), f"pool-{n:03d}", a, 0.0)
        )
    await manager.start()
    while sum(not entry.stale for entry in manager.reads.pools()) < len(ports):
        await asyncio.sleep(0.2)
    began = time.time()
    (root / "all-heard").touch()
    with (root / "late").open("w", buffering=1) as late:
        async for change in manager.reads.changes():
            at = _happened(manager, change)
            if at > began:
                late.write(f"{time.time() - at:.3f}\n")


def _happened(manager: Manager, change: Change) -> float:
    """When the pool had it; 0.0 for what is no VM."""
    if change.kind != "vm":
        return 0.0
    found: VmStatus = manager.reads.vm(change.pool_id, change.name).vm
    return found.since_wall_s or 0.0


# ---- measuring


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_S


def resident_mib(pid: int, what: str = "VmRSS") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{what}:")).split()[1]) / 1024


def wait_for(path: Path, *processes: subprocess.Popen[bytes], within_s: float = 300) -> None:
    end = time.monotonic() + within_s
    while not path.exists():
        assert all(p.poll() is None for p in processes), "a process has ended"
        assert time.monotonic() < end, f"{path.name} does not come"
        time.sleep(0.1)


def begin(part: str, root: Path, pools: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "bench.fleet", "--part", part, str(root),
                             "--pools", str(pools)])  # fmt: skip


def measure(root: Path, pools: int, seconds: float) -> None:
    authority = root / "authority"
    authority.mkdir()
    seal.create_authority(authority)
    for folder, name, role in (("agent-pki", "host-00", "host"),
                               ("manager-pki", "manager", "manager")):  # fmt: skip
        key, cert = seal.issue_host(authority, name, name, ["127.0.0.1"], role)
        seal.install(root / folder, authority, key, cert)
    running = [begin("pools", root, pools)]
    try:
        wait_for(root / "ports", *running)
        running.append(begin("manager", root, pools))
        began, pid = time.monotonic(), running[1].pid
        wait_for(root / "all-heard", *running)
        print(f"all {pools} pools heard after {time.monotonic() - began:.1f} s,"
              f" {cpu_s(pid):.1f} s of CPU")  # fmt: skip
        time.sleep(10)
        known = len((root / "late").read_text().split())
        before, load, start = cpu_s(pid), os.getloadavg()[0], time.monotonic()
        beside = cpu_s(running[0].pid)
        time.sleep(seconds)
        passed = time.monotonic() - start
        cpu, beside = (cpu_s(pid) - before) / passed, cpu_s(running[0].pid) - beside
        late = [float(line) for line in (root / "late").read_text().split()[known:]]
        print(f"{pools} pools, {pools * HOSTS:,} hosts, {pools * VMS:,} VMs, {seconds:g} s, load"
              f" {load:.1f} to {os.getloadavg()[0]:.1f}")  # fmt: skip
        print(f"  CPU        {cpu * 100:6.1f} % of a core   (goal {GOAL_CPU * 100:.0f};"
              f" the pretended pools took {beside / passed * 100:.0f})")  # fmt: skip
        print(f"  memory     {resident_mib(pid):6.0f} MiB, at most"
              f" {resident_mib(pid, 'VmHWM'):.0f}   (goal {GOAL_MIB})")  # fmt: skip
        cuts = statistics.quantiles(late, n=100)
        print(f"  changes    {len(late)} told, {cuts[49]:.2f} s after they happened (median),"
              f" 99 % within {cuts[98]:.2f} s, at most {max(late):.2f} s")  # fmt: skip
    finally:
        for process in running:
            process.send_signal(signal.SIGKILL)
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs=2, metavar=("PART", "DIR"))
    parser.add_argument("--pools", type=int, default=POOLS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    chosen = parser.parse_args()
    if chosen.part:
        part, root = chosen.part[0], Path(chosen.part[1])
        work = serve_pools(chosen.pools, root) if part == "pools" else serve_manager(root)
        asyncio.run(work)
        return
    with tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder:
        measure(Path(folder), chosen.pools, chosen.seconds)


if __name__ == "__main__":
    main()
