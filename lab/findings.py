"""What a run of the lab saw: lines for people, rows for a page, JSON for later.

Rule: what was not as it must be is marked, and makes the run fail at its end, not in between.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    trial: str
    what: str
    answer: str
    good: bool


@dataclass(slots=True)
class Findings:
    trial: str = ""
    found: list[Finding] = field(default_factory=list)

    def add(self, what: str, answer: object, good: bool = True) -> None:
        """An answer of several lines is shown as it is."""
        self.found.append(Finding(self.trial, what, str(answer), good))
        self.say(f"{'' if good else 'WRONG: '}{what}: {answer}")

    def say(self, text: str) -> None:
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {self.trial}: {text}\n")
        sys.stdout.flush()

    @property
    def good(self) -> bool:
        return all(finding.good for finding in self.found)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps([asdict(finding) for finding in self.found], indent=1))
