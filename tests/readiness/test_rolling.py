"""Rolling maintenance step by step: a pool that does what is wished, and what goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.errors import Conflict, InvalidInput, NotFound
from outlast.placement.picture import Admission, Host, HostState, Picture, Policy, Vm
from outlast.readiness.rolling import (
    PATIENCE_S,
    READ_S,
    STUCK_S,
    Round,
    end,
    foreseen,
    go_on,
    order,
    say_done,
    step,
)
from outlast.wire.shapes import HostStatus, MoveStatus, PoolStatus, VmStatus


class World:
    """Three hosts, a is the master; each VM is where it is said to be."""

    def __init__(self, memory: int = 4096, **more: Any) -> None:
        self.hosts = {n: self._host(n, k) for k, n in enumerate("abc", 1)}
        self.vms = {"web": "b", "db": "c"}
        self.away: dict[str, str] = {}
        self.failed, self.memory, self.now_s = "", memory, 1000.0
        self.wishes: list[str] = []
        self.policy = Policy(**more)

    def _host(self, name: str, slot: int) -> HostStatus:
        return HostStatus(name=name, slot=slot, state="member", sentence=f"{name} is a member",
                          master=name == "a")  # fmt: skip

    def set(self, name: str, **values: Any) -> None:
        self.hosts[name] = self.hosts[name].model_copy(update=values)

    def status(self) -> PoolStatus:
        return PoolStatus(
            name="lab", uuid="u", preset="standard", answered_by="a", sentence="",
            hosts=list(self.hosts.values()),
            vms=[VmStatus(
                name=n, uuid=n, state="running", sentence="", desired="running", host=h,
                memory_mib=1024, vcpus=1, ha=True, away_from=self.away.get(n, ""),
                move=MoveStatus(id="m", failed=self.failed) if self.failed else None,
            ) for n, h in self.vms.items()],
        )  # fmt: skip

    def picture(self) -> Picture:
        open_ = {n: h.state == "member" and not h.maintenance for n, h in self.hosts.items()}
        hosts = [Host(n, self.memory, 8, HostState.OPEN if o else HostState.CLOSED)
                 for n, o in open_.items()]  # fmt: skip
        vms = tuple(Vm(n, 1024, 1, h) for n, h in self.vms.items())
        return Picture(tuple(hosts), vms, policy=self.policy)

    def round(self, **more: Any) -> Round:
        return Round(hosts=order(self.status()), who="anna", begun_wall_s=self.now_s,
                     since_wall_s=self.now_s, **more)  # fmt: skip

    def go(self, found: Round, seconds: float = 2) -> Round:
        """One step; what it wishes is so at once."""
        self.now_s += seconds
        made = step(found, self.status(), self.picture(), self.now_s)
        if made.wish:
            self.wishes.append(f"{made.wish} {found.host}")
            self.set(found.host, maintenance="rolling" if made.wish == "maintain" else "")
        return made.round


def test_host_after_host_is_emptied_worked_on_and_taken_back() -> None:
    world = World()
    found = world.round(bring_back=False)
    assert found.hosts == ("b", "c", "a"), "the master last"
    for host, vm in (("b", "web"), ("c", "db"), ("a", "")):
        found = world.go(found)
        assert (found.host, found.phase) == (host, "empties")
        if vm:
            found = world.go(found)
            assert found.sentence == f"1 VM is still on {host}"
            world.vms[vm] = "a"
        if host == "a":
            world.vms |= {"web": "b", "db": "b"}
        found = world.go(found)
        assert (found.phase, found.sentence) == (
            "work", f"{host} runs no VMs: say when the work is done",
        )  # fmt: skip
        assert world.go(found, 9e6) == found, "nobody hurries whoever works"
        with pytest.raises(Conflict):
            say_done(found, "else")
        found = world.go(say_done(found, host))
        found = world.go(found)
    assert (found.phase, found.open, found.sentence) == ("done", False, "all 3 hosts are done")
    assert world.wishes == [f"{w} {h}" for h in "bca" for w in ("maintain", "resume")]


def work(world: World, **more: Any) -> Round:
    """A round whose first host, b, is empty."""
    found = world.go(world.round(**more))
    world.vms["web"], world.away["web"] = "a", "b"
    return world.go(found)


def test_a_reboot_is_seen_and_vms_come_back_before_the_next() -> None:
    world = World()
    found = work(world, until="reboot")
    assert found.sentence == "b runs no VMs: reboot it"
    assert world.go(found).phase == "work", "it has not been away yet"
    world.set("b", state="silent", sentence="b is silent for 20 s")
    found = world.go(found)
    assert (found.away, found.sentence) == (True, "b is away: b is silent for 20 s")
    world.set("b", state="joining")
    found = world.go(found)
    world.set("b", state="member")
    found = world.go(found)
    assert (found.phase, world.wishes[-1]) == ("returns", "resume b")
    found = world.go(found)
    assert found.sentence == "waits: 1 VM is still to come back to b"
    world.vms["web"], world.away = "b", {}
    found = world.go(found)
    assert (found.host, found.phase, found.away) == ("c", "begins", False)


def test_a_step_that_was_made_and_not_written_down_is_seen() -> None:
    world = World()
    found = world.round()
    world.go(found)  # and whoever did it died
    again = world.go(found)
    assert (again.phase, world.wishes) == ("empties", ["maintain b"])


def stopped(found: Round, *words: str) -> None:
    assert found.stopped
    for word in words:
        assert word in found.sentence


def test_a_vm_that_can_go_nowhere_stops_it_before_anything_moves() -> None:
    world = World(memory=1500)
    world.vms["mail"] = "a"
    found = world.go(world.round(at_risk=True))
    stopped(found, "web cannot leave b")
    assert world.wishes == []
    world.vms.pop("db")
    found = world.go(go_on(found, world.now_s))
    assert found.phase == "empties"


def test_a_pool_that_would_not_survive_stops_it_unless_the_risk_is_taken() -> None:
    world = World(memory=2500, admission=Admission.WARN)
    world.vms |= {"mail": "a", "crm": "a"}
    found = world.go(world.round())
    stopped(found, "b cannot be away now")
    assert world.wishes == []
    assert [f.host for f in foreseen(world.picture(), ("b", "c")) if f.warning] == ["b", "c"]
    assert world.go(world.round(at_risk=True)).phase == "empties"
    refuses = World(memory=2500, admission=Admission.REFUSE)
    refuses.vms |= {"mail": "a", "crm": "a"}
    stopped(refuses.go(refuses.round(at_risk=True)), "b cannot be away now")


def test_moves_that_fail_stop_it_after_a_while() -> None:
    world = World()
    found = world.go(world.round())
    world.failed = "no network to a"
    found = world.go(found)
    assert not found.stopped
    found = world.go(found, STUCK_S / 2)
    world.failed = ""
    found = world.go(found)
    assert found.stuck_wall_s == 0, "it is tried again"
    world.failed = "no network to a"
    found = world.go(world.go(found), STUCK_S + 1)
    stopped(found, "web stays on b: no network to a")
    assert world.hosts["b"].maintenance, "nothing is taken back by itself"


def test_others_that_are_out_are_waited_for_then_it_stops() -> None:
    world = World()
    found = world.round()
    world.set("c", state="silent", sentence="c is silent for 5 s")
    found = world.go(found)
    assert found.sentence == "waits: c is no member: c is silent for 5 s"
    stopped(world.go(found, PATIENCE_S), "c is silent")
    world.set("c", state="member", maintenance="new disks")
    assert "c is in maintenance" in world.go(found).sentence


def test_what_people_do_meanwhile_is_seen() -> None:
    world = World()
    found = world.go(world.round())
    world.set("b", maintenance="")
    assert not world.go(found).stopped, "an agent may not have read it yet"
    stopped(world.go(found, READ_S + 1), "somebody ended the maintenance of b")
    world = World()
    found = work(world)
    world.set("b", maintenance="")
    found = world.go(found, READ_S + 1)
    assert (found.phase, found.sentence) == ("returns", "somebody took b back into service")
    world = World()
    found = work(world)
    del world.hosts["b"]
    stopped(world.go(found), "b is no host of the pool any more")


def test_a_host_that_does_not_come_back_stops_it() -> None:
    world = World()
    found = world.go(say_done(work(world), "b"))
    world.set("b", state="joining", sentence="b joins")
    found = world.go(found)
    assert found.sentence == "waits: b is not back in service: b joins"
    stopped(world.go(found, PATIENCE_S), "b is not back in service")


def test_it_is_ended_where_it_is() -> None:
    world = World()
    ended = end(world.go(world.round()), "otto")
    assert (ended.open, ended.host) == (False, "")
    assert (ended.sentence, ended.hint) == (
        "it was ended by otto; b stays as it is", "outlast host resume b",
    )  # fmt: skip
    for act in (lambda: end(ended, "otto"), lambda: go_on(ended, 1), lambda: say_done(ended, "b")):
        with pytest.raises(Conflict):
            act()


def test_who_can_be_in_a_round() -> None:
    world = World()
    assert order(world.status(), ["c", "a"]) == ("c", "a")
    world.set("c", state="absent")
    assert order(world.status()) == ("b", "a"), "nobody waits for what was switched off long ago"
    for state, kind in (({"maintenance": "disks"}, Conflict), ({"state": "silent"}, Conflict)):
        world = World()
        world.set("b", **state)
        with pytest.raises(kind):
            order(world.status())
    with pytest.raises(NotFound):
        order(world.status(), ["zoe"])
    for name in "abc":
        world.set(name, state="absent")
    with pytest.raises(InvalidInput):
        order(world.status())


def test_a_round_is_kept_as_text() -> None:
    found = work(World(), why="new <kernel>")
    assert Round.model_validate_json(found.model_dump_json()) == found
