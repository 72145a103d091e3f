"""What a host promises of itself, and how its timing changes while its VMs run (pure).

A block says: so long after my last beat nothing runs here (`ms`). Others wait that, and X more.
Rules:
1. The guard's F + K never exceeds what the block on the disk promises. So a longer timing is
   promised first, and the guard is told when a confirmed beat has shown that promise on the disk.
2. A shorter one is the guard's first, and promised when the guard has taken it.
3. A new term begins with the newest timing at once.
4. A pulse that is restarted goes on with the larger of what its block says and what it would say,
   and does not know what the guard counts with until it has told it.
"""

from __future__ import annotations

from outlast.settings import Timing


class Promise:
    """`timing`: what the guard counts with; `ms`: what the next block says."""

    def __init__(self, timing: Timing) -> None:
        self.timing = self._wanted = timing
        self._sure = True  # rule 4
        self.ms = timing.dead_after_ms

    def want(self, timing: Timing) -> None:
        """The pool's timing is this now."""
        self._wanted = timing

    def begin(self) -> Timing:
        """Rule 3."""
        self.timing, self.ms, self._sure = self._wanted, self._wanted.dead_after_ms, True
        return self.timing

    def keep(self, ms: int) -> None:
        """Rule 4."""
        self.ms, self._sure = max(self.ms, ms), ms == self.timing.dead_after_ms

    def confirmed(self, written_ms: int) -> Timing | None:
        """A beat was confirmed whose block promised so much; what the guard is to be told."""
        wanted = self._wanted
        if wanted == self.timing and self._sure:
            self.ms = wanted.dead_after_ms  # rule 2: the guard has taken it
            return None
        self.ms = max(self.ms, wanted.dead_after_ms)
        return wanted if wanted.dead_after_ms <= written_ms else None

    def taken(self, timing: Timing) -> None:
        """The guard counts with it from now on."""
        self.timing, self._sure = timing, True
