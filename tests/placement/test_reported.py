"""Snapshots of real pools: a file that is dropped into `reported/` is a test from then on.

    outlast pool snapshot --mask > tests/placement/reported/NAME.json
    OUTLAST_REWRITE=1 pytest tests/placement/test_reported.py    # writes NAME.answers.json

Each is held against what is true of every pool, and against its answers, which somebody has read.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from outlast.placement.balance import balance
from outlast.placement.evacuate import evacuate
from outlast.placement.fit import broken
from outlast.placement.layout import Layout
from outlast.placement.picture import HostState, Picture
from outlast.placement.plan import follow
from outlast.placement.snapshot import read, write
from outlast.placement.spare import every, unsafe

REPORTED = Path(__file__).parent / "reported"
NAMES = sorted(p.stem for p in REPORTED.glob("*.json") if not p.stem.endswith(".answers"))


def told(name: str) -> Picture:
    return read((REPORTED / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_its_answers_are_those_that_were_read(name: str) -> None:
    picture, kept = told(name), REPORTED / f"{name}.answers.json"
    found = {
        "failures": {host: failure.sentence for host, failure in every(picture).items()},
        "balance": [*map(str, balance(picture).moves), balance(picture).sentence],
    }
    if os.environ.get("OUTLAST_REWRITE"):
        kept.write_text(json.dumps(found, indent=1) + "\n")
    assert kept.exists(), "OUTLAST_REWRITE=1 writes the answers; read them"
    assert found == json.loads(kept.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_true_of_every_pool_is_true_of_it(name: str) -> None:
    picture = told(name)
    assert read(write(picture)) == picture
    follow(picture, balance(picture).moves)  # within the pool's limits each step is feasible
    freely = replace(picture.policy, moves_max=100_000, moved_share_max=9.0)
    picture = replace(picture, policy=freely)
    after = follow(picture, balance(picture).moves)
    assert not balance(after).moves, "balancing twice moves nothing"
    assert set(unsafe(after)) <= set(unsafe(picture)), "N-1 is never worse"
    assert set(broken(Layout(after))) <= set(broken(Layout(picture)))
    for host in picture.hosts:
        if host.state is HostState.OPEN:
            plan = evacuate(picture, host.name)
            emptied = follow(picture, plan.moves)
            stays = {v.name for v in emptied.vms if v.host == host.name}
            assert stays == {vm for vm, _ in plan.left}, "who stays is told with the reason"
