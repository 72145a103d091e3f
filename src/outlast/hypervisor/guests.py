"""The port to the systems inside a host's VMs, as far as placement asks them: are they up?

Promises: every method ends within a few seconds, may be called from any thread, and changes
nothing. A VM that is not there, or a system that says nothing, is no error: the answer is "no".
"""

from __future__ import annotations

from typing import Protocol


class Guests(Protocol):
    def answers(self, name: str) -> bool:
        """True when the QEMU agent in the system inside answers."""

    def addresses(self, name: str) -> tuple[str, ...]:
        """The IP addresses of the system inside, by its agent or by what this host heard."""
