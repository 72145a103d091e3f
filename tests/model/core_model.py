"""Every possible course of the pool protocol with two hosts, one VM and few faults, step by step.

What it shows: with all rules no course leads to harm; with any one rule off some course does, and
the explorer prints the shortest. Harm is

    TWICE  the VM runs on both hosts                                        (I1)
    LATE   a write of a former holder reaches the disk after the lease moved (I2)

How it is made:
1. Time is counted in ticks. Hosts do their steps at any moment or never; only the guard is not
   optional: no tick passes beyond D + K while a guard is open.
2. A fault costs one of the budget: crash, storage path lost, agent and pulse stalled, agent
   restarted, VM dead, network link cut. Boot, return of the path, resuming and healing are free.
3. Registers are atomic (register_model.py looks into them). A new view is known to its writer at
   once, to others when a listed block names it or when they happen to read its register.
4. A term is counted from the term that the lease names: `ahead`; the block may still show the
   term before (`Shown.OLD`).
5. X, the settle time, is less than a tick: once storage answers, what was queued lands before the
   next one. "Drained" means that it has: a clean close waits for it. A crash drops what was queued.

Deliberately not here: three hosts (what needs a third is shown with one that starts outside the
view), migration, power fences, clocks that differ.

    python tests/model/core_model.py            all rules, then each rule off
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from core_world import KILL, NAMES, RULE_NAMES, Guard, Host, Intent, Rules, Shown, World
from search import Result, Step, report, search


@dataclass(frozen=True)
class Stage:
    """Where a rule can be seen to matter."""

    outside: bool = False
    extend: bool = False
    fence: int = 1
    deaths: bool = False


class Model:
    """The successor function.

    extend: hosts without storage ask each other for more time. fence: F in ticks; 1 lets a guard
    close at any tick, 2 leaves room for extensions. deaths: a VM may die, and its lease be freed.
    """

    def __init__(self, rules: Rules, stage: Stage) -> None:
        self.rules, fence = rules, stage.fence
        self.extend, self.deaths = stage.extend, stage.deaths
        self.full = fence + KILL  # from a confirmed heartbeat to D + K
        self.dead = self.full + 1 if rules.slack else self.full  # T_dead

    def begin(self, faults: int, outside: bool) -> World:
        """Both listed, or only the VM's holder with the other host outside the view."""
        first = Host(left=self.full)
        if outside:
            first = Host(guard=Guard.IDLE, listed=False, in_view=False)
        holder = Host(left=self.full, runs=True, peer=not outside)
        return self.tidy(World((first, holder), faults))

    def tidy(self, w: World) -> World:
        """Forget what can no longer matter, so that equal futures are one state."""
        for i in (0, 1):
            h = w.hosts[i]
            ahead = min(h.ahead, 2) if i == w.owner else 0
            left = h.left if h.guard is Guard.OPEN else 0
            still = 0 if h.unread and self.rules.fresh else h.still
            if (ahead, left, still) != (h.ahead, h.left, h.still):
                w = w.put(i, h._replace(ahead=ahead, left=left, still=still))
        if w.out_for and (w.hosts[w.owner].in_view or not w.announced):
            w = w._replace(out_for=0)
        return w

    # ---- all steps

    def moves(self, w: World) -> Iterator[Step[World]]:
        """The steps as search.py wants them: tidied, with the harm they do."""
        for step in self.steps(w):
            harm = step.harm
            if step.state.hosts[0].runs and step.state.hosts[1].runs:
                harm = "TWICE: the VM runs on A and B"
            yield Step(step.label, self.tidy(step.state), harm)

    def steps(self, w: World) -> Iterator[Step[World]]:
        for i in (0, 1):
            h = w.hosts[i]
            if not h.up:
                yield Step(f"{NAMES[i]} boots", w.put(i, self._booted(h)))
                continue
            if h.guard is Guard.OPEN and h.left <= KILL:
                yield Step(f"{NAMES[i]}: deadline, guard closes", self._expire(w, i))
            if h.guard is Guard.CLOSED and h.queued and self.rules.reset:
                yield Step(f"{NAMES[i]}: not drained by D + K, reset", w.put(i, _off(h)))
            if h.awake:
                yield from self._agent(w, i, h)
            yield from self._free(w, i, h)
            if w.faults:
                yield from self._faults(w, i, h)
        if not w.link:
            yield Step("link heals", w._replace(link=True))
        elif w.faults:
            yield Step("LINK CUT", w._replace(link=False, faults=w.faults - 1))
        later = self._tick(w)
        if later is not None:
            yield Step("tick", later)

    def _tick(self, w: World) -> World | None:
        for i in (0, 1):
            h = w.hosts[i]
            if h.up and h.queued and (h.path or (h.guard is Guard.CLOSED and self.rules.reset)):
                return None
            if h.up and h.guard is Guard.OPEN:
                if h.left == 0:
                    return None
                h = h._replace(left=h.left - 1)
            if h.still < self.dead and not (h.unread and self.rules.fresh):
                h = h._replace(still=h.still + 1)
            w = w.put(i, h)
        return w._replace(out_for=min(w.out_for + 1, self.dead))

    def _free(self, w: World, i: int, h: Host) -> Iterator[Step[World]]:
        if not h.path:
            yield Step(f"{NAMES[i]}: storage path returns", w.put(i, h._replace(path=True)))
        elif h.queued:
            harm = ""
            if w.owner != i:
                harm = f"LATE: a queued write of {NAMES[i]} lands, {NAMES[w.owner]} holds the lease"
            landed = w.put(i, h._replace(queued=False))
            yield Step(f"{NAMES[i]}: what was queued lands", landed, harm)
        if not h.awake:
            yield Step(f"{NAMES[i]}: agent and pulse go on", w.put(i, h._replace(awake=True)))

    def _faults(self, w: World, i: int, h: Host) -> Iterator[Step[World]]:
        name, w = NAMES[i], w._replace(faults=w.faults - 1)
        crashed = w.put(i, _off(h))
        yield Step(f"{name} CRASHES", crashed if i == w.owner else crashed._replace(out_for=0))
        if h.path:
            lost = h._replace(path=False, queued=h.queued or h.runs)
            yield Step(f"{name} LOSES STORAGE", w.put(i, lost))
        if h.runs and self.deaths:
            yield Step(f"{name}: THE VM DIES", w.put(i, h._replace(runs=False)))
        if h.awake:
            yield Step(f"{name}: AGENT AND PULSE STALL", w.put(i, h._replace(awake=False)))
            again = h._replace(intent=Intent.NONE)
            if not self.rules.keepterm and h.guard is Guard.OPEN:
                again = again._replace(ahead=h.ahead + 1, shown=Shown.OLD)
            if again != h:
                yield Step(f"{name}: AGENT RESTARTS", w.put(i, again))

    # ---- guard

    def _booted(self, h: Host) -> Host:
        """A reboot always begins a new term, which no view lists."""
        ahead = h.ahead + (h.shown is not Shown.OLD)
        return h._replace(up=True, ahead=ahead, shown=Shown.OLD, listed=False)

    def _expire(self, w: World, i: int) -> World:
        """No confirmation came: the storage counts as sick, whatever it does just now."""
        h = w.hosts[i]
        if self.rules.reset and (h.runs or h.queued):
            return w.put(i, _off(h))
        return self._close(w, i)

    def _close(self, w: World, i: int) -> World:
        h = w.hosts[i]
        intent = Intent.NONE if self.rules.admit else h.intent
        return w.put(i, h._replace(runs=False, guard=Guard.CLOSED, left=0, intent=intent))

    # ---- agent and pulse

    def _agent(self, w: World, i: int, h: Host) -> Iterator[Step[World]]:
        name = NAMES[i]
        if h.path:
            yield from self._heartbeat(w, i)
            if not h.knows:
                learnt = h._replace(knows=True, peer=w.hosts[1 - i].in_view)
                yield Step(f"{name} reads the view's register", w.put(i, learnt))
            if self._may_begin_term(h):
                new = h._replace(
                    guard=Guard.IDLE, ahead=h.ahead + 1, shown=Shown.LIVE, listed=False,
                    intent=Intent.NONE,
                )  # fmt: skip
                yield Step(f"{name} begins a new term", _wrote(w.put(i, new), i))
            yield from self._lease(w, i, h)
            yield from self._views(w, i, h)
        elif self.extend and h.guard is Guard.OPEN and h.left > KILL:
            yield from self._extension(w, i, h)
        if h.intent is Intent.START:
            yield self._start(w, i, h)

    def _heartbeat(self, w: World, i: int) -> Iterator[Step[World]]:
        """Write the own block, then read all blocks and, if one names it, the newest view."""
        name, rules = NAMES[i], self.rules
        h = w.hosts[i]
        announced = w.announced or (h.knows and h.listed)
        shown = Shown.LIVE if h.shown is Shown.OLD else h.shown
        if h.guard is Guard.CLOSED and rules.newterm and not h.queued:
            shown = Shown.CLOSED
        w = _wrote(w.put(i, h._replace(shown=shown))._replace(announced=announced), i)
        if h.guard is Guard.OPEN and not rules.confirm:
            fed = w.put(i, w.hosts[i]._replace(left=self.full))
            yield Step(f"{name} writes its block, guard fed", fed)
            w = w._replace(hosts=fed.hosts)
        w = _read(w, i)
        h = w.hosts[i]
        if h.guard is Guard.OPEN and h.knows and not h.listed:
            if h.runs and w.faults:
                late = w.put(i, h._replace(path=False, queued=True))
                lost = self._close(late._replace(faults=w.faults - 1), i)
                yield Step(f"{name} sees it is excluded, LOSES STORAGE, kills", lost)
            w = self._close(w, i)
            if not h.queued:
                w = w.put(i, w.hosts[i]._replace(shown=Shown.CLOSED))
            yield Step(f"{name} sees it is excluded, kills, writes closed once drained", w)
        elif h.guard is Guard.OPEN:
            yield Step(f"{name}: heartbeat confirmed", w.put(i, h._replace(left=self.full)))
        elif h.knows and h.listed and not (h.guard is Guard.CLOSED and rules.newterm):
            still = 0 if rules.joinwin else h.still
            opened = h._replace(guard=Guard.OPEN, left=self.full, still=still)
            yield Step(f"{name}: heartbeat, guard opens", w.put(i, opened))
        else:
            yield Step(f"{name}: heartbeat of a host that is not a member", w)

    def _may_begin_term(self, h: Host) -> bool:
        over = h.guard is Guard.CLOSED and (self.rules.newterm or (h.knows and not h.listed))
        return over and not h.queued and h.shown is not Shown.OLD

    def _silent(self, h: Host) -> bool:
        return h.still >= self.dead and not (self.rules.fresh and h.unread)

    def _member(self, h: Host) -> bool:
        return h.guard is Guard.OPEN and (h.listed or not h.knows)

    # ---- leases

    def _lease(self, w: World, i: int, h: Host) -> Iterator[Step[World]]:
        name, mine = NAMES[i], w.owner == i and h.ahead == 0 and not w.free
        open_enough = h.guard is Guard.OPEN or not self.rules.admit
        if h.intent is Intent.TAKE:
            other = w.hosts[1 - i]
            if other.intent is Intent.TAKE:  # its swap will find another version
                w = w.put(1 - i, other._replace(intent=Intent.NONE))
            took = w.put(i, h._replace(ahead=0, intent=Intent.START))
            took = took._replace(owner=i, free=False, out_for=0)
            yield Step(f"{name} swaps the lease to itself", took)
        elif h.intent is Intent.NONE and mine and not h.runs and open_enough:
            yield Step(f"{name} will start its VM", w.put(i, h._replace(intent=Intent.START)))
            if self.deaths and not (h.queued and self.rules.drained):
                yield Step(f"{name} frees the lease", w._replace(free=True))
        elif h.intent is Intent.NONE and not mine and open_enough:
            seen = _read(w, i) if self.rules.fresh else w
            why = self._proof(seen, i)
            if why and (self._member(seen.hosts[i]) or not self.rules.sponsor):
                taking = seen.put(i, seen.hosts[i]._replace(intent=Intent.TAKE))
                yield Step(f"{name} has proof: {why}", taking)

    def _proof(self, w: World, i: int) -> str:
        """Why the term that the lease names is dead, as host i can know it."""
        h, holder = w.hosts[i], w.hosts[w.owner]
        if w.free:
            return "the lease is free"
        if w.owner == i:
            return "its own earlier term" if h.ahead and h.shown is not Shown.OLD else ""
        shown = holder.ahead - (holder.shown is Shown.OLD)
        if shown > 0:
            return "the block shows a newer term"
        if shown == 0 and holder.shown is Shown.CLOSED:
            return "the block says closed"
        if self._silent(h):
            return "silence"
        out = not holder.in_view and h.knows
        if out and (w.out_for >= self.dead or not self.rules.p3):
            return "excluded"
        return ""

    def _start(self, w: World, i: int, h: Host) -> Step[World]:
        mine = w.owner == i and h.ahead == 0 and not w.free
        done = h._replace(intent=Intent.NONE)
        if self.rules.admit and not (h.guard is Guard.OPEN and h.left > KILL and mine):
            return Step(f"{NAMES[i]}: guard refuses the start", w.put(i, done))
        done = done._replace(runs=True, queued=h.queued or not h.path)
        return Step(f"{NAMES[i]} STARTS THE VM", w.put(i, done))

    # ---- views

    def _views(self, w: World, i: int, h: Host) -> Iterator[Step[World]]:
        name, other_name = NAMES[i], NAMES[1 - i]
        w = _read(w, i)
        h, other = w.hosts[i], w.hosts[1 - i]
        over = other.in_view and self._over(h, other)
        if h.guard is Guard.OPEN and h.listed and h.knows:
            if over:
                yield Step(f"{name}: view without {other_name}, proven dead", _view(w, i, False))
            elif other.in_view and not w.link and i == 0:  # equal halves: the lower slot stays
                yield Step(f"{name}: view excludes {other_name}", _view(w, i, False))
            joins = not other.listed and other.shown is Shown.LIVE and other.guard is Guard.IDLE
            if joins and other.up and w.link:
                yield Step(f"{name}: view admits {other_name}", _view(w, i, True))
        elif h.guard is Guard.IDLE and not h.listed and h.shown is Shown.LIVE:
            allowed = h.in_view or not self.rules.sponsor
            if allowed and (over or not other.in_view):
                yield Step(f"{name}: forms a view alone, nobody else lives", _view(w, i, False))

    def _over(self, h: Host, other: Host) -> bool:
        """Proof that the other's LISTED term is dead."""
        if other.listed and other.shown is Shown.CLOSED:
            return True
        return (not other.listed and other.shown is not Shown.OLD) or self._silent(h)

    # ---- everybody lost storage

    def _extension(self, w: World, i: int, h: Host) -> Iterator[Step[World]]:
        """Every other member of the newest view it CONFIRMED must agree, each time anew.

        A view that it wrote and did not announce is no ground: those it left out don't know yet.
        """
        other = w.hosts[1 - i]
        if h.knows and not w.announced and self.rules.announce:
            return
        if h.peer:
            able = other.up and other.awake and not other.path and other.guard is Guard.OPEN
            same_view = other.knows and h.knows and other.listed
            if not (able and same_view and w.link) or other.intent is Intent.TAKE:
                return
            w = w.put(1 - i, other._replace(still=0))
        yield Step(f"{NAMES[i]}: extended by all others", w.put(i, h._replace(left=self.full)))


