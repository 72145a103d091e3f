"""A failing seed as a short story: the fewest of its faults that still break the same thing.

Rules:
1. The faults of a run become the commands of a story (scenario.py), with the pauses between them,
   and so does how long its hosts take to start and to kill.
   Chance falls otherwise in a story, so several seeds of it are tried; when none shows the failure,
   that is said: the run itself (`--seed N --steps`) is then the only proof.
2. Faults are left out by halves, then by smaller and smaller parts, as long as the rest still fails
   (delta debugging, Zeller and Hildebrandt 2002). Last, each pause is shortened where it can be.
3. What is printed was played, and fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outlast.settings import S
from outlast.sim.branches import parse, replay
from outlast.sim.scenario import Player
from outlast.sim.seeds import Outcome, Run

SEEDS = 20  # of the story, tried one after the other
TRIES_MAX = 400
HEAL = ("storage ok", "storage takes 1..8ms", "network up", "world smooth")
WORDS = {
    "off": "power of {host} off", "on": "power of {host} on", "reset": "host {host} resets",
    "stuck": "storage of {host} stuck", "failing": "storage of {host} failing",
    "ok": "storage of {host} ok", "cut": "link {host}-{other} down",
    "join": "link {host}-{other} up", "oneway": "way {host}>{other} cut",
    "agent": "agent of {host} killed", "freeze": "host {host} frozen", "thaw": "host {host} thawed",
    "qemu": "qemu of {vm} dies", "stop": "wish {vm} stopped", "start": "wish {vm} running",
    "move": "move {vm} to {other}", "back": "move of {vm} taken back",
    "maintain": "maintain {host}", "serve": "serve {host}", "blackout": "storage stuck",
    "light": "storage ok", "slow": "storage takes 20..250ms", "fast": "storage takes 1..8ms",
    "retime": "timing of {host} changes", "late": "storage of {host} late",
    "rough": "world rough", "smooth": "world smooth", "clocks": "clocks of {host} drift",
    "sleep": "host {host} asleep", "wake": "host {host} awake",
    "wall": "wall clock of {host} wrong",
    "blind": "witness of {host} lost", "sight": "witness of {host} reached",
    "stall": "storage of {host} stuck for 1s", "island": "network of {host} down",
    "bridge": "network of {host} up",
    "gulp": "qemu of {vm} dies", "drown": "network of {host} down",
    "trouble": "start of {vm} on {host} fails", "sound": "start of {vm} on {host} works",
    "hang": "starts on {host} take 10s", "quick": "starts on {host} take 0.2s",
    "drill-storage": "drill storage of {host}", "drill-network": "drill network of {host}",
    "drill-power": "drill power of {host}",
    "work": "disks of {vm} worked on by {host}", "done": "disks of {vm} let go",
    "broken": "disks of {vm} broken off",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    pause_s: float  # before it
    command: str


@dataclass(frozen=True, slots=True)
class Shrunk:
    """story: "" when no story shows the failure. Commands: before and after."""

    story: str
    failure: str
    before: int
    after: int


def steps_of(faults: Sequence[str], begun_s: float) -> list[Step]:
    """The commands of a run's faults, each "SECONDS what host other vm"."""
    found, last_s = [], begun_s
    for fault in faults:
        at, what, host, other, vm = fault.split()
        command = WORDS[what].format(host=host, other=other, vm=vm)
        found.append(Step(max(0.0, float(at) - last_s), command))
        last_s = float(at)
    return found


def _played(seed: str) -> tuple[Run, Outcome]:
    if "." in seed:
        return replay(parse(seed))
    run = Run(int(seed))
    return run, run.play()


def _paces(run: Run) -> list[Step]:
    """As drawn; a fault may have changed them since."""
    return [
        Step(0.0, command)
        for name, (start_ns, kill_ns) in run.takes_ns.items()
        for command in (
            f"starts on {name} take {start_ns / S:g}s", f"kills on {name} take {kill_ns / S:g}s",
        )
    ]  # fmt: skip


