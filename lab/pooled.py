"""A pool on a storage that was tried before: its VM outlasts the machine that runs it.

Rule: the timing is `tolerant`, the least that the product allows on cluster file systems.
"""

from __future__ import annotations

import time

from lab.contest import HOSTS, POOL
from lab.findings import Findings
from lab.install import AGAIN_S, runs, typed
from lab.site import Site

UNITS = "/mnt/lab/outlast/lib/systemd/system/outlast-*.service"
PLACE = f"{POOL}/live"


def pooled(site: Site, found: Findings, name: str) -> None:
    """Both hosts have it mounted at POOL and have Outlast lent."""
    site.both(HOSTS, lambda n: site[n].check(
        f"cp {UNITS} /etc/systemd/system/ && systemctl daemon-reload"))  # fmt: skip
    site["a"].check(f"mkdir -p {PLACE}")
    if typed(site, found, "a", f"outlast pool init {PLACE} --name lab --preset tolerant").code:
        return
    typed(site, found, "a", f"outlast host join {PLACE} --prepare")
    secret = typed(site, found, "a", "outlast host token").out.split()
    token = next((word for word in secret if len(word) > 30), "")
    typed(site, found, "b", f"outlast host join {PLACE} --prepare", token)
    typed(site, found, "a", "outlast vm create web --memory 64MiB --disk 64MiB --start")
    site["a"].until("outlast vm show web | grep -q running", AGAIN_S)
    where = next(host for host in HOSTS if runs(site, host, "web"))
    other = "b" if where == "a" else "a"
    site[where].kill()
    began = time.monotonic()
    site[other].until(f"outlast pool timeline | grep ' web runs on {other}$'", AGAIN_S)
    found.add(f"a pool on {name}, power of {where} cut: web runs on {other} after",
              f"{time.monotonic() - began:.0f} s", runs(site, other, "web"))  # fmt: skip
    tail = site[other].check("outlast pool timeline | tail -n 12")
    found.add("the pool's own words", f"\n{tail}")
