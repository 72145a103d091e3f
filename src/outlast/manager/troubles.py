"""The log of what goes wrong again and again: a trouble is told when it begins, when it becomes
another one, and when it is over.

A log warns of what somebody has to do something about; the same line each second hides that.
"""

from __future__ import annotations

import logging


class Troubles:
    """what: the work that does not go, as each line begins."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[str, str] = {}

    def tell(self, what: str, sentence: str) -> None:
        if self._said.get(what) != sentence:
            self._said[what] = sentence
            self._log.warning("%s: %s", what, sentence)

    def over(self, what: str) -> None:
        if self._said.pop(what, None) is not None:
            self._log.warning("%s: it works again", what)
