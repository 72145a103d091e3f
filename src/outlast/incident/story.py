"""An incident as a story for the simulator: the same pool and the faults as its notes tell them.

Rules:
1. Faults are taken from what was noticed, and begin when it began: a host that fell silent lost
   power at its last beat; storage that was sick was stuck; links and VMs speak for themselves.
2. The pool is the one of the recording: hosts, VMs, timing. Its first minute makes them ready.
3. It is a "what if", not a proof: what nobody noted does not happen in it. Change a line and play
   it: `python -m outlast.sim --story FILE`. Its second line says what can be changed.
4. A drill is told as a drill; what it led to on its host is no fault of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outlast.errors import InvalidInput
from outlast.incident.steps import Start, Step
from outlast.settings import S

Note = Mapping[str, object]
READY_BEATS = 40

DEAD = ("host-silent", "host-off")
OF_A_DRILL = (*DEAD, "agent-started", "host-anew", "member", "link-down", "link-up", "storage-sick",
              "storage-back")  # fmt: skip


def story(recorded: Sequence[Start | Step], notes: Sequence[Note]) -> str:
    """The text of the story. Raises InvalidInput when nothing was recorded."""
    starts = [one for one in recorded if isinstance(one, Start)]
    steps = [one for one in recorded if isinstance(one, Step)]
    if not starts or not steps:
        raise InvalidInput("nothing was recorded in this time", hint="a longer --since?")
    timing = starts[0].settings.timing
    facts = steps[-1].facts
    hosts = {n: r.host for n, r in facts.slots.items() if r.active} | {facts.me.slot: facts.me.host}
    wanted = sorted(n for n, held in facts.vms.items() if held.value.wanted)
    events = sorted(_events([n for n in notes if _wall_s(n) >= recorded[0].wall_s]))
    ready_s = READY_BEATS * timing.beat_ns / S
    lines = [
        f"# Made from an incident that {facts.me.host} recorded: hosts, VMs and faults as noted.",
        "# What if? In the next line: dead=90s fence=30s partition=hold; or leave a fault out.",
        f"pool hosts={','.join(hosts[n] for n in sorted(hosts))} vms={','.join(wanted)} "
        f"timing={timing.preset} partition={starts[0].settings.partition}",
        f"wait {ready_s:g}s",
    ]
    last_s = events[0][0] if events else 0.0
    known = set(hosts.values())
    for at_s, command, host in events:
        if host not in known and host not in wanted:
            continue
        if at_s - last_s >= 0.05:
            lines += ["", f"wait {at_s - last_s:.1f}s"]
            last_s = at_s
        lines.append(command)
    end_s = 2 * timing.dead_ns / S + ready_s
    return "\n".join([*lines, "", f"wait {end_s:g}s", "show", ""])


def _events(notes: Sequence[Note]) -> list[tuple[float, str, str]]:
    """(when, command, host or VM it is about), each fault once."""
    found: list[tuple[float, str, str]] = []
    off: set[str] = set()
    down: set[frozenset[str]] = set()
    sick: set[str] = set()
    silent = {str(_fields(n).get("host")) for n in notes if n.get("code") in DEAD}
    drilled: set[str] = set()
    for note in sorted(notes, key=_wall_s):
        fields, at_s = _fields(note), _wall_s(note)
        host, pair = str(fields.get("host", "")), frozenset[str]()
        if "other" in fields:
            pair = frozenset({host, str(fields["other"])})
        if note.get("code") == "drill-ended":
            drilled.discard(host)
        if drilled & {host, *pair} and note.get("code") in OF_A_DRILL:
            continue
        match note.get("code"):
            case "drill-begins" if fields.get("kind") in ("power", "network", "storage"):
                drilled.add(host)
                span = f"for {fields.get('for_s')}s"
                found.append((at_s, f"drill {fields['kind']} of {host} {span}", host))
            case "drill-begins" if fields.get("kind") == "agent":
                found.append((at_s, f"agent of {host} killed", host))
            case "host-silent" | "host-off" if host not in off and host not in sick:
                off.add(host)
                still_s = fields.get("still_s")
                began_s = at_s - (still_s if isinstance(still_s, int | float) else 0)
                found.append((began_s, f"power of {host} off", host))
            case "agent-started" | "host-anew" | "member" if host in off:
                off.discard(host)
                found.append((at_s, f"power of {host} on", host))
            case "link-down" if pair not in down and not pair & silent:
                down.add(pair)
                found.append((at_s, f"link {'-'.join(sorted(pair))} down", host))
            case "link-up" if pair in down:
                down.discard(pair)
                found.append((at_s, f"link {'-'.join(sorted(pair))} up", host))
            case "storage-sick" if host not in sick:
                sick.add(host)
                found.append((at_s, f"storage of {host} stuck", host))
            case "storage-back" if host in sick:
                sick.discard(host)
                found.append((at_s, f"storage of {host} ok", host))
            case "vm-crashed":
                vm = str(fields.get("vm"))
                found.append((at_s, f"qemu of {vm} dies", vm))
            case "vm-shutdown":
                vm = str(fields.get("vm"))
                found.append((at_s, f"vm {vm} shuts down", vm))
            case _:
                pass
    return found


def _fields(note: Note) -> Mapping[str, object]:
    fields = note.get("fields")
    return fields if isinstance(fields, dict) else {}


def _wall_s(note: Note) -> float:
    at_s = note.get("wall_s")
    return float(at_s) if isinstance(at_s, int | float) else 0.0
