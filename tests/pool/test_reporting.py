"""What hosts report of themselves: when they do, and what placement makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from build import NOW, SETTINGS, Story, record, story, term

from outlast.model import Disk, HostResources, SlotRecord, VmRecord
from outlast.placement.choose import answer
from outlast.placement.layout import Layout
from outlast.placement.picture import Picture
from outlast.pool.core import PoolCore
from outlast.pool.facts import Facts, Held
from outlast.pool.landscape import landscape
from outlast.pool.measured import measured
from outlast.pool.reporting import LOADS_EVERY_S, Found, Reporting, report_of
from outlast.pool.sequence import is_ready
from outlast.report import Lack, Report, VmReport
from outlast.settings import S


def reported(facts: Facts, *reports: Report) -> Facts:
    return replace(facts, reports={r.slot: Held(1, r, NOW) for r in reports})


def of(slot: int, life: int = 1, **fields: object) -> Report:
    return Report(slot, term(slot, life), **fields)  # type: ignore[arg-type]


def seen(facts: Facts) -> Picture:
    return landscape(facts, SETTINGS)


# ---- when


def written(reporting: Reporting, facts: Facts, found: Found, at_s: float) -> Report | None:
    facts = replace(
        facts, report=report_of(facts, found), resources=HostResources(10_000, 80, 0, 0, cores=10)
    )
    swaps = reporting.step(NOW + round(at_s * S), facts, member=True)
    return swaps[0].value if swaps else None  # type: ignore[return-value]


def test_what_others_wait_for_is_written_at_once_and_loads_rarely() -> None:
    told = story().wants(record("web", ready="agent")).leased("web", 1).runs("web").facts
    reporting = Reporting()
    first = written(reporting, told, Found(2000, 5000), 0)
    assert first == of(1, busy_mcores=2000, used_mib=5000, vms=(VmReport("web", 1),))
    told = reported(told, first)
    assert written(reporting, told, Found(9000, 5000), 1) is None, "a load can wait"
    loads = {"web": 100}
    assert written(reporting, told, Found(2000, 5000, loads), 1), "it was not known"
    ready = written(reporting, told, Found(9000, 5000, answered={"web": 0}), 2)
    assert ready is not None and ready.vms[0].ready
    told = reported(told, ready)
    lacks = (Lack("network", "br0", "it is down"),)
    found = Found(9000, 5000, answered={"web": 0}, lacks=lacks)
    assert written(reporting, told, found, 3) is not None
    told = reported(told, written(Reporting(), told, found, 3) or ready)
    calm = replace(found, busy_mcores=9400, used_mib=5400)
    assert written(reporting, told, calm, 3 + LOADS_EVERY_S) is None, "too little to tell"
    for change in ({"busy_mcores": 9600}, {"used_mib": 5600}):
        assert written(Reporting(), told, replace(found, **change), 9), change


def test_only_who_is_in_reports_and_nobody_without_a_measurement() -> None:
    facts = story().facts
    assert Reporting().step(NOW, facts, member=True) == []
    facts = replace(facts, report=of(1))
    assert Reporting().step(NOW, facts, member=False) == []
    assert Reporting().step(NOW, replace(facts, registers_ready=False), member=True) == []
    core = PoolCore(SETTINGS)
    swaps = {s.name for s in core.step(NOW, facts).swaps}
    assert "report/1" in swaps


def test_a_vm_is_ready_in_the_life_that_answered_only() -> None:
    told = story().wants(record("web", ready="agent")).leased("web", 1).runs("web").facts
    assert not report_of(told, Found(answered={"web": 5})).vms[0].ready, "another process"
    assert report_of(told, Found(answered={"web": 0})).vms[0].ready
    free = story().wants(record("web")).leased("web", 2).runs("web").facts
    assert report_of(free, Found()).vms == (), "it is not ours"
    facts = reported(told, of(1, vms=(VmReport("web", 1, ready=True),)))
    assert is_ready(facts, "web", "agent")
    for wrong in (
        of(1, 2, vms=(VmReport("web", 1, ready=True),)), of(1, vms=(VmReport("web", 9, 0, True),)),
        of(2, vms=(VmReport("web", 1, ready=True),)), of(1, vms=(VmReport("web", 1),)), of(1),
    ):  # fmt: skip
        assert not is_ready(reported(told, wrong), "web", "agent"), wrong


# ---- what is made of it


def two_vms() -> Story:
    return story().wants(record("web")).leased("web", 2).wants(record("db")).leased("db", 2)


def test_loads_are_of_vms_and_of_the_rest() -> None:
    vms = (VmReport("db", 1, 500), VmReport("web", 1, 2000))
    facts = reported(two_vms().facts, of(2, busy_mcores=4000, used_mib=900, vms=vms))
    picture = seen(facts)
    b = picture.host("b")
    assert (b.other_cores, b.over_mib) == (1.5, 900 - 2 * 512)
    assert (picture.vm("web").busy_cores, picture.vm("db").busy_cores) == (2.0, 0.5)
    assert picture.host("c").other_cores is None, "it reported nothing"
    former = reported(two_vms().facts, of(2, 9, busy_mcores=4000, vms=vms))
    assert seen(former).host("b").other_cores is None, "of another life"
    assert seen(former).vm("web").busy_cores == 2.0, "better than a guess"
    newer = replace(vms[1], epoch=2, busy_mcores=100)
    facts = reported(two_vms().facts, of(2, vms=vms), of(3, vms=(newer,)))
    assert measured(facts).loads == {"web": 0.1, "db": 0.5}


def test_the_load_decides_among_equals_and_is_told_where_it_is_not_known() -> None:
    new = story().wants(record("new")).facts
    idle, busy = of(1, busy_mcores=1, used_mib=1), of(2, busy_mcores=900, used_mib=4000)
    facts = replace(new, resources=HostResources(4096, 8, 4096, 8))
    said = answer(Layout(seen(reported(facts, idle, busy))), 0)
    assert said.scores[-1].host == "b"
    assert {s.host: s.measured for s in said.scores} == {"a": True, "b": True, "c": False}
    assert "the load of c is not measured" in said.why
    assert "not measured" not in answer(Layout(seen(facts)), 0).why, "no host's is"


def test_a_host_without_the_network_or_the_disk_is_no_place() -> None:
    web = record("web")
    spec = replace(web.spec, networks=("br0", "br1"), disks=(Disk("/fast/web.raw"),))
    told = story().wants(replace(web, spec=spec)).wants(record("db")).facts
    facts = reported(
        told, of(2, lacks=(Lack("network", "br1", "it is down"),)),
        of(3, lacks=(Lack("storage", "/fast/web.raw", "gone"), Lack("network", "br7", "-"))),
    )  # fmt: skip
    layout = Layout(seen(facts))
    assert dict(answer(layout, layout.vm_at["web"]).rejected) == {
        "b": "b does not reach network br1", "c": "c does not reach storage /fast/web.raw",
    }  # fmt: skip
    assert not answer(layout, layout.vm_at["db"]).rejected


def cpu(model: str, *on: str, off: tuple[str, ...] = ()) -> str:
    features = "".join(f'<feature policy="require" name="{name}"/>' for name in on)
    features += "".join(f'<feature policy="disable" name="{name}"/>' for name in off)
    return f"<cpu><model>{model}</model>{features}</cpu>"


@pytest.mark.parametrize(
    ("there", "accelerator", "fits"),
    [
        (cpu("EPYC", "avx"), "kvm", True),
        (cpu("EPYC", "avx", "sev"), "kvm", True),
        (cpu("EPYC"), "kvm", False),
        (cpu("EPYC", "avx", off=("rtm",)), "kvm", False),
        (cpu("Skylake"), "kvm", True),  # the hypervisor is asked
        ("nonsense <", "kvm", True),
        ("", "kvm", True),
        (cpu("EPYC", "avx"), "tcg", False),
    ],
)
def test_what_runs_needs_the_processor_it_saw(there: str, accelerator: str, fits: bool) -> None:
    mine = SlotRecord(1, "a", "u", 1, True, accelerator="kvm", cpu=cpu("EPYC", "avx"))
    other = SlotRecord(2, "b", "u", 1, True, accelerator=accelerator, cpu=there)
    facts = story(2).wants(record("web")).leased("web", 1).wants(record("new")).facts
    picture = seen(replace(facts, slots={1: mine, 2: other}))
    layout = Layout(picture)
    rejected = dict(answer(layout, layout.vm_at["web"]).rejected)
    assert rejected == ({} if fits else {"b": "b cannot offer CPU model EPYC of a"})
    assert not answer(layout, layout.vm_at["new"]).rejected, "it may start on any of them"


@pytest.mark.parametrize(
    ("there", "accelerator", "fits"),
    [
        (cpu("EPYC", "avx"), "kvm", True),
        (cpu("EPYC", "avx", "sev"), "kvm", False),
        ("", "kvm", False),  # not known: what is passed through nobody checks later
        (cpu("EPYC", "avx"), "tcg", False),
    ],
)
def test_a_processor_that_is_passed_through_wants_its_like(
    there: str, accelerator: str, fits: bool
) -> None:
    mine = SlotRecord(1, "a", "u", 1, True, accelerator="kvm", cpu=cpu("EPYC", "avx"))
    other = SlotRecord(2, "b", "u", 1, True, accelerator=accelerator, cpu=there)
    through, free = (passed_through(record(vm)) for vm in ("web", "new"))
    facts = story(2).wants(through).leased("web", 1).wants(free).facts
    layout = Layout(seen(replace(facts, slots={1: mine, 2: other})))
    rejected = dict(answer(layout, layout.vm_at["web"]).rejected)
    assert rejected == ({} if fits else {"b": "b cannot offer CPU model EPYC as a's is"})
    assert not answer(layout, layout.vm_at["new"]).rejected, "it may start on any of them"


def passed_through(held: VmRecord) -> VmRecord:
    return replace(held, spec=replace(held.spec, cpu="passthrough"))


@pytest.mark.parametrize("has", [{"devices": ("usb:046d:c52b",)}, {"tpm_state": "/pool/web.tpm"}])
def test_a_vm_with_something_of_its_host_does_not_move(has: dict[str, Any]) -> None:
    held = record("web")
    pinned = replace(held, spec=replace(held.spec, **has))
    picture = seen(story().wants(pinned).wants(record("db")).facts)
    assert not picture.vm("web").movable and picture.vm("db").movable
