"""The guard process: `python -m outlast.guard`. One thread, one loop, nothing in it waits.

Each round: let requests come in (or time pass), look at the subtree, let the core act, do its
duties in order, answer. What it promises beyond core.py:

1. Killed with -9 and started again within the same boot it continues the same term with the same
   deadline, or closes it if that has passed (state.py).
2. SIGTERM and Ctrl-C end it without touching a VM. The watchdog is disarmed only if nothing runs;
   otherwise it stays armed and the next guard has its time-out to appear.
3. Opening the watchdog counts as petting it, so an adopted device is opened only when the core
   allows a pet.
4. Real-time priority, locked memory and the like may be refused; status says so.

It exits with the code of errors.py if it cannot start (no cgroup v2, another guard is here).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outlast.errors import Conflict, InvalidInput, OutlastError
from outlast.guard import host, killer, priority, requests, state
from outlast.guard.core import GuardCore, no
from outlast.guard.facts import VM_NAME, Facts, Json, Reading, S, parse_open
from outlast.guard.states import Duty
from outlast.guard.watchdog import Watchdog, sysrq, sysrq_problem
from outlast.guard.wire import Peer, Request, Server
from outlast.model import GuardState

MS = 1_000_000
KILL_WAIT_NS = 5 * S
QUIET_NS = 500 * MS  # nothing runs and nothing may
CALM_NS = 250 * MS  # a term is open
BUSY_NS = 10 * MS  # something is dying
MARGIN_TICK_NS = 50 * MS  # the deadline is near
NEAR_NS = S


@dataclass(slots=True)
class PendingKill:
    peer: Peer
    vm: str
    until_ns: int


@dataclass(slots=True)
class Guard:
    """The shell around GuardCore: all of the guard's senses and hands."""

    places: host.Places
    part: host.HostPart
    subtree: killer.Subtree
    server: Server
    core: GuardCore
    watchdog: Watchdog
    boot_id: str
    problems: dict[str, str] = field(default_factory=dict)
    _pending: list[PendingKill] = field(default_factory=list)
    _next_reset_ns: int = 0
    _members_changed: bool = False
    _told: str = ""

    def run(self, stop: list[int]) -> None:
        """Serve until a signal number appears in `stop`."""
        while not stop:
            requests = self.server.poll(self._wait_ns() / S)
            self._round()
            for request in requests:
                self._serve(request)
        self._leave()

    # -- senses ----------------------------------------------------------------------------

    def _look(self, *, vms: bool = False) -> tuple[Reading, Facts]:
        populated = self.subtree.populated()
        names = frozenset(vm for vm, here in self.subtree.vms().items() if here) if vms else ()
        facts = Facts(
            populated, frozenset(names), self.watchdog.timeout_s, self.watchdog.refusal,
            self._reset_way(),
        )  # fmt: skip
        return reading(), facts

    def _reset_way(self) -> str:
        # A term that opened with an armed device keeps it: even if this guard, which adopted the
        # term, could not open it again, it runs on and fires by itself.
        armed = self.watchdog.timeout_s or self.core.memory().watchdog_s
        if self.part.reset == "sysrq" and not self.problems.get("sysrq"):
            return "sysrq"
        return "watchdog" if armed and self.part.reset != "none" else "none"

    def _wait_ns(self) -> int:
        if self.server.waiting():
            return 0
        now = reading()
        if self._pending or self.core.state in (GuardState.CLOSING, GuardState.RESETTING):
            return BUSY_NS
        wait_ns = CALM_NS if self.core.state is GuardState.OPEN else QUIET_NS
        if self.watchdog.timeout_s:
            wait_ns = min(wait_ns, self._pet_every_ns())
        if self.core.state is GuardState.OPEN:
            left_ns = self.core.remaining_ns(now)
            near_ns = MARGIN_TICK_NS if left_ns < NEAR_NS else wait_ns
            wait_ns = max(0, min(near_ns, left_ns))
        return wait_ns

    def _pet_every_ns(self) -> int:
        return min(S, self.watchdog.timeout_s * S // 5)

    # -- hands -----------------------------------------------------------------------------

    def _round(self) -> None:
        now, facts = self._look()
        self._perform(now, self.core.tick(now, facts))
        for pending in list(self._pending):
            populated = self.subtree.vm_populated(pending.vm)
            if not populated or now.boot_ns >= pending.until_ns:
                self._pending.remove(pending)
                self.server.reply(pending.peer, _killed(pending.vm, populated))
            else:
                self.subtree.kill_vm(pending.vm)

    def _perform(self, now: Reading, duties: tuple[Duty, ...]) -> None:
        for duty in duties:
            match duty:
                case Duty.FREEZE:
                    self.subtree.freeze()
                case Duty.KILL:
                    self.subtree.kill()
                case Duty.THAW:
                    self.subtree.thaw()
                case Duty.SAVE:
                    self._save()
                case Duty.RESET:
                    self._reset(now)
                case Duty.PET:
                    self._pet(now)
        if self._members_changed:
            self._save()
        self._tell()

    def _save(self) -> None:
        heritage = state.Heritage(
            self.boot_id, self.core.memory(), self.core.ran_ns, self.subtree.members()
        )
        self.problems["state"] = state.save(self.places.state, heritage)
        if not self.problems["state"]:
            self.core.saved()
            self._members_changed = False

    def _reset(self, now: Reading) -> None:
        """By sysrq if configured; the watchdog does it by itself once nobody pets it."""
        if self._reset_way() == "sysrq" and now.boot_ns >= self._next_reset_ns:
            self._next_reset_ns = now.boot_ns + S
            say("resetting this host now")
            self.problems["sysrq_write"] = sysrq(self.places.sysrq_trigger)

    def _pet(self, now: Reading) -> None:
        if now.boot_ns - self.watchdog.petted_ns < self._pet_every_ns() * 9 // 10:
            return
        memory = self.core.memory()
        if not self.watchdog.timeout_s and memory.watchdog_s:
            self.watchdog.arm(memory.timing.watchdog_s)  # adopted from an earlier guard
        self.watchdog.pet(now.boot_ns)

    def _tell(self) -> None:
        memory = self.core.memory()
        line = f"{memory.state.value}, term {memory.term[:8]}: {memory.reason}"
        if memory.unsafe_reset:
            line += f" (UNSAFE: {memory.unsafe_reset})"
        if line != self._told:
            self._told = line
            say(line)

    def _leave(self) -> None:
        now, facts = self._look()
        self._perform(now, self.core.tick(now, facts))
        self._save()
        self.subtree.tidy()
        if facts.populated or self.core.state is GuardState.RESETTING:
            self.watchdog.abandon()
            say("leaving; VMs run on, the next guard must come before the watchdog fires")
        else:
            self.watchdog.disarm()
            say("leaving; nothing runs here")
        self.server.close()
        with contextlib.suppress(OSError):
            self.places.socket.unlink()

    # -- requests --------------------------------------------------------------------------

    def _serve(self, request: Request) -> None:
        now, facts = self._look(vms=request.op in ("status", "enter"))
        self._perform(now, self.core.tick(now, facts))
        reply = self._answer(now, facts, request)
        now, facts = self._look()
        self._perform(now, self.core.tick(now, facts))
        if reply is not None:
            self.server.reply(request.peer, reply)

    def _answer(self, now: Reading, facts: Facts, request: Request) -> Json | None:
        fields, vm = request.fields, request.fields.get("vm")
        match request.op:
            case "status":
                return self._status(now, facts)
            case "open":
                return self._open(now, facts, fields)
            case "retime":
                return self._retime(now, facts, fields)
            case "kill":
                return self._kill(now, request.peer, vm)
            case "enter":
                return self._enter(now, facts, request)
        said = requests.answer(self.core, now, facts, request.op, fields)
        return {**said, "cgroup": f"{self.subtree.path}/{vm}"} if request.op == "admit" else said

    def _status(self, now: Reading, facts: Facts) -> Json:
        escaped = self.subtree.escaped()
        if escaped:
            self.problems["escaped"] = f"outside of their cgroup: {', '.join(escaped)}"
        else:
            self.problems.pop("escaped", None)
        problems = [*self.problems.values(), self.subtree.trouble]
        return {
            **self.core.status(now, facts),
            "vms": {vm: {"populated": here} for vm, here in self.subtree.vms().items()},
            "watchdog": self.watchdog.status(),
            "cgroup": str(self.subtree.path),
            "pid": os.getpid(),
            "problems": [problem for problem in problems if problem],
        }

    def _open(self, now: Reading, facts: Facts, fields: Mapping[str, object]) -> Json:
        """Arm the watchdog first, but only for an opening that nothing else forbids."""
        try:
            term, _, timing = parse_open(fields)
            mode = fields.get("watchdog", "")
            if self.core.state is not GuardState.OPEN and not self.core.refusal(term, facts):
                self.part = host.read(self.places.host_file)
                self._arm(str(mode or self.part.watchdog), timing.watchdog_s)
                now, facts = self._look()
        except InvalidInput as trouble:
            return no(trouble.sentence)
        self.subtree.tidy()
        return self.core.open(now, facts, fields)

    def _retime(self, now: Reading, facts: Facts, fields: Mapping[str, object]) -> Json:
        """The watchdog first; if the core then refuses, it gets its former time-out back."""
        try:
            term, _, timing = parse_open(fields)
        except InvalidInput as trouble:
            return no(trouble.sentence)
        before_s = self.watchdog.timeout_s
        if not self.core.retime_refusal(now, term, timing):
            self.watchdog.retime(timing.watchdog_s)
            now, facts = self._look()
        answer = self.core.retime(now, facts, fields)
        if answer["ok"] is not True:
            self.watchdog.retime(before_s)
        return answer

    def _arm(self, mode: str, timeout_s: int) -> None:
        self.watchdog.choose(mode, self.part.reset, self.part.watchdog_device)
        if self.part.reset == "sysrq":
            self.problems["sysrq"] = sysrq_problem()
        self.watchdog.arm(timeout_s)

    def _kill(self, now: Reading, peer: Peer, vm: object) -> Json | None:
        if not isinstance(vm, str) or not VM_NAME.fullmatch(vm):
            return no("that is not the name of a VM")
        self.core.release(vm)
        self.subtree.kill_vm(vm)
        if not self.subtree.vm_populated(vm):
            return _killed(vm, False)
        self._pending.append(PendingKill(peer, vm, now.boot_ns + KILL_WAIT_NS))
        return None

    def _enter(self, now: Reading, facts: Facts, request: Request) -> Json:
        peer, vm = request.peer, request.fields.get("vm")
        reply = self.core.enter(now, facts, vm, incoming=request.fields.get("incoming"))
        if not reply["ok"] or not isinstance(vm, str):
            return reply
        if peer.pid <= 0:
            return no("the process that asks lives in a PID namespace the guard cannot see")
        refusal = self.subtree.enter(vm, peer.pid)
        if not refusal:
            self._members_changed = True
            if not self.core.may_start(reading()):  # moving took time: look again
                self.subtree.kill_vm(vm)
                refusal = "the deadline came too near"
        return no(refusal) if refusal else reply


def reading() -> Reading:
    """The present."""
    return Reading(
        time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
    )


def say(line: str) -> None:
    """One line to stderr, or nothing if nobody takes it: the guard waits for no reader."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"guard: {line}\n".encode()[:1000])


def build(where: host.Places) -> Guard:
    """Take the locks, make the socket, adopt what an earlier guard left.

    Raises OutlastError with a sentence if this guard cannot start.
    """
    problems: dict[str, str] = {}
    try:
        part = host.read(where.host_file)
    except InvalidInput as trouble:
        part, problems["host"] = host.HostPart(), trouble.sentence
    _lock(where)
    subtree = killer.Subtree(Path(part.cgroup) if part.cgroup else killer.automatic())
    try:
        heritage = state.load(where.state)
    except state.BadState as trouble:
        heritage, problems["heritage"] = None, trouble.sentence
    subtree.adopt(heritage.members if heritage else ())
    core = GuardCore(heritage.memory, heritage.ran_ns) if heritage else GuardCore()
    dog = Watchdog(part.watchdog, part.watchdog_device)
    if part.reset == "sysrq":
        problems["sysrq"] = sysrq_problem()
    problems["memory"] = priority.lock_memory()
    problems["realtime"] = priority.realtime()
    problems["oom"] = priority.spare_from_oom()
    return Guard(where, part, subtree, Server(where.socket), core, dog, state.boot_id(), problems)


def main(where: host.Places | None = None) -> int:
    where = where or host.places(os.environ)
    try:
        guard = build(where)
    except OutlastError as trouble:
        print(f"outlast guard: {trouble.sentence}", file=sys.stderr)  # noqa: T201
        if trouble.hint:
            print(f"  {trouble.hint}", file=sys.stderr)  # noqa: T201
        return trouble.exit_code
    ear, mouth = socket.socketpair()
    ear.setblocking(False)
    mouth.setblocking(False)
    signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _: stop.append(caught))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the end of a terminal is no reason
    guard.server.wake_on(ear.fileno())
    guard.run(stop)
    return 0


def _lock(where: host.Places) -> None:
    """Be the only guard of this host for the life of the process."""
    try:
        where.run.mkdir(parents=True, exist_ok=True, mode=0o755)
        fd = os.open(where.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as trouble:
        raise OutlastError(f"the folder {where.run} cannot be used: {trouble.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Conflict("another guard runs on this host", hint="stop it first") from None


def _killed(vm: str, populated: bool) -> Json:
    if populated:
        return {**no(f"{vm} was killed but does not die"), "populated": True}
    return {"ok": True, "populated": False}


if __name__ == "__main__":
    sys.exit(main())