def shrink(seed: str, say: Callable[[str], None] = lambda _line: None) -> Shrunk:
    """Play the seed, or the branch, then look for the shortest story that fails as it does."""
    run, outcome = _played(seed)
    if outcome.kind == "ok":
        return Shrunk("", "", len(outcome.faults), 0)
    steps = [*_paces(run), *steps_of(outcome.faults, run.begun_ns / 1e9)]
    head = (
        f"pool hosts={','.join(run.pool.hosts)} vms={','.join(run.pool.vms)} "
        f"timing={run.timing} partition={run.pool.settings.partition}"
        f"{f' witness={witness}' if (witness := run.pool.settings.witness) else ''}"
    )
    end = _end(run) if outcome.kind == "liveness" else []
    tries = 0

    def fails(some: Sequence[Step], story_seed: int) -> str:
        nonlocal tries
        tries += 1
        played = Player().play(_story(head, story_seed, some, end))
        wrong = [line for line in played.splitlines() if line.startswith(("BROKEN", "WRONG"))]
        return wrong[0] if wrong else ""

    for story_seed in range(1, SEEDS + 1):
        if said := fails(steps, story_seed):
            break
    else:
        return Shrunk("", outcome.words, len(steps), len(steps))
    before = len(steps)
    say(f"{before} commands as a story: {said}")
    steps = _fewest(steps, lambda some: tries < TRIES_MAX and bool(fails(some, story_seed)))
    for n, step in enumerate(steps):
        for pause_s in (0.0, step.pause_s / 4, step.pause_s / 2):
            shorter = [*steps[:n], Step(round(pause_s, 1), step.command), *steps[n + 1 :]]
            if pause_s < step.pause_s and tries < TRIES_MAX and fails(shorter, story_seed):
                steps = shorter
                break
    text = _story(head, story_seed, steps, end)
    return Shrunk(text, fails(steps, story_seed), before, len(steps))


def _fewest(steps: list[Step], fails: Callable[[list[Step]], bool]) -> list[Step]:
    """Rule 2. What is left out leaves its pause to what follows."""
    parts = 2
    while len(steps) > 1:
        size = max(1, len(steps) // parts)
        for at in range(0, len(steps), size):
            rest = _without(steps, at, at + size)
            if rest and fails(rest):
                steps, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(steps), parts * 2)
    return steps


def _without(steps: list[Step], first: int, end: int) -> list[Step]:
    waited = sum(step.pause_s for step in steps[first:end])
    after = [
        Step(step.pause_s + waited, step.command) if n == 0 else step
        for n, step in enumerate(steps[end:])
    ]
    return [*steps[:first], *after]


def _story(head: str, seed: int, steps: Sequence[Step], end: Sequence[str]) -> str:
    lines = [f"{head} seed={seed}", "quiet", "wait 1s", "----", ""]
    for step in steps:
        if step.pause_s >= 0.05:
            lines.append(f"wait {step.pause_s:.1f}s")
        lines.append(step.command)
    return "\n".join([*lines, *(end or ["wait 10s"]), "----"]) + "\n"


def _end(run: Run) -> list[str]:
    """Everything heals, then every wanted VM has to run."""
    hosts = ",".join(run.pool.hosts)
    healed = [*HEAL, f"host {hosts} thawed", f"power of {hosts} on"]
    healed += [f"disks of {vm} let go" for vm in run.pool.vms]
    for host in run.pool.hosts:
        healed += [f"serve {host}", f"host {host} awake", f"starts on {host} take 0.2s"]
        healed += [f"start of {vm} on {host} works" for vm in run.pool.vms]
    return [
        *healed,
        f"wait {run.bound_s:g}s",
        *(f"expect {vm} on {hosts}" for vm in run.pool.wanted()),
    ]
