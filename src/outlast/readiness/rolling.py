"""Rolling maintenance: the hosts of a pool one after the other, each emptied and taken back (pure).

Rules:
1. One host at a time, the master last. The next is begun when all hosts of the round are members in
   service, and the pool would survive a failure while it is away; `at_risk` leaves out the latter.
2. What fails stops the round, with a sentence; nothing is forced, and nothing is taken back by
   itself: a host that was being worked on stays in maintenance. `go_on` tries the same step again.
3. A step looks at what the pool says, not at what was done. So it does no harm to make one twice,
   and whoever has the round goes on with it: another manager, or the same one after a restart.
4. A host is done when the administrator says so, or, with `until` "reboot", when it was seen away
   and is a member again.

Who makes the wishes, and keeps the round: the manager (manager/rounds.py) and the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from outlast.errors import Conflict, InvalidInput, NotFound
from outlast.placement.evacuate import evacuate, meanwhile
from outlast.placement.picture import Picture
from outlast.placement.plan import Plan
from outlast.readiness import emptying
from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus
from outlast.words import plural

PATIENCE_S = 600.0  # for hosts to be members again
READ_S = 60.0  # until every agent has read a wish
STUCK_S = 60.0  # no VM that is left can move
GONE = frozenset({"absent"})  # hosts that nobody waits for

Phase = Literal["begins", "empties", "work", "returns", "done", "ended"]


class Round(BaseModel):
    """How far a round is."""

    model_config = ConfigDict(frozen=True)

    hosts: tuple[str, ...]
    who: str
    begun_wall_s: float
    why: str = ""
    until: Literal["said", "reboot"] = "said"
    bring_back: bool = True
    at_risk: bool = False
    at: int = 0  # which host it is at; those before are done
    phase: Phase = "begins"
    since_wall_s: float = 0  # of the phase
    sentence: str = ""
    hint: str = ""
    stopped: bool = False  # the sentence says why; somebody has to go on with it, or end it
    away: bool = False  # the host was seen away while it was worked on
    said: bool = False  # the administrator said that the work is done
    stuck_wall_s: float = 0  # since when nothing that is left can move; 0 = something can

    @property
    def host(self) -> str:
        """ "" = none any more."""
        return self.hosts[self.at] if self.open else ""

    @property
    def open(self) -> bool:
        return self.phase not in ("done", "ended")


@dataclass(frozen=True, slots=True)
class Step:
    """What is so now, and what to wish of its host; the wish comes before the round is kept."""

    round: Round
    wish: Literal["", "maintain", "resume"] = ""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What one host's turn would do, as things are."""

    host: str
    plan: Plan
    warning: str  # what would not be survived meanwhile; "" = any failure would


