"""Why a VM or a host is as it is, as the agent's API answers it (see shapes.py for the rules)."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from outlast.wire.shapes import Answer, TimelineEntry


class Moment(Answer):
    """One part of what happened, in words that a time can stand behind."""

    words: str
    wall_s: float = 0  # when; 0: it has no moment of its own


class Why(Answer):
    """The answer in a sentence, the notes that led to it, and, of a VM, the same told briefly."""

    subject: str
    sentence: str
    since_wall_s: float = 0  # since when; 0: not known
    steps: list[TimelineEntry] = Field(default=[])
    state: str = ""  # the answer without its reason; "" = there is no account
    because: str = ""  # what began it; "" = nothing that is known
    account: list[Moment] = Field(default=[])  # from there to now, oldest first

    def told(self, clock: Callable[[float], str]) -> str:
        """The answer in one sentence, with the times of everything that is known."""
        if not self.state:
            return self.sentence
        because = f", because {self.because}" if self.because else ""
        moments = "; ".join(
            f"{m.words} at {clock(m.wall_s)}" if m.wall_s else m.words for m in self.account
        )
        return f"{self.state} since {clock(self.since_wall_s)}{because}: {moments}"
