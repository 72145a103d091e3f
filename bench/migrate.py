"""What a live migration costs, beside libvirt's own in the same run, and how fast a host empties.

    python -m bench.migrate [--rounds N] [--json FILE]

Needs root and a few minutes. The same guest moves three ways in turn: by libvirt alone in clear
text and with TLS (as `virsh migrate --live --p2p [--tls]` does it), and by the pool. The pause is
from the source's event SUSPENDED to the target's RESUMED.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench.failover import Run, compile_all, write
from bench.figures import Figure, figure, summary, table
from bench.inside import RESUMED, SUSPENDED
from bench.watch import say
from outlast.errors import InvalidInput, OutlastError, Refused, TimedOut
from outlast.hypervisor.domain_xml import DomainOptions, domain_xml
from outlast.model import Disk, VmSpec
from outlast.rack.lab import KERNEL, POOL, Lab

INSIDE = (Path(__file__).parent / "inside.py").read_text()
GUESTS = {  # name: memory in MiB and what it does
    "small": (8, "ms=100"),
    "writer": (256, "ms=100 dirty=4"),  # rewrites 4 MiB twenty times a second
}
WALL_GOAL, PAUSE_GOAL_S, EMPTY_GOAL_S = 1.15, 0.1, 7.5
EMPTY_VMS = 5
WAIT_S = 60.0


class Events:
    """What libvirt on every host says, from now on, on CLOCK_BOOTTIME."""

    def __init__(self, lab: Lab) -> None:
        self._seen: list[tuple[float, str, str, int]] = []
        self._ready = threading.Semaphore(0)
        self._processes = []
        for host in lab.hosts:
            process = lab.rack.popen(
                host, [sys.executable, "-c", INSIDE, "watch"], stdout=-1, text=True
            )
            self._processes.append(process)
            threading.Thread(target=self._read, args=(host, process), daemon=True).start()
        for _ in lab.hosts:
            self._ready.acquire()

    def _read(self, host: str, process: object) -> None:
        for line in process.stdout:  # type: ignore[attr-defined]
            said = json.loads(line)
            if not said:
                self._ready.release()
            else:
                self._seen.append((said["at_s"], host, said["vm"], said["event"]))

    def pause_s(self, vm: str, source: str, target: str, since_s: float) -> float:
        """Of the newest move. Raises TimedOut."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            seen = [e for e in self._seen if e[2] == vm and e[0] >= since_s]
            stopped = [at for at, host, _, event in seen if (host, event) == (source, SUSPENDED)]
            went_on = [at for at, host, _, event in seen if (host, event) == (target, RESUMED)]
            if stopped and went_on:
                return went_on[-1] - stopped[0]
            time.sleep(0.02)
        raise TimedOut(f"libvirt did not tell of the move of {vm}")

    def close(self) -> None:
        for process in self._processes:
            process.kill()


def plain_xml(memory_mib: int, cmdline: str) -> str:
    """The same guest as a domain that is none of the pool's."""
    uuid = "6f1c9d0e-1111-4222-8333-444455556666"
    disk = Disk(f"{POOL}/images/plain.raw")
    spec = VmSpec("plain", uuid, memory_mib, 1, (disk,), f"{POOL}/images/{KERNEL}", cmdline=cmdline)
    xml = domain_xml(spec, DomainOptions())
    return xml.replace("urn:outlast:vm:1", "urn:bench:vm:1")  # not the pool's: it is left alone


