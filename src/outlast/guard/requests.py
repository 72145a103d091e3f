"""Which request goes where in the core, for every shell around it (pure).

What a shell must do around a request itself (arm a watchdog, move a process, end one, say what it
sees) it does before or after; all else is here.
"""

from __future__ import annotations

from collections.abc import Mapping

from outlast.guard.core import GuardCore, no
from outlast.guard.facts import Facts, Json, Reading


def answer(
    core: GuardCore, now: Reading, facts: Facts, op: str, fields: Mapping[str, object]
) -> Json:
    """The core's answer to the request `op`; a refusal for what is none."""
    vm, incoming = fields.get("vm"), fields.get("incoming")
    match op:
        case "status":
            return core.status(now, facts)
        case "open":
            return core.open(now, facts, fields)
        case "confirm":
            return core.confirm(now, fields)
        case "extend":
            return core.confirm(now, fields, extend=True)
        case "retime":
            return core.retime(now, facts, fields)
        case "close":
            return core.close(now, facts, fields)
        case "drained":
            return core.drained(fields)
        case "settled":
            return core.settled(now, facts, fields.get("store"), fields.get("since_ns"))
        case "admit":
            return core.admit(now, vm, incoming=incoming, stores=fields.get("stores", ()))
        case "release":
            return core.release(vm)
        case "enter":
            return core.enter(now, facts, vm, incoming=incoming)
        case _:
            return no(f"there is no request '{op[:40]}'")