def order(status: PoolStatus, chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """The hosts of a round in their order; none chosen: all. NotFound, Conflict, InvalidInput."""
    known = {host.name: host for host in status.hosts}
    for name in chosen:
        if name not in known:
            raise NotFound(f"there is no host '{name[:80]}' in this pool",
                           hint=f"its hosts: {', '.join(known)}")  # fmt: skip
    names = set(chosen or (h.name for h in status.hosts if h.state not in GONE))
    if not names:
        raise InvalidInput("no host is chosen", hint="choose at least one")
    for name in sorted(names):
        if known[name].maintenance:
            raise Conflict(f"{name} is in maintenance already", hint="end it, or leave it out")
        if known[name].state != "member":
            raise Conflict(f"{name} is no member now: {known[name].sentence}",
                           hint="mend it, or leave it out")  # fmt: skip
    return tuple(sorted(names, key=lambda n: (known[n].master, known[n].slot)))


def foreseen(picture: Picture, hosts: Sequence[str]) -> list[Foreseen]:
    """Each host's turn, as if it were the first."""
    found = []
    for host in hosts:
        plan = evacuate(picture, host)
        found.append(Foreseen(host, plan, _bare(meanwhile(picture, plan, host).warning)))
    return found


def _bare(warning: str) -> str:
    """Without the word in front that says how serious the policy takes it."""
    return warning.partition(": ")[2]


def go_on(round_: Round, wall_s: float) -> Round:
    """The same step once more, with new patience. Raises Conflict when it has not stopped."""
    if not round_.stopped:
        raise Conflict("the round has not stopped", hint="it goes on by itself")
    return _now(round_, wall_s, stopped=False, stuck_wall_s=0, sentence="it goes on", hint="")


def say_done(round_: Round, host: str) -> Round:
    """The work on that host is done. Raises Conflict when it is not its turn."""
    if round_.phase != "work" or host != round_.host:
        raise Conflict(f"{host[:80]} is not being worked on now", hint="look how far the round is")
    return round_.model_copy(update={"said": True})


def end(round_: Round, who: str) -> Round:
    """No further host. Raises Conflict when it has ended."""
    if not round_.open:
        raise Conflict("the round has ended", hint="begin another one")
    left = "" if round_.phase == "begins" else f"; {round_.host} stays as it is"
    return round_.model_copy(update={
        "phase": "ended", "stopped": False, "sentence": f"it was ended by {who}{left}",
        "hint": f"outlast host resume {round_.host}" if left else "",
    })  # fmt: skip


# ---- one step


def step(round_: Round, status: PoolStatus, picture: Picture | None, wall_s: float) -> Step:
    """The next step of a round that is open and has not stopped.

    picture: as placement sees the pool; only needed while the phase is "begins".
    """
    host = next((h for h in status.hosts if h.name == round_.host), None)
    if host is None:
        return _stop(round_, f"{round_.host} is no host of the pool any more")
    here = emptying.on(host.name, status.vms)
    if round_.phase == "begins":
        return _begins(round_, status, host, picture, wall_s)
    if round_.phase == "empties":
        return _empties(round_, host, here, wall_s)
    if round_.phase == "work":
        return _work(round_, host, wall_s)
    return _returns(round_, status, host, wall_s)


def _begins(
    round_: Round, status: PoolStatus, host: HostStatus, picture: Picture | None, wall_s: float
) -> Step:
    if host.maintenance:  # it was wished, and whoever wished it could not write that down
        return Step(_phase(round_, "empties", wall_s, f"{host.name} is being emptied"))
    for other in status.hosts:
        if other.name in round_.hosts and (other.state != "member" or other.maintenance):
            what = "in maintenance" if other.maintenance else f"no member: {other.sentence}"
            return _wait(round_, f"{other.name} is {what}", wall_s)
    if picture is None:
        return _wait(round_, "it is not known where VMs would go", wall_s)
    plan = evacuate(picture, host.name)
    if plan.left:
        vm, why = plan.left[0]
        more = f" (and {len(plan.left) - 1} more)" if len(plan.left) > 1 else ""
        return _stop(round_, f"{vm} cannot leave {host.name}: {why}{more}",
                     "make room, shut it down, or end the round")  # fmt: skip
    verdict = meanwhile(picture, plan, host.name)
    if verdict.warning and not (round_.at_risk and verdict.allowed):
        return _stop(round_, f"{host.name} cannot be away now: {_bare(verdict.warning)}",
                     "make room, or begin a round that takes the risk")  # fmt: skip
    said = f"{host.name} is being emptied: "
    said += plural(len(plan.moves), "VM moves away", "VMs move away")
    return Step(_phase(round_, "empties", wall_s, said), "maintain")


def _empties(round_: Round, host: HostStatus, here: list[VmStatus], wall_s: float) -> Step:
    if not host.maintenance:
        if wall_s - round_.since_wall_s > READ_S:
            return _stop(round_, f"somebody ended the maintenance of {host.name}")
        return Step(round_)
    if not here:
        until = "reboot it" if round_.until == "reboot" else "say when the work is done"
        return Step(_phase(round_, "work", wall_s, f"{host.name} runs no VMs: {until}"))
    failed = emptying.stuck(here)
    since_s = (round_.stuck_wall_s or wall_s) if len(failed) == len(here) else 0.0
    if since_s and wall_s - since_s > STUCK_S and failed[0].move is not None:
        return _stop(round_, f"{failed[0].name} stays on {host.name}: {failed[0].move.failed}",
                     "make room, shut it down, or end the round")  # fmt: skip
    said = emptying.told(host.name, here)
    return Step(round_.model_copy(update={"sentence": said, "stuck_wall_s": since_s}))


def _work(round_: Round, host: HostStatus, wall_s: float) -> Step:
    read = wall_s - round_.since_wall_s > READ_S
    if not host.maintenance and host.state == "member" and read:
        said = f"somebody took {host.name} back into service"
        return Step(_phase(round_, "returns", wall_s, said))
    if host.state != "member":
        said = f"{host.name} is away: {host.sentence}"
        return Step(round_.model_copy(update={"away": True, "sentence": said}))
    if round_.said or (round_.until == "reboot" and round_.away):
        said = f"{host.name} is taken back into service"
        return Step(_phase(round_, "returns", wall_s, said), "resume")
    return Step(round_)


def _returns(round_: Round, status: PoolStatus, host: HostStatus, wall_s: float) -> Step:
    if host.maintenance or host.state != "member":
        return _wait(round_, f"{host.name} is not back in service: {host.sentence}", wall_s)
    coming = [vm.name for vm in status.vms if vm.away_from == host.name]
    if round_.bring_back and coming:
        return _wait(
            round_,
            f"{plural(len(coming), 'VM is', 'VMs are')} still to come back to {host.name}",
            wall_s,
        )
    if round_.at + 1 == len(round_.hosts):
        said = f"all {len(round_.hosts)} hosts are done"
        return Step(_now(round_, wall_s, phase="done", sentence=said))
    after = _now(round_, wall_s, phase="begins", at=round_.at + 1, away=False, said=False)
    return Step(after.model_copy(update={"sentence": f"{host.name} is done; {after.host} is next"}))


def _wait(round_: Round, sentence: str, wall_s: float) -> Step:
    if wall_s - round_.since_wall_s > PATIENCE_S:
        return _stop(round_, sentence, "mend it, then go on, or end the round")
    return Step(round_.model_copy(update={"sentence": f"waits: {sentence}"}))


def _stop(round_: Round, sentence: str, hint: str = "go on, or end the round") -> Step:
    return Step(round_.model_copy(update={"stopped": True, "sentence": sentence, "hint": hint}))


def _phase(round_: Round, phase: Phase, wall_s: float, sentence: str) -> Round:
    return _now(round_, wall_s, phase=phase, sentence=sentence, stuck_wall_s=0)


def _now(round_: Round, wall_s: float, **values: object) -> Round:
    return round_.model_copy(update={"since_wall_s": wall_s, **values})
