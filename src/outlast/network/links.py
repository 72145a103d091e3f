"""The links of this machine, read and changed with `ip` of iproute2.

Rules: one step is one call, in the order of the plan; the first that fails ends it, in words. What
was done stays: the next plan begins from there. A kernel without IPv6 is not told to keep a link
from addresses of its own: it refuses to hear of that. `namespace` is for tests.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from outlast.errors import OutlastError
from outlast.network.plan import NO_ADDRESS, Link

LIMIT_S = 10.0
IPV6 = Path("/proc/net/if_inet6")


class LinkTrouble(OutlastError):
    """`ip` is not there, hangs, or refuses."""

    code = "internal"


class Links:
    def __init__(self, namespace: str = "") -> None:
        self._ip = ["ip", "-n", namespace] if namespace else ["ip"]

    def read(self) -> dict[str, Link]:
        """All links by name. Raises LinkTrouble."""
        raw = self._run("-j", "-d", "address", "show")
        try:
            return {entry["ifname"]: _link(entry) for entry in json.loads(raw or "[]") if entry}
        except (ValueError, KeyError, TypeError) as error:
            raise LinkTrouble(f"'ip -j address' says what is not understood: {error}") from error

    def carry_out(self, steps: Iterable[tuple[str, ...]]) -> None:
        """Raises LinkTrouble."""
        for step in steps:
            if step[-2:] != NO_ADDRESS or IPV6.exists():
                self._run(*step)

    def _run(self, *argv: str) -> str:
        try:
            done = subprocess.run(
                [*self._ip, *argv], capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except FileNotFoundError:
            raise LinkTrouble("there is no 'ip'", hint="apt-get install iproute2") from None
        except subprocess.TimeoutExpired:
            raise LinkTrouble(f"'ip {' '.join(argv)}' does not end") from None
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise LinkTrouble(f"'ip {' '.join(argv)}': {said[-1]}")
        return done.stdout


def _link(entry: dict[str, Any]) -> Link:
    info = entry.get("linkinfo") or {}
    data = info.get("info_data") or {}
    kind = str(info.get("info_kind", ""))
    addresses = entry.get("addr_info") or []
    return Link(
        entry["ifname"], kind, str(entry.get("ifalias", "")), int(entry.get("mtu", 0)),
        "UP" in entry.get("flags", ()), str(entry.get("master", "")), str(entry.get("link", "")),
        int(data.get("id", 0)) if kind == "vlan" else 0,
        tuple(str(a.get("local")) for a in addresses if a.get("scope") == "global"),
    )  # fmt: skip
