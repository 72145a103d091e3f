"""Short schedules from one beginning: the same with a fork and without, and they can find bugs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import BY_NAME, switched_off

from outlast.errors import BrokenInvariant, InvalidInput
from outlast.guard.core import GuardCore
from outlast.sim import branches as sim
from outlast.sim.branches import Branch, branches, parse, replay, warm
from outlast.sim.machine import Copy
from outlast.sim.seeds import Run
from outlast.sim.soak import commit_of, load

SCHEDULES = int(os.environ.get("OUTLAST_SCHEDULES", "30000"))


@pytest.mark.patient
def test_branches_are_safe_and_recover(tmp_path: Path) -> None:
    """In a process of its own: forks of one as large as a test run cost several times as much."""
    result = tmp_path / "soak.json"
    done = subprocess.run(
        [sys.executable, "-m", "outlast.sim", "--branches", "--seconds", "3500",
         "--enough", str(SCHEDULES), "--soak", str(result)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    tally = load(result, commit_of(Path(sim.__file__).parent), 1)
    assert tally.counts == {"ok": tally.played}
    assert tally.different >= SCHEDULES


def test_a_branch_is_the_same_with_a_fork_and_without() -> None:
    forked = {o.name: (o.kind, o.host_seconds) for o, _cpu_s in branches(2, 3, 3)}
    for number in (3, 4, 5):
        _run, alone = replay(Branch(2, number))
        assert forked[alone.name] == (alone.kind, alone.host_seconds)
    assert len(set(forked.values())) > 1, "each has a chance of its own"


@pytest.mark.parametrize("name", ["823.20"])  # a copy went on as its host's term ended
def test_a_branch_that_failed_once_holds(name: str) -> None:
    _run, outcome = replay(parse(name))
    assert (outcome.kind, outcome.words) == ("ok", "")


def test_a_copy_that_goes_on_after_its_guard_has_ended_all_is_told() -> None:
    pool = warm(1).pool
    host = next(iter(pool.hosts.values()))
    host.copies["web"] = Copy("a move", complete=True)
    host.guard = GuardCore()
    host.goes_on("web")
    with pytest.raises(BrokenInvariant, match="I5: web goes on"):
        pool.check()


def test_a_rule_switched_off_is_caught() -> None:
    with switched_off(BY_NAME["impatient"]):
        found = [o for seed in (1, 2, 3) for o, _ in branches(seed, 0, 20) if o.kind != "ok"]
    assert found
    assert any("I1" in o.words or "I3" in o.words for o in found)


def test_a_child_that_dies_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(_run: Run, _branch: Branch) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sim, "grow", dies)
    ((outcome, _),) = branches(1, 0, 1)
    assert outcome.kind == "crash"


def test_a_broken_invariant_is_told_with_its_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    def harm(_run: Run) -> None:
        raise BrokenInvariant("I1: as a test")

    monkeypatch.setattr(Run, "hurt", harm)
    ((outcome, _),) = branches(1, 7, 1)
    assert (outcome.name, outcome.kind) == ("1.7", "safety")
    assert "I1" in outcome.words


@pytest.mark.parametrize("text", ["7", "7.", ".7", "a.b", "-1.2", "24.1"])
def test_what_names_no_branch_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


def test_a_pool_is_at_rest_before_it_branches() -> None:
    run = warm(1)
    assert all(run.pool.where(vm) for vm in run.pool.vms)