def _off(h: Host) -> Host:
    return h._replace(
        up=False, awake=True, guard=Guard.IDLE, left=0, runs=False, queued=False,
        intent=Intent.NONE, knows=False, peer=False, still=0, unread=True,
    )  # fmt: skip


def _read(w: World, i: int) -> World:
    """Read all blocks; the newest view too, if a listed block names it."""
    h = w.hosts[i]
    if h.unread:
        h = h._replace(unread=False, still=0)
    if w.announced and not h.knows:
        h = h._replace(knows=True, peer=w.hosts[1 - i].in_view)
    return w.put(i, h)


def _wrote(w: World, i: int) -> World:
    other = w.hosts[1 - i]
    return w if other.unread else w.put(1 - i, other._replace(unread=True))


def _view(w: World, i: int, with_other: bool) -> World:
    """Host i writes the next view: itself, and the other with its present term or not at all."""
    me = w.hosts[i]._replace(listed=True, in_view=True, knows=True, peer=with_other)
    other = w.hosts[1 - i]._replace(listed=with_other, in_view=with_other, knows=False)
    return w.put(i, me).put(1 - i, other)._replace(announced=False, out_for=0)


BOTH = Stage()
MORTAL = Stage(deaths=True)
EXTENDED = Stage(extend=True, fence=2)
OUTSIDE = Stage(outside=True, extend=True, fence=2)
# what can only go wrong while a member lives on extensions, two of them with a host outside
STAGES = dict.fromkeys(RULE_NAMES, BOTH) | {
    "sponsor": OUTSIDE,
    "joinwin": OUTSIDE,
    "announce": EXTENDED,
    "drained": MORTAL,
}


def explore(rules: Rules, stage: Stage = BOTH, faults: int = 2) -> Result:
    model = Model(rules, stage)
    return search(model.begin(faults, stage.outside), model.moves)


def main() -> None:
    for title, rules, stage in (
        ("all rules, both members", Rules(), BOTH),
        ("all rules, both members, the VM may die", Rules(), MORTAL),
        ("all rules, both members, extensions", Rules(), EXTENDED),
        ("all rules, one outside, extensions", Rules(), OUTSIDE),
        *((f"without {n}", Rules().without(n), STAGES[n]) for n in RULE_NAMES),
    ):
        report(title, partial(explore, rules, stage))


if __name__ == "__main__":
    main()
