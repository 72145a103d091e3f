"""Two hosts at one storage: the probe, the conformance kit and the contest, and what they say.

The truth about a contest is made here, from what both hosts acknowledged: no version has two
winners, none is lost, none that nobody wrote is there.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from lab.findings import Findings
from lab.site import Site

HOSTS = ("a", "b")
POOL = "/srv/pool"
SITE_PACKAGES = "/usr/lib/outlast/lib/python3.11/site-packages"
BOOT = "cat /proc/sys/kernel/random/boot_id"  # another one after each boot
BACK_S = 600.0
LAST_S = 300.0  # for a host that hangs at the end of a contest
PYTHON = f"PYTHONPATH={SITE_PACKAGES}:/mnt/lab PYTHONDONTWRITEBYTECODE=1 python3"


def tried(site: Site, found: Findings, name: str, mount: str, fail_s: int = 180) -> None:
    """A file system from its mount on: probe, kit, a quiet contest, one in which b loses power."""
    site.both(HOSTS, lambda host: site[host].check(mount, 400))
    found.add(f"{name}, mounted with",
              site["a"].check(f"findmnt -n -o FSTYPE,OPTIONS {POOL}").strip())  # fmt: skip
    probe(site, found, rounds=10)  # enough for promises; minutes each with this FUSE and dlm
    kit(site, found)
    contest(site, found, f"{name}, quiet", 30)
    contest(site, found, f"{name}, host b loses power", fail_s, site["b"].kill, dies="b")
    site.start("b")
    back(site, found, name, "b")


def back(site: Site, found: Findings, what: str, name: str) -> None:
    """Booted again, it mounts by itself and is in the contest like before."""
    took = site[name].until(f"findmnt {POOL}", BACK_S)
    found.add(f"{name} has mounted again by itself, after its boot, in", f"{took:.0f} s")
    contest(site, found, f"{what}, both again", 20)


def probe(site: Site, found: Findings, path: str = POOL, rounds: int = 20) -> bool:
    """The product's own, on both hosts at once; whether a pool may live there."""
    command = f"outlast --json storage probe {path} --hosts 2 --rounds {rounds}"
    said = site.both(HOSTS, lambda name: site[name].run(command, 900))
    texts = {done.text for done in said if not done.out.startswith("{")}
    if texts:
        found.add("probe of two hosts at once", "; ".join(sorted(texts)), False)
        return False
    report = json.loads(said[0].out)
    for check in report["checks"]:
        found.add(
            f"probe, {check['name']}", check["sentence"], check["good"] or not check["needed"]
        )
    for name in ("beat", "swap"):
        found.add(f"probe, {name}", "{p50_ms} ms median, {p99_ms} ms in 99 %, worst {max_ms} ms"
                  .format(**report[name]))  # fmt: skip
    found.add("probe, verdict", report["verdict"], report["usable"])
    return bool(report["usable"])


def kit(site: Site, found: Findings, path: str = POOL) -> None:
    """The conformance kit of register and heartbeat, on both hosts at once, each in its folder."""
    command = (
        f"cd /mnt/lab && {PYTHON} -m pytest -q -p no:cacheprovider"
        f" --basetemp={path}/kit-$(uname -n)"
        " -k 'Posix or disk' tests/storage/test_registers.py tests/storage/test_heartbeat_file.py"
    )
    for name, done in zip(
        HOSTS, site.both(HOSTS, lambda n: site[n].run(command, 900)), strict=True
    ):
        lines = done.out.strip().splitlines() or [done.text]
        failed = [line for line in lines if line.startswith("FAILED")]
        found.add(f"conformance kit on {name}", "; ".join([lines[-1], *failed]), done.code == 0)


def contest(
    site: Site, found: Findings, what: str, seconds: int,
    meanwhile: Callable[[], None] = lambda: None, dies: str = "", path: str = POOL,
) -> None:  # fmt: skip
    """Both hosts swap and beat for so long; `meanwhile` is done to them after a third of it.

    dies: the host that does not live to tell its results.
    """
    folder = f"{path}/contest-{secrets.token_hex(4)}"  # what died in an older one may be healing
    script = f"{PYTHON} /mnt/lab/lab/inside/contest.py {folder}"
    site["a"].check(f"{script} 0 0")
    running = {
        name: site[name].begin(f"{script} {number} {seconds}")
        for number, name in enumerate(HOSTS, 1)
    }
    site["a"].run(f"sleep {seconds / 3}", seconds)
    meanwhile()
    results = {}
    for name, number in running.items():
        if name == dies:
            continue
        done = site[name].wait(number, seconds + LAST_S)
        if done.code:
            found.add(f"{what}, {name}", done.text[-300:], False)
            return
        results[name] = json.loads(done.out)
    judge(found, what, results)


def judge(found: Findings, what: str, results: dict[str, dict[str, Any]]) -> None:
    won: list[int] = sorted(v for result in results.values() for v in result["won"])
    unknown = {v for result in results.values() for v in result["unknown"]}
    last = max(result["last"] for result in results.values())
    wrong = [text for result in results.values() for text in result["wrong"]]
    wrong += [f"version {v} has two winners" for v in sorted(set(won)) if won.count(v) > 1]
    told_all = len(results) == len(HOSTS)
    nobody = set(range(1, last + 1)) - set(won) - unknown if told_all else set()
    wrong += [f"version {v} was written by nobody" for v in sorted(nobody)]
    wrong += [f"version {v} was acknowledged and is lost" for v in won if v > last]
    troubles = sum(len(result["troubles"]) for result in results.values())
    beat, swap = (
        " and ".join(f"{max(r[key], default=0) / 1000:.1f} s" for r in results.values())
        for key in ("beats_ms", "swaps_ms")
    )
    counts = ", ".join(f"{len(r['won'])} by {name}" for name, r in results.items())
    kept = "; ".join(wrong[:3]) or "one winner each, none lost, no block went back"
    found.add(
        what,
        f"{kept}. {last} versions ({counts}), {len(unknown)} unknown, {troubles} troubles; "
        f"longest beat {beat}, longest swap {swap}",
        not wrong and last > 0,
    )
