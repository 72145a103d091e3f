"""One wish for many VMs, on its way: what became of each of them.

A person sees their own runs only. They are this process's own; the tasks they made outlast it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from outlast.errors import NotFound
from outlast.manager.ports import Task

RUNS_MAX = 200


@dataclass(slots=True)
class Item:
    pool_id: str
    vm: str
    task: str = ""  # id, once it was handed over
    refused: str = ""  # why not


@dataclass(slots=True)
class Run:
    id: str
    who: str
    verb: str
    items: list[Item]
    left: list[tuple[str, str]]  # VM, why it was left alone
    running: asyncio.Task[None] | None = None


class Runs:
    """The newest ones."""

    def __init__(self) -> None:
        self._kept: dict[str, Run] = {}

    def begin(self, who: str, verb: str, items: list[Item], left: list[tuple[str, str]]) -> Run:
        while len(self._kept) >= RUNS_MAX:
            self._kept.pop(next(iter(self._kept)))
        run = Run(secrets.token_hex(6), who, verb, items, left)
        self._kept[run.id] = run
        return run

    def of(self, run_id: str, who: str) -> Run:
        """Raises NotFound."""
        found = self._kept.get(run_id)
        if found is None or found.who != who:
            raise NotFound("this run is not known here", hint="its wishes are among the tasks")
        return found


def told(run: Run, task_of: Callable[[str], Task]) -> dict[str, Any]:
    """Each VM with its tone and sentence, and how many are how."""
    rows, counts = [], {"done": 0, "under way": 0, "refused or failed": 0}
    for item in run.items:
        tone, sentence = _told(item, task_of)
        counts[{"ok": "done", "bad": "refused or failed"}.get(tone, "under way")] += 1
        rows.append((item, tone, sentence))
    said = [f"{n:,} {word}" for word, n in counts.items() if n]
    if run.left:
        said.append(f"{len(run.left):,} left alone")
    rows.sort(key=lambda row: ("bad", "warn", "ok").index(row[1]))
    bad = [f"{item.pool_id}/{item.vm}" for item, tone, _ in rows if tone == "bad"]
    return {"run": run, "rows": rows, "said": ", ".join(said), "open": counts["under way"],
            "ended": len(run.items) - counts["under way"], "bad": bad}  # fmt: skip


def _told(item: Item, task_of: Callable[[str], Task]) -> tuple[str, str]:
    if item.refused:
        return "bad", item.refused
    if not item.task:
        return "warn", "waits for its turn"
    try:
        task = task_of(item.task)
    except NotFound:
        return "ok", "ended more than an hour ago; see its page"
    return ("bad" if task.failed else "ok" if task.done else "warn"), task.sentence
