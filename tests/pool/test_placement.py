"""What the master makes of its facts when it places VMs: the picture, the order, the waiting."""

from __future__ import annotations

from dataclasses import replace

import pytest
from build import NOW, SETTINGS, record, story, term

from outlast.model import BlockState, GroupWish, Lease, SlotRecord
from outlast.placement.picture import GroupKind, HostState, Picture, Priority
from outlast.pool.facts import Facts, Held
from outlast.pool.landscape import groups, landscape
from outlast.pool.sequence import PATIENCE_S, Sequence
from outlast.pool.stage import ANEW, Stage, evidence
from outlast.settings import S


def pool(**vms: str) -> Facts:
    """Three hosts, all well; each VM on the host of this name, "" = nowhere."""
    told = story()
    for vm, host in vms.items():
        told = told.wants(record(vm))
        if host:
            told = told.leased(vm, "abc".index(host) + 1)
    return told.facts


def seen(facts: Facts, **how: object) -> Picture:
    return landscape(facts, SETTINGS, **how)  # type: ignore[arg-type]


def test_what_a_host_has_is_what_is_free_and_what_its_vms_have() -> None:
    picture = seen(pool(web="b", db="b", new=""))
    assert [h.name for h in picture.hosts] == ["a", "b", "c"]
    assert picture.host("b").memory_mib == 4096 + 2 * 512
    assert picture.host("c").memory_mib == 4096
    assert [(v.name, v.host) for v in picture.vms] == [("db", "b"), ("new", ""), ("web", "b")]


def test_what_was_given_and_what_is_on_its_way_is_kept_free() -> None:
    facts = pool(web="b", new="")
    picture = seen(facts, placed={"new": 3, "web": 2}, arriving={"web": 3})
    assert picture.host("b").memory_mib == 4096, "its block does not show web yet"
    assert picture.vm("new").host == "c"
    assert picture.host("c").reserved_mib == 512
    stage = Stage(picture)
    assert stage.why("web").rejected == ()


@pytest.mark.parametrize(
    ("change", "state", "why"),
    [
        (lambda s: s.shows(2, state=BlockState.JOINING), HostState.CLOSED, "it is joining"),
        (lambda s: s.shows(2, term=term(2, 9)), HostState.CLOSED, "it shows no valid block"),
        (lambda s: s.unreadable(2), HostState.CLOSED, "it shows no valid block"),
        (lambda s: s.shows(2, agent_away_ms=500), HostState.CLOSED, "its agent is away"),
        (lambda s: s.still(2, 7 * S), HostState.CLOSED, "it is silent"),
        (lambda s: s.shows(2, free_mib=0), HostState.CLOSED, "it has no memory left"),
        (lambda s: s, HostState.OPEN, ""),
    ],
)
def test_a_host_that_is_not_well_takes_nothing(change, state: HostState, why: str) -> None:
    host = seen(change(story()).facts).host("b")
    assert host.state is state
    assert host.why.startswith(why)


def test_a_dead_host_is_down_and_its_vms_are_nowhere() -> None:
    picture = seen(pool(web="b"), dead={2})
    assert (picture.host("b").state, picture.vm("web").host) == (HostState.DOWN, "")


def test_maintenance_and_dedicated_masters_are_told_first() -> None:
    facts = pool()
    slots = {
        1: SlotRecord(1, "a", "u", 1, True, no_vms=True),
        2: SlotRecord(2, "b", "u", 1, True, maintenance="new disks", cores=6),
        3: SlotRecord(3, "c", "u", 1, True),
        4: SlotRecord(4, "d", "u", 1, True),
    }
    picture = seen(replace(facts, slots=slots), all_hosts=True)
    assert [h.why for h in picture.hosts] == [
        "it is a dedicated master", "it is in maintenance: new disks", "",
        "it is no member of the pool now",
    ]  # fmt: skip
    assert picture.host("b").cores == 6


def test_wishes_come_along() -> None:
    wish = record(
        "web", priority="high", start_order=2, likes=("b",), groups=(GroupWish("g", "together"),)
    )
    told = story().wants(wish).wants(record("db", groups=(GroupWish("g", "together", False),)))
    picture = seen(told.facts)
    web = picture.vm("web")
    assert (web.priority, web.start_order, web.likes) == (Priority.HIGH, 2, ("b",))
    assert [(g.name, g.kind, g.vms, g.hard) for g in picture.groups] == [
        ("g", GroupKind.TOGETHER, ("db", "web"), True)
    ]
    both = seen(story().wants(record("web", preferred=("a", "c"), likes=("c",))).facts)
    assert Stage(both).place(["web"], {})[0].host == "c"


