"""Play random seeds or one story.

    python -m outlast.sim --seed 7                 one seed, its faults and its outcome
    python -m outlast.sim --seed 7 --steps         and all that the hosts said
    python -m outlast.sim --seed 7 --shrink        the shortest story that fails as it does
    python -m outlast.sim --seconds 60 [--from 1]  as many seeds as fit into the time
    python -m outlast.sim --seconds 60 --branches  many short schedules from each seed's beginning
    python -m outlast.sim --seconds 900 --branches --enough 30000   until so many differ
    python -m outlast.sim --seed 7.42              one of those
    python -m outlast.sim --seconds 60 --soak FILE   the same, going on where FILE ended
    python -m outlast.sim --story FILE             play a story and print what really happens

Exit codes: 0 all well, 1 a crash of the simulator, 3 a safety property broken, 4 liveness, else
those of errors.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from outlast.errors import OutlastError
from outlast.sim import branches, soak
from outlast.sim.scenario import Player
from outlast.sim.seeds import Run
from outlast.sim.shrink import Shrunk, shrink

EXIT = {"ok": 0, "crash": 1, "safety": 3, "liveness": 4}
WORST = ("crash", "safety", "liveness")
WORSE = 3
TOLD = 5  # failures that are tried


def main() -> int:
    args = _arguments()
    say = sys.stdout.write
    if args.story:
        say(Player().play(args.story.read_text(encoding="utf-8")))
        return 0
    if args.seed and args.shrink:
        return WORSE if _shrunk(args.seed).failure else 0
    if args.seed:
        return _one(args.seed, steps=args.steps)
    commit = soak.commit_of(Path(__file__).parent)
    tally, saved = soak.Tally(commit, args.first, args.first), lambda _: None
    if args.soak:
        tally, saved = soak.load(args.soak, commit, args.first), partial(soak.save, args.soak)
    soak.soak(tally, args.seconds, args.jobs, saved, branching=args.branches, enough=args.enough)
    say(f"commit {commit}: {tally.sentence()}\n")
    for failure in tally.failures:
        say(f"seed {failure['seed']}: {failure['kind']}: {failure['words']}\n")
    shown = {str(f["words"]): str(f["seed"]) for f in tally.failures if f["kind"] != "crash"}
    _first_story(list(shown.values()))  # what fails in the same words is the same
    return next((EXIT[kind] for kind in WORST if tally.counts.get(kind)), 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m outlast.sim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", metavar="N[.M]", help="play this one, or its branch M")
    parser.add_argument("--steps", action="store_true", help="with --seed: tell everything")
    parser.add_argument("--shrink", action="store_true", help="with --seed: as a short story")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first seed")
    parser.add_argument("--branches", action="store_true", help="short schedules")
    parser.add_argument("--enough", type=int, default=sys.maxsize, help="end when so many differ")
    parser.add_argument("--jobs", type=int, default=0, help="default: one a processor")
    parser.add_argument("--soak", type=Path, metavar="FILE", help="keep and continue the result")
    parser.add_argument("--story", type=Path, metavar="FILE")
    return parser.parse_args()


def _one(seed: str, *, steps: bool) -> int:
    say, tell = sys.stdout.write, _line if steps else None
    if "." in seed:
        outcome = branches.replay(branches.parse(seed), tell)[1]
    else:
        outcome = Run(int(seed), tell).play()
    if not steps:
        say("".join(f"  {fault}\n" for fault in outcome.faults))
    say(f"seed {seed}: {outcome.kind}{': ' if outcome.words else ''}{outcome.words}\n")
    return EXIT[outcome.kind]


def _first_story(seeds: Sequence[str]) -> None:
    """One failure says most as a story; not each can be one."""
    for seed in seeds[:TOLD]:
        _line(f"\nseed {seed} as a short story (others: --seed N --shrink):")
        if _shrunk(seed).story:
            return


def _shrunk(seed: str) -> Shrunk:
    found = shrink(seed, _line)
    if not found.failure:
        _line(f"seed {seed} does not fail")
    elif not found.story:
        _line(f"seed {seed}: {found.failure}; no story shows it, see --seed {seed} --steps")
    else:
        _line(
            f"{found.before} commands, {found.after} are needed: {found.failure}\n\n{found.story}"
        )
    return found


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OutlastError as error:
        sys.stderr.write(f"{error.sentence}\n")
        sys.exit(error.exit_code)