def plain(lab: Lab, mode: str, memory_mib: int, cmdline: str) -> dict[str, float]:
    with open(lab.pool_dir / "images/plain.raw", "wb") as file:
        file.truncate(4 << 20)
    a, b = lab.hosts[:2]
    address = str(lab.rack.status()["hosts"][b]["addresses"]["mgmt"])
    argv = [sys.executable, "-c", INSIDE, "plain", mode, plain_xml(memory_mib, cmdline), b, address]
    done = lab.rack.exec(a, argv, timeout_s=120)
    if done.returncode:
        raise OutlastError(f"libvirt's own move failed: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ours(lab: Lab, events: Events, vm: str) -> dict[str, float]:
    source = lab.where(vm)
    target = lab.hosts[1] if source == lab.hosts[0] else lab.hosts[0]
    client, since_s = lab.client(target), time.clock_gettime(time.CLOCK_BOOTTIME)
    begun = time.monotonic()
    wish = client.migrate(vm, target)
    while True:
        status = client.vm(vm)
        if status.move is None and status.definition >= wish.version:
            break
        failed = status.move.failed if status.move else ""
        if failed or time.monotonic() - begun > WAIT_S:
            raise OutlastError(f"{vm} did not move: {failed or 'too late'}")
        time.sleep(0.03)
    wall_s = time.monotonic() - begun
    return {"wall_s": wall_s, "pause_s": events.pause_s(vm, source, target, since_s)}


def compare(lab: Lab, rounds: int) -> list[Figure]:
    figures: list[Figure] = []
    for name, (memory_mib, cmdline) in GUESTS.items():
        lab.create([name], cmdline=cmdline, memory=f"{memory_mib}MiB")
    lab.wait_running(list(GUESTS))
    events = Events(lab)
    try:
        for name, (memory_mib, cmdline) in GUESTS.items():
            if lab.where(name) not in lab.hosts[:2]:
                ours(lab, events, name)
            found: dict[str, list[dict[str, float]]] = {"plain": [], "tls": [], "ours": []}
            for number in range(rounds):
                say(f"  {name}: round {number + 1} of {rounds}")
                for mode in ("plain", "tls"):
                    found[mode].append(plain(lab, mode, memory_mib, cmdline))
                found["ours"].append(ours(lab, events, name))
                time.sleep(0.5)
            figures += _figures(name, found)
    finally:
        events.close()
    return figures


def _figures(name: str, found: dict[str, list[dict[str, float]]]) -> list[Figure]:
    made = []
    words = {"plain": "libvirt alone, clear", "tls": "libvirt alone, TLS", "ours": "the pool"}
    for mode, said in words.items():
        made.append(figure(f"{name}, {said}: wall", "s", [r["wall_s"] for r in found[mode]]))
        pauses = [r["pause_s"] * 1000 for r in found[mode]]
        made.append(figure(f"{name}, {said}: pause", "ms", pauses))
    pairs = list(zip(found["ours"], found["tls"], strict=True))
    ratio = [a["wall_s"] / b["wall_s"] for a, b in pairs]
    more = [(a["pause_s"] - b["pause_s"]) * 1000 for a, b in pairs]
    made.append(figure(f"{name}: wall, the pool by TLS alone", "x", ratio, WALL_GOAL))
    made.append(figure(f"{name}: pause more than TLS alone", "ms", more, PAUSE_GOAL_S * 1000))
    return made


def empty(lab: Lab, rounds: int) -> list[Figure]:
    """Seconds until a host with five VMs has none, by `outlast host maintain`."""
    names = [f"vm{n}" for n in range(1, EMPTY_VMS + 1)]
    lab.create(names)
    lab.wait_running(names)
    host = lab.hosts[0]
    client = lab.client(lab.hosts[1])
    took = []
    for number in range(rounds):
        say(f"  emptying a host, round {number + 1} of {rounds}")
        for name in names:
            if lab.where(name) != host:
                client.migrate(name, host)
        lab.wait(lambda: _all_on(lab, names, host), WAIT_S, f"not all are on {host}")
        begun = time.monotonic()
        client.maintain(host, "a measurement")
        lab.wait(lambda: not any(vm.host == host for vm in client.vms()), WAIT_S, "not empty")
        took.append(time.monotonic() - begun)
        client.serve(host)
        lab.wait(lambda: all(vm.move is None for vm in client.vms()), WAIT_S, "wishes are left")
    return [figure(f"a host with {EMPTY_VMS} small VMs is empty", "s", took, EMPTY_GOAL_S)]


def _all_on(lab: Lab, names: list[str], host: str) -> bool:
    vms = lab.statuses()
    return all(vms[n].host == host and vms[n].move is None for n in names)


def measure(folder: Path, rounds: int) -> Run:
    compile_all(folder / "pycache")
    run = Run(folder, rounds, False)

    def both(lab: Lab) -> None:
        run.part("moves", lambda: compare(lab, rounds))
        for name in GUESTS:
            lab.client().delete(name, force=True, with_disks=True)
            lab.vms.remove(name)
        run.part("a host is emptied", lambda: empty(lab, max(3, rounds // 2)))

    run.rack("moves", "lab", both)
    return run


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m bench.migrate", None, __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=6, help="moves of each kind")
    today = time.strftime("%Y-%m-%d")
    parser.add_argument("--json", type=Path, default=Path(f"build/migrate-{today}.json"))
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if args.rounds < 1:
            raise InvalidInput("--rounds must be at least 1")
        if os.geteuid() != 0:
            raise Refused("a rack needs root: it makes namespaces and mounts", hint="use sudo")
        with tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder:
            run = measure(Path(folder), args.rounds)
    except OutlastError as trouble:
        say(f"{trouble.sentence}{f' ({trouble.hint})' if trouble.hint else ''}")
        return trouble.exit_code
    except KeyboardInterrupt:
        say("interrupted; nothing was written")
        return 130
    write(args.json, run)
    sys.stdout.write(f"{table(run.figures)}\n{summary(run.figures, run.failed)}\n")
    say(f"written to {args.json}")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
