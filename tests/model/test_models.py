"""The exhaustive models: safe with all rules, and every rule earns its place by a counterexample.

`make model` runs the larger searches (extensions with two faults) that would take too long here.
"""

from __future__ import annotations

import core_model
import migration_model
import pytest
import register_model
from core_model import BOTH, EXTENDED, MORTAL, OUTSIDE, STAGES, Stage
from core_world import RULE_NAMES, Rules
from register_model import Check


@pytest.mark.patient
def test_two_hosts_with_two_faults_are_safe_with_all_rules() -> None:
    found = core_model.explore(Rules(), BOTH, faults=2)
    assert found.safe, (found.harm, found.course)
    assert found.states > 100_000  # it did not stop short of the interesting part


@pytest.mark.patient
def test_a_vm_that_dies_is_safe_with_all_rules() -> None:
    found = core_model.explore(Rules(), MORTAL, faults=1)
    assert found.safe, (found.harm, found.course)
    assert found.states > 10_000


@pytest.mark.patient
@pytest.mark.parametrize("stage", [EXTENDED, OUTSIDE], ids=["both listed", "one outside"])
def test_extensions_with_one_fault_are_safe_with_all_rules(stage: Stage) -> None:
    found = core_model.explore(Rules(), stage, faults=1)
    assert found.safe, (found.harm, found.course)
    assert found.states > 20_000


# each takes seconds, sponsor the longest
@pytest.mark.patient
@pytest.mark.parametrize("name", RULE_NAMES)
def test_every_rule_is_needed(name: str) -> None:
    found = core_model.explore(Rules().without(name), STAGES[name], faults=2)
    assert found.harm.startswith(("TWICE", "LATE")), f"{name} may be off: a rule too many"


def test_the_register_is_safe_with_all_safeguards() -> None:
    found = register_model.explore(register_model.Rules())
    assert found.safe, (found.harm, found.course)


@pytest.mark.parametrize(
    ("rules", "harm"),
    [
        (register_model.Rules(check=Check.NONE), "STALE"),
        (register_model.Rules(check=Check.NAME), "STALE"),
        (register_model.Rules(three_valued=False), "LOST"),
    ],
    ids=["no look at the predecessor", "a look at its name only", "no third answer"],
)
def test_every_safeguard_of_the_register_is_needed(rules: register_model.Rules, harm: str) -> None:
    found = register_model.explore(rules)
    assert found.harm.startswith(harm)


def test_a_migration_is_safe_with_all_rules_and_never_stuck() -> None:
    found = migration_model.explore(migration_model.Rules())
    assert found.safe, (found.harm, found.course)
    assert found.states > 500
    assert not migration_model.stuck(migration_model.Rules())


@pytest.mark.parametrize("name", migration_model.RULE_NAMES)
def test_every_rule_of_a_migration_is_needed(name: str) -> None:
    found = migration_model.explore(migration_model.Rules().without(name))
    assert found.harm.startswith(("TWICE", "STALE", "FOREIGN")), name
