"""The conformance kit of the port outlast.hypervisor.guests.Guests.

Subclass GuestsKit and give it a fixture `ground` (driver_kit.Ground) whose driver has `guests` and
whose VMs say hello on their serial console, then tick, and have neither agent nor network card.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from driver_kit import Ground, read_until, until

from outlast.hypervisor.guests import CONSOLE


def begun(ground: Ground) -> dict[str, int]:
    """What `signs` wants to know of the VMs that run."""
    return {vm.name: vm.started_ns for vm in ground.driver.list()}


class GuestsKit:
    @pytest.fixture
    def guests(self, ground: Ground) -> Iterator[Any]:
        yield ground.driver.guests  # type: ignore[attr-defined]
        for vm in ground.driver.list():
            ground.driver.kill(vm.name)
        ground.driver.close()

    def test_a_byte_on_the_console_is_a_sign(self, ground: Ground, guests: Any) -> None:
        assert guests.signs({}) == {}
        for name in ("web", "db"):
            ground.driver.start(ground.spec(name))
        both = {"web": CONSOLE, "db": CONSOLE}
        until(lambda: guests.signs(begun(ground)) == both, "signs of both")
        assert guests.signs(begun(ground)) == both, "it stays known while it is asked for"
        assert guests.signs({}) == {}

    def test_each_start_has_its_own(self, ground: Ground, guests: Any) -> None:
        spec = ground.spec("web")
        for _ in range(2):
            ground.driver.start(spec)
            until(lambda: guests.signs(begun(ground)) == {"web": CONSOLE}, "its sign")
            ground.driver.kill("web")
            until(lambda: guests.signs({"web": 1}) == {}, "silence after its end")

    def test_who_is_not_there_gives_none(self, ground: Ground, guests: Any) -> None:
        assert guests.signs({"nobody": 1}) == {}
        assert not guests.answers("nobody")
        assert guests.addresses("nobody") == ()
        ground.driver.start(ground.spec("web"))
        assert not guests.answers("web"), "it has no agent"

    def test_whoever_has_the_console_keeps_it(self, ground: Ground, guests: Any) -> None:
        ground.driver.start(ground.spec("web"))
        console = ground.driver.open_console("web")
        read_until(console, b"\n")
        for _ in range(3):
            guests.signs(begun(ground))
            read_until(console, b"\n")
        console.close()

    def test_whoever_opens_the_console_gets_it(self, ground: Ground, guests: Any) -> None:
        ground.driver.start(ground.spec("web"))
        guests.signs(begun(ground))
        console = ground.driver.open_console("web")
        console.send(b"one two three")
        read_until(console, b"one two three")
        guests.signs(begun(ground))
        read_until(console, b"\n")
        console.close()
