"""The systems inside fake VMs: they have a console, but neither an agent nor a network card."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from outlast.hypervisor.guests import CONSOLE


class FakeGuests:
    """See guests.Guests. spoke: whether a VM's console had a first byte."""

    def __init__(self, spoke: Callable[[str], bool]) -> None:
        self._spoke = spoke

    def answers(self, name: str) -> bool:
        return False

    def addresses(self, name: str) -> tuple[str, ...]:
        return ()

    def signs(self, vms: Mapping[str, int]) -> Mapping[str, str]:
        return {name: CONSOLE for name in vms if self._spoke(name)}
