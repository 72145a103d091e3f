"""One tick: gather, decide, perform. Pure but for what is handed in; the simulator runs it too.

Rules:
1. The tick never blocks and never catches: a broken invariant ends the agent, the guard bounds
   the harm, and the next agent adopts what runs.
2. Without facts there is no decision: "I do not know" is not "nothing is there".
"""

from __future__ import annotations

from typing import Protocol

from outlast.agent.picture import Picture
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision
from outlast.pool.facts import Facts, Me
from outlast.settings import PoolSettings


class Senses(Protocol):
    def facts(self) -> Facts | str:
        """What is known now, or why nothing is, in a sentence."""


class Performer(Protocol):
    def perform(self, decision: Decision) -> None:
        """Begin what the decision wants; never blocks."""


def tick(
    now_ns: int, me: Me, settings: PoolSettings, core: PoolCore, senses: Senses, hands: Performer
) -> Picture:
    """Think once. Returns what the agent knows now, for everybody who asks."""
    facts = senses.facts()
    if isinstance(facts, str):
        return Picture(me, settings, None, None, facts, now_ns)
    decision = core.step(now_ns, facts)
    hands.perform(decision)
    return Picture(me, settings, facts, decision, "", now_ns)
