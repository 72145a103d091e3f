"""How long VMs are away when things die, and what the product costs while nothing happens.

    python -m bench.failover [--rounds N] [--quick] [--only PART ...] [--json FILE]

Needs root and some minutes. Everything is measured on a rack of real processes, the bare values in
the same run. A part that fails is named, the others are measured all the same. Exit codes: 0 all
was measured (goals met or not), 1 something was not, else those of errors.py.

See docs/operating/measurements.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench import away, idle
from bench.figures import Figure, summary, table
from bench.watch import say
from outlast.errors import InvalidInput, OutlastError, Refused
from outlast.rack.lab import Lab

PARTS = ("leases", "cuts", "many", "standard", "lab")
MANY = 30
KILLS_MAX = 30  # each VM dies once only
PROGRAMS = ("outlast.guard.__main__", "outlast.guard.pulse", "outlast.agent.__main__")


class Run:
    """The figures of one run, and what could not be measured."""

    def __init__(self, folder: Path, rounds: int, quick: bool) -> None:
        self.folder, self.rounds, self.quick = folder, rounds, quick
        self.figures: list[Figure] = []
        self.failed: list[str] = []

    def part(self, words: str, measure: Callable[[], list[Figure]]) -> None:
        before = os.getloadavg()[0]
        say(f"{words} (load {before:.1f})")
        try:
            found = measure()
        except OutlastError as trouble:
            self.failed.append(f"{words}: {trouble.sentence}")
            say(f"  not measured: {trouble.sentence}")
            return
        self.figures += [replace(f, load=(before, os.getloadavg()[0])) for f in found]

    def rack(self, name: str, timing: str, measure: Callable[[Lab], None]) -> None:
        """Something measured on a rack of its own; a rack that fails is named like a part."""
        try:
            with Lab(self.folder / name) as lab:
                lab.begin(hosts=3, preset=timing, leashed=True)
                measure(lab)
        except OutlastError as trouble:
            self.failed.append(f"the rack for {name}: {trouble.sentence}")

    # ---- the parts

    def leases(self) -> None:
        pairs = 100 if self.quick else 300
        self.part("leases, local", lambda: idle.local_leases(self.folder, pairs))

    def cuts(self) -> None:
        def measure(lab: Lab) -> None:
            pairs = 50 if self.quick else 200
            self.part("leases, rack", lambda: idle.rack_leases(lab, pairs))
            lab.create([f"vm{n}" for n in range(1, len(lab.hosts) + 1)])
            lab.wait_running(lab.vms)
            self.part("power cuts", lambda: away.cuts(lab, 2 if self.quick else self.rounds))

        self.rack("cuts", "lab", measure)

    def many(self) -> None:
        count = MANY // 3 if self.quick else MANY
        self.rack("many", "lab", lambda lab: self.part(
            "a host with many VMs", lambda: away.many(lab, count)))  # fmt: skip

    def timing(self, timing: str) -> None:
        kills = min(KILLS_MAX, 3 if self.quick else 2 * self.rounds)

        def measure(lab: Lab) -> None:
            say(f"starting {idle.VMS_OF_HOST} VMs on each host")
            idle.pool_of_many(lab)
            seconds = 10 if self.quick else 30
            self.part(f"idle, {timing}", lambda: idle.cost(lab, timing, seconds))
            self.part(f"killed QEMUs, {timing}", lambda: away.kills(lab, timing, kills))

        self.rack(timing, timing, measure)


def compile_all(folder: Path) -> None:
    """Compiled files that all racks of the run share, as an installed product has them."""
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    env = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = "import " + ", ".join(PROGRAMS)
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def measure(folder: Path, rounds: int, quick: bool, only: Sequence[str]) -> Run:
    compile_all(folder / "pycache")
    run = Run(folder, rounds, quick)
    steps: dict[str, Callable[[], None]] = {
        "leases": run.leases, "cuts": run.cuts, "many": run.many,
        "standard": lambda: run.timing("standard"), "lab": lambda: run.timing("lab"),
    }  # fmt: skip
    for name in PARTS:
        if name in only:
            steps[name]()
    return run


def write(path: Path, run: Run) -> None:
    """The figures as JSON; below sudo the file belongs to who called it."""
    report = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {
            "cpus": os.cpu_count(), "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "quick": run.quick,
        "figures": [f.json() for f in run.figures],
        "not_measured": run.failed,
    }  # fmt: skip
    new = [p for p in (path.parent, path) if not p.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    owner = [os.environ.get(name, "") for name in ("SUDO_UID", "SUDO_GID")]
    if all(owner):
        for made in new:
            os.chown(made, int(owner[0]), int(owner[1]))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.failover", None, __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=5, help="power cuts; twice as many kills")
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
                        help=", ".join(PARTS))  # fmt: skip
    today = time.strftime("%Y-%m-%d")
    parser.add_argument("--json", type=Path, default=Path(f"build/failover-{today}.json"))
    return parser.parse_args(argv)


def main() -> int:
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if args.rounds < 1:
            raise InvalidInput("--rounds must be at least 1")
        if os.geteuid() != 0:
            raise Refused("a rack needs root: it makes namespaces and mounts", hint="use sudo")
        with tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder:
            run = measure(Path(folder), args.rounds, args.quick, args.only)
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
