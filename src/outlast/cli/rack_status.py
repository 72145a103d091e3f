"""A rack in words: its hosts as a table, what is broken as lines. Nothing is asked here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from outlast.cli.context import say, stdout

if TYPE_CHECKING:
    from rich.table import Table

RULE_PARTS = ("errno", "ms", "path", "ops")
WORDS = {"hang": "stall", "lost-reply": "lose-replies"}  # a rule's mode, as it is said here


def print_status(status: dict[str, Any]) -> None:
    """A rack on one page: what RackClient.status gives."""
    store = status["storage"]
    server = f", its server {store['server']}" if "server" in store else ""
    say(f"rack in {status['folder']}: storage {store['kind']}{server}")
    stdout().print(_hosts_table(status["hosts"]))
    for line in status["faults"]:
        say(f"broken: {line}")
    for name, host in status["hosts"].items():
        fault = fault_text(host["storage"])
        if fault:
            say(f"broken: storage of {name}: {fault}")


def _hosts_table(hosts: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("HOST", "POWER", "MGMT", "STORAGE", "WATCHDOG", "SERVICES"):
        table.add_column(column, no_wrap=True)
    for name, host in hosts.items():
        addresses = host["addresses"]
        table.add_row(
            name, host["power"], addresses["mgmt"], addresses["storage"],
            _watchdog_text(host["watchdog"]), _services_text(host["services"]) or "-",
        )  # fmt: skip
    return table


def _watchdog_text(watchdog: dict[str, Any]) -> str:
    return "armed" if watchdog.get("armed") else "off"


def _services_text(services: dict[str, dict[str, int]]) -> str:
    """Running ones by name; one that had to be started again says how often it was started."""
    running = {n: s["starts"] for n, s in services.items() if s["pid"]}
    told: Iterable[str] = (
        name.removeprefix("outlast-") + (f" (start {starts})" if starts > 1 else "")
        for name, starts in running.items()
    )
    return " ".join(told)


def fault_text(fault: object) -> str:
    """A storage fault in words; "" for none."""
    rule = fault.get("rule") if isinstance(fault, dict) else None
    if not isinstance(rule, dict) or rule.get("mode", "ok") == "ok":
        return ""
    said = ", ".join(f"{key} {json.dumps(rule[key])}" for key in RULE_PARTS if key in rule)
    mode = str(rule["mode"])
    word = WORDS.get(mode, mode)
    return f"{word} ({said})" if said else word
