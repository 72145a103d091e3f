"""A status as what has changed: whatever happened, the caller sees what the agent sees."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outlast.agent.answers import KEPT, Answers
from outlast.wire.difference import PoolNews, difference, same_vm, whole
from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus, parse

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
VMS = st.builds(
    VmStatus, name=NAMES, uuid=st.just("u"), state=st.sampled_from(["running", "stopped"]),
    sentence=st.just(""), desired=st.just("running"), memory_mib=st.integers(1, 3),
    vcpus=st.just(1), ha=st.booleans(), since_wall_s=st.sampled_from([None, 100.0, 100.5, 200.0]),
)  # fmt: skip
HOSTS = st.builds(
    HostStatus, name=NAMES, slot=st.just(0), state=st.sampled_from(["member", "silent"]),
    sentence=st.just(""), beat_age_ms=st.sampled_from([None, 1, 2]),
    hears=st.lists(NAMES, max_size=2),
)  # fmt: skip


@st.composite
def statuses(draw: st.DrawFn) -> PoolNews:
    """As agents make them: VMs by name, hosts by slot, each once."""
    vms = {vm.name: vm for vm in draw(st.lists(VMS, max_size=5))}
    hosts = {host.name: host for host in draw(st.lists(HOSTS, max_size=5))}
    return PoolNews(
        name="lab", uuid="u", preset="standard", answered_by="a", sentence=draw(NAMES),
        view=draw(st.integers(0, 2)), vms=[vms[n] for n in sorted(vms)],
        hosts=[hosts[n].model_copy(update={"slot": ord(n)}) for n in sorted(hosts)],
    )  # fmt: skip


def shown(status: PoolNews) -> PoolNews:
    return status.model_copy(update={"mark": "", "vms": []})


@given(statuses(), statuses())
def test_the_whole_is_what_the_agent_sees(before: PoolNews, after: PoolNews) -> None:
    change = parse(PoolNews, difference(before, after).model_dump_json())
    seen = whole(before, change)
    assert shown(seen) == shown(after)
    assert [vm.name for vm in seen.vms] == [vm.name for vm in after.vms]
    assert all(map(same_vm, seen.vms, after.vms))


@given(st.lists(statuses(), min_size=1, max_size=6), st.data())
def test_callers_that_miss_answers_catch_up(story: list[PoolNews], data: st.DataObject) -> None:
    """Two callers ask when they like; each always sees the present."""
    answers, known = Answers(), [None, None]
    for status in story:
        for n, asks in enumerate(data.draw(st.tuples(st.booleans(), st.booleans()))):
            if not asks:
                continue
            before = known[n]
            told = answers.answer(status, before.mark if before else "")
            told = parse(PoolNews, told.model_dump_json())
            known[n] = now = whole(before, told) if before and told.since else told
            assert shown(now) == shown(status) and all(map(same_vm, now.vms, status.vms))


def test_what_is_not_known_any_more_is_told_whole() -> None:
    vms = [VmStatus(name=f"vm{n}", uuid="u", state="running", sentence="", desired="running",
                    memory_mib=1, vcpus=1, ha=True) for n in range(50)]  # fmt: skip
    status = PoolStatus(name="lab", uuid="u", preset="", answered_by="a", sentence="", vms=vms)
    answers = Answers()
    first = answers.answer(status, "")
    assert not first.since and len(first.vms) == 50
    second = answers.answer(status, first.mark)
    assert second.since == first.mark and second.vms == []
    for _ in range(KEPT):
        answers.answer(status, "")
    assert len(answers.answer(status, first.mark).vms) == 50
    assert len(Answers().answer(status, second.mark).vms) == 50  # another agent, or a new one
