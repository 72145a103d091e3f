"""The port to the systems inside a host's VMs: are they up, and since when do they live?

Promises, checked for all by tests/contract/guests_kit.py:
1. Every method ends within a few seconds, may be called from any thread, and changes nothing.
2. A VM that is not there, or a system that says nothing, is no error: the answer is "no".
3. `signs` takes a console from nobody who has it, and leaves it to whoever opens it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

AGENT, CONSOLE, NETWORK = "agent", "console", "network"


class Guests(Protocol):
    def answers(self, name: str) -> bool:
        """True when the QEMU agent in the system inside answers."""

    def addresses(self, name: str) -> tuple[str, ...]:
        """The IP addresses of the system inside, by its agent or by what this host heard."""

    def signs(self, vms: Mapping[str, int]) -> Mapping[str, str]:
        """The first signs of life that VMs gave since they were first named here.

        vms: name -> when its process began, for VMs that were started a moment ago; ask again and
        again, whoever is no longer named is listened to no more. The answer: name -> AGENT (it
        answers), CONSOLE (a byte came from its serial port) or NETWORK (its card sent a packet).
        Raises HypervisorTrouble when nothing could be asked. One caller at a time.
        """
