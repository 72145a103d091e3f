"""An incident as a story for the simulator: the same pool and the faults as its notes tell them.

Rules:
1. Faults are taken from what was noticed, and begin when it began: a host that fell silent lost
   power at its last beat; storage that was sick was stuck; links and VMs speak for themselves.
2. The pool is the one of the recording: hosts, VMs, timing. Before the first fault each VM is moved
   to where it was when that fault began.
3. It is a "what if", not a proof: what nobody noted does not happen in it. Change a line and play
   it: `python -m outlast.sim --story FILE`. Its second line says what can be changed.
4. A drill is told as a drill; what it led to on its host is no fault of its own. What owners wished
   is told as their wish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outlast.errors import InvalidInput
from outlast.incident.steps import Start, Step
from outlast.pool.hosting import OWNER_STOPS
from outlast.settings import S

Note = Mapping[str, object]
Event = tuple[float, str, str]  # when, the command, the host or VM it is about
READY_BEATS = 40
ROOM = 9  # VMs that fit on one host of a story that says nothing of memory

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
    events = [one for one in events if one[2] in {*hosts.values(), *wanted}]
    memory = f" memory={100 * (len(wanted) + 1)}" if len(wanted) > ROOM else ""
    ready_s = READY_BEATS * timing.beat_ns / S
    lines = [
        f"# Made from an incident that {facts.me.host} recorded: hosts, VMs and faults as noted.",
        "# What if? In the next line: dead=90s fence=30s partition=hold; or leave a fault out.",
        f"pool hosts={','.join(hosts[n] for n in sorted(hosts))} vms={','.join(wanted)} "
        f"timing={timing.preset} partition={starts[0].settings.partition}{memory}",
        f"wait {ready_s:g}s",
    ]
    last_s = events[0][0] if events else 0.0
    if moves := _moves(steps, last_s, wanted):
        lines += [*moves, "", f"wait {ready_s:g}s"]
    for at_s, command, _ in events:
        if at_s - last_s >= 0.05:
            lines += ["", f"wait {at_s - last_s:.1f}s"]
            last_s = at_s
        lines.append(command)
    end_s = 2 * timing.dead_ns / S + ready_s
    return "\n".join([*lines, "", f"wait {end_s:g}s", "show", ""])


def _moves(steps: Sequence[Step], until_s: float, wanted: Sequence[str]) -> list[str]:
    """Each VM to where it was then."""
    facts = next((one.facts for one in reversed(steps) if one.wall_s <= until_s), steps[0].facts)
    held = {vm: facts.leases[vm].value.slot for vm in wanted if vm in facts.leases}
    places = {vm: facts.slots[slot].host for vm, slot in held.items() if slot in facts.slots}
    return [f"move {vm} to {host}" for vm, host in places.items()]


def _events(notes: Sequence[Note]) -> list[Event]:
    """Each fault and wish once."""
    faults = _Faults({str(_fields(n).get("host")) for n in notes if n.get("code") in DEAD})
    for note in sorted(notes, key=_wall_s):
        faults.hear(note)
    return faults.found


class _Faults:
    """What went wrong, from notes in their order."""

    def __init__(self, silent: set[str]) -> None:
        self.found: list[Event] = []
        self._silent = silent  # hosts that died in it: a link to one is no fault of its own
        self._off, self._sick, self._drilled, self._stopped = (set[str]() for _ in range(4))
        self._down: set[frozenset[str]] = set()
        self._well_s: dict[str, float] = {}  # when a host's storage was back

    def hear(self, note: Note) -> None:
        fields, code = _fields(note), str(note.get("code"))
        host = str(fields.get("host", ""))
        if code == "drill-ended":
            self._drilled.discard(host)
        about = {host, str(fields.get("other", ""))}
        if self._drilled & about and code in OF_A_DRILL:
            return
        self._of_host(code, host, note)
        if code in ("link-down", "link-up"):
            self._of_link(code, frozenset(about), note)
        elif "vm" in fields:
            self._of_vm(code, str(fields["vm"]), note)

    def _add(self, at_s: float, command: str, about: str) -> None:
        self.found.append((at_s, command, about))

    def _of_host(self, code: str, host: str, note: Note) -> None:
        fields, at_s = _fields(note), _wall_s(note)
        match code:
            case "drill-begins" if fields.get("kind") in ("power", "network", "storage"):
                self._drilled.add(host)
                span = f"for {fields.get('for_s')}s"
                self._add(at_s, f"drill {fields['kind']} of {host} {span}", host)
            case "drill-begins" if fields.get("kind") == "agent":
                self._add(at_s, f"agent of {host} killed", host)
            case "host-silent" | "host-off" if host not in self._off | self._sick:
                self._off.add(host)
                still_s = fields.get("still_s")
                began_s = at_s - (still_s if isinstance(still_s, int | float) else 0)
                self._add(began_s, f"power of {host} off", host)
            case "agent-started" | "host-anew" | "member" if host in self._off:
                self._off.discard(host)
                self._add(at_s, f"power of {host} on", host)
            case "storage-sick" if host not in self._sick:
                self._sick.add(host)
                began_s = max(at_s - _unconfirmed_s(note), self._well_s.get(host, 0.0))
                self._add(began_s, f"storage of {host} stuck", host)
            case "storage-back" | "member" if host in self._sick:
                self._sick.discard(host)
                self._well_s[host] = at_s
                self._add(at_s, f"storage of {host} ok", host)

    def _of_link(self, code: str, pair: frozenset[str], note: Note) -> None:
        down, names = code == "link-down", sorted(pair)
        if down is (pair in self._down) or (down and pair & self._silent):
            return
        self._down ^= {pair}
        self._add(_wall_s(note), f"link {'-'.join(names)} {'down' if down else 'up'}", names[0])

    def _of_vm(self, code: str, vm: str, note: Note) -> None:
        at_s = _wall_s(note)
        match code:
            case "vm-crashed":
                self._add(at_s, f"qemu of {vm} dies", vm)
            case "vm-shutdown":
                self._add(at_s, f"vm {vm} shuts down", vm)
            case "vm-stops" if _fields(note).get("why") == OWNER_STOPS:
                self._stopped.add(vm)
                self._add(at_s, f"wish {vm} stopped", vm)
            case "order-given" if vm in self._stopped:
                self._stopped.discard(vm)
                self._add(at_s, f"wish {vm} running", vm)


def _unconfirmed_s(note: Note) -> float:
    """How long the host had no beat confirmed when it told this; 0 when it does not say."""
    match note.get("evidence"):
        case {"limits": {"fence_s": float(fence_s)}, "guard": {"remaining_s": float(left_s)}}:
            return max(0.0, fence_s - left_s)
    return 0.0


def _fields(note: Note) -> Mapping[str, object]:
    fields = note.get("fields")
    return fields if isinstance(fields, dict) else {}


def _wall_s(note: Note) -> float:
    at_s = note.get("wall_s")
    return float(at_s) if isinstance(at_s, int | float) else 0.0