def test_groups_of_one_name_and_two_kinds_are_two() -> None:
    both = record("web", groups=(GroupWish("g", "apart"), GroupWish("g", "together")))
    assert [g.name for g in groups({"web": both})] == ["g (apart)", "g (together)"]


def test_ha_that_is_off_is_promised_nothing() -> None:
    assert not seen(story().wants(record("web", ha=False)).facts).vm("web").ha


def test_those_placed_in_one_round_count_at_once() -> None:
    facts = pool(one="", two="", three="")
    answers = Stage(seen(facts)).place(["one", "two", "three"], {})
    assert sorted(a.host for a in answers) == ["a", "b", "c"]


def test_what_failed_somewhere_goes_elsewhere_first() -> None:
    facts = pool(web="")
    first = Stage(seen(facts)).place(["web"], {})[0].host
    said = Stage(seen(facts)).place(["web"], {"web": {first}})[0]
    assert said.host not in {"", first}
    assert (first, f"{first} {ANEW}") in said.rejected
    everywhere = Stage(seen(facts)).place(["web"], {"web": {"a", "b", "c"}})[0]
    assert everywhere.host == first, "somewhere it must be tried again"


def test_a_target_is_another_host_or_the_one_that_was_named() -> None:
    facts = pool(web="a")
    stage = Stage(seen(facts))
    assert stage.target("web").host in {"b", "c"}
    assert stage.target("web", "c").host == "c"
    assert stage.target("web", "d").why == "d is no member of the pool"
    full = Stage(seen(story().wants(record("web")).leased("web", 1).shows(3, free_mib=100).facts))
    assert full.target("web", "c").why == "c has 100 MiB free of the 512 MiB needed"
    for _ in range(8):
        stage.reserve("web", "b")
    assert stage.target("web", "b").host == "", "its room is promised"


def test_every_candidate_is_in_the_evidence() -> None:
    facts = story().wants(record("web")).shows(2, free_mib=10).facts
    said = evidence(Stage(seen(facts)).why("web"))
    assert [c["host"] for c in said["candidates"]] == ["a", "c"]  # type: ignore[index,union-attr]
    assert said["rejected"] == {"b": "b has 10 MiB free of the 512 MiB needed"}


# ---- the order of starts


def waiting(sequence: Sequence, facts: Facts, at_s: float, *needy: str) -> set[str]:
    reasons = dict.fromkeys(needy, "it runs nowhere")
    return set(sequence.waiting(NOW + int(at_s * S), facts, reasons, (), []))


def ordered(**vms: tuple[int, int]) -> Facts:
    told = story()
    for vm, (order, delay_s) in vms.items():
        told = told.wants(record(vm, start_order=order, start_delay_s=delay_s))
    return told.facts


def up(facts: Facts, vm: str) -> Facts:
    held = Held(1, Lease(vm, 1, term(1)), NOW)
    return replace(facts, leases={**facts.leases, vm: held})


def test_each_waits_for_what_comes_before_it_and_its_delay() -> None:
    facts, sequence = ordered(db=(0, 0), app=(1, 0), web=(2, 5)), Sequence()
    assert waiting(sequence, facts, 0, "db", "app", "web") == {"app", "web"}
    facts = up(facts, "db")
    assert waiting(sequence, facts, 1, "app", "web") == {"web"}
    facts = up(facts, "app")
    assert waiting(sequence, facts, 2, "web") == {"web"}
    assert waiting(sequence, facts, 6.9, "web") == {"web"}
    assert waiting(sequence, facts, 7.1, "web") == set()


def test_nobody_waits_for_ever_nor_for_what_has_no_room() -> None:
    facts, sequence = ordered(db=(0, 0), web=(1, 0)), Sequence()
    assert waiting(sequence, facts, 0, "db", "web") == {"web"}
    assert waiting(sequence, facts, PATIENCE_S + 1, "db", "web") == set()
    reasons = {"db": "", "web": ""}
    assert not Sequence().waiting(NOW, facts, reasons, {"db"}, [])


def test_what_has_no_order_waits_for_nobody() -> None:
    assert waiting(Sequence(), ordered(db=(0, 0), web=(0, 0)), 0, "db", "web") == set()
