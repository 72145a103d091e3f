"""A host says in its slot record which version runs there; what people wrote there stays."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import MemoryService
from test_processors import Chips

from outlast.agent.introduction import Introduction, Mine
from outlast.agent.macs import bare, macs_of
from outlast.agent.wake import magic_packet, wake
from outlast.errors import InvalidInput
from outlast.model import SlotRecord

CPU = "<cpu/>"
MAC = "52:54:00:12:34:56"


def introduction(service: MemoryService, version: str = "0.2.0") -> Introduction:
    mine = Mine(version, 2, lambda addresses: (MAC,) if addresses else (), Chips(CPU))
    return Introduction(mine, lambda: service.read_slot(1), service.write_slot)


def until_said(made: Introduction, service: MemoryService, guard: str) -> SlotRecord:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        made.step(service.facts(0), guard)
        held = service.read_slot(1)
        assert held is not None
        if held.value.version:
            return held.value
        time.sleep(0.01)
    raise AssertionError("nothing was written")


def test_it_says_what_runs_here_and_keeps_what_people_wrote(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    service.slots[1] = replace(
        service.slots[1], maintenance="more memory", addresses=("10.0.0.1:7790",)
    )
    record = until_said(introduction(service), service, "0.1.0")
    assert (record.version, record.guard_version, record.protocol) == ("0.2.0", "0.1.0", 2)
    assert (record.macs, record.maintenance) == ((MAC,), "more memory")
    assert (record.cpu, record.accelerator) == (CPU, "kvm")


def test_what_is_said_already_is_not_written_again(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    made = introduction(service)
    until_said(made, service, "0.1.0")
    before = service.read_slot(1)
    for _ in range(5):
        made.step(service.facts(0), "0.1.0")
        made.step(service.facts(0), "")  # a guard that is away for a moment has no other version
    time.sleep(0.05)
    assert service.read_slot(1) == before


def test_cards_are_found_by_their_addresses() -> None:
    assert macs_of(["127.0.0.1", "::1", "nonsense", "203.0.113.9:7790"]) == ()
    assert bare("[fe80::0:1]:7790") == "fe80::1"
    assert bare("10.0.0.5:7790") == "10.0.0.5"
    assert bare("host:7790") == ""


def test_the_magic_packet() -> None:
    packet = magic_packet(MAC)
    assert packet == b"\xff" * 6 + bytes.fromhex("525400123456") * 16
    assert magic_packet("52-54-00-12-34-56") == packet
    for bad in ("", "52:54:00", "zz:54:00:12:34:56", "52:54:00:12:34:56:78"):
        with pytest.raises(InvalidInput, match="no hardware address"):
            magic_packet(bad)
    assert wake([MAC], ["203.0.113.9", "fe80::1"]) == 0, "from an address that is not ours"
