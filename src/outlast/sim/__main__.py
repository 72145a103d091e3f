"""Play random seeds or one story.

    python -m outlast.sim --seed 7                one seed, its faults and its outcome
    python -m outlast.sim --seconds 60 [--from 1]  as many seeds as fit into the time
    python -m outlast.sim --story FILE             play a story and print what really happens

Exit codes: 0 all well, 1 a crash of the simulator, 3 a safety property broken, 4 liveness.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from outlast.sim.scenario import Player
from outlast.sim.seeds import Outcome, play

EXIT = {"ok": 0, "safety": 3, "liveness": 4}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m outlast.sim", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--story", type=Path)
    args = parser.parse_args()
    say = sys.stdout.write
    if args.story:
        say(Player().play(args.story.read_text(encoding="utf-8")))
        return 0
    if args.seed is not None:
        return _report(play(args.seed), say_faults=True)
    end = time.monotonic() + args.seconds
    seed, host_seconds, began = args.first, 0.0, time.process_time()
    while time.monotonic() < end:
        outcome = play(seed)
        host_seconds += outcome.host_seconds
        if outcome.kind != "ok":
            return _report(outcome, say_faults=True)
        seed += 1
    rate = host_seconds / max(0.001, time.process_time() - began)
    say(f"{seed - args.first} seeds, no property broken, {rate:,.0f} host-seconds a CPU second\n")
    return 0


def _report(outcome: Outcome, *, say_faults: bool) -> int:
    say = sys.stdout.write
    if say_faults:
        say("".join(f"  {fault}\n" for fault in outcome.faults))
    say(f"seed {outcome.seed}: {outcome.kind}{': ' if outcome.words else ''}{outcome.words}\n")
    return EXIT[outcome.kind]


if __name__ == "__main__":
    sys.exit(main())
