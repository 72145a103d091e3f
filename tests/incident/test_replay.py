"""Recorded by pretend agents, replayed here: the same, or the first note that differs."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_pool import Recorded, lines, record

from outlast import pool
from outlast.errors import InvalidInput, NotFound
from outlast.incident import archive
from outlast.incident.codec import NAMES, decode, encode, text
from outlast.incident.replay import replay
from outlast.incident.steps import Start, Step, read
from outlast.incident.story import story
from outlast.pool.core import PoolCore
from outlast.pool.facts import Answering
from outlast.pool.hosting import OWNER_STOPS
from outlast.settings import PRESETS, S
from outlast.sim.scenario import Player

SCENARIOS = Path(__file__).parent.parent / "scenarios"
CHOSEN = (
    "hosts/one_host_dies", "hosts/frozen_host_returns", "network/two_and_two",
    "storage/one_host_stuck", "vms/crash_loop", "vms/no_room", "masters/master_dies",
)  # fmt: skip

# of the pool room, and in no core: about written notes, and the whole pool seen from outside
NOT_HELD = {"causes", "evidence", "invariants", "landscape", "measured", "stage", "traces"}


@pytest.fixture(scope="module")
def death() -> Recorded:
    return record(SCENARIOS / "hosts/one_host_dies.txt")


@pytest.mark.parametrize("name", CHOSEN)
def test_every_agents_life_is_decided_the_same_again(name: str) -> None:
    made = record(SCENARIOS / f"{name}.txt")
    assert made.lives
    for life in made.lives:
        outcome = replay(read(life))
        assert outcome.same, outcome.difference
        assert outcome.steps > 0


def test_a_recording_may_begin_in_the_middle(death: Recorded) -> None:
    whole = list(read(death.lives[0]))
    starts = [n for n, one in enumerate(whole) if isinstance(one, Start)]
    assert len(starts) > 1
    assert replay(whole[starts[1] :]).same


def test_read_is_the_inverse_of_write(death: Recorded) -> None:
    recorded = list(read(death.lives[0]))
    assert list(read(lines(recorded))) == recorded
    assert lines(recorded) == death.lives[0]


def changed(recorded: list[Start | Step]) -> Iterator[Start | Step]:
    """The same facts under another T_dead."""
    for one in recorded:
        if isinstance(one, Start):
            timing = replace(PRESETS["lab"], dead_ns=4 * S)
            settings = replace(one.settings, timing=timing)
            yield replace(one, core=encode(PoolCore(settings)))
        else:
            yield one


def test_another_timing_differs_at_the_note_of_the_death(death: Recorded) -> None:
    life = next(life for life in death.lives if any("host-silent" in line for line in life))
    recorded = list(read(life))
    first = [o for n, o in enumerate(recorded) if n == 0 or isinstance(o, Step)]
    outcome = replay(changed(first))
    assert not outcome.same
    assert "is silent" in outcome.difference


@pytest.mark.parametrize(
    ("what", "said"),
    [("sentence", "other sentence"), ("free_mib", "other numbers"), ("notes", "said then")],
)
def test_any_byte_of_a_decision_counts(death: Recorded, what: str, said: str) -> None:
    recorded = list(read(death.lives[0]))
    number = next(
        n for n, o in enumerate(recorded)
        if isinstance(o, Step) and (what != "notes" or "view-changed" in text(o.decision))
    )  # fmt: skip
    step = recorded[number]
    assert isinstance(step, Step)
    decision = json.loads(text(step.decision))
    parts = decision[2]
    parts[what] = {"sentence": "x", "free_mib": 7}.get(what)
    if what == "notes":
        was = json.loads(text(step.decision))[2]["notes"]
        parts["notes"] = [*was, was[-1]]
    recorded[number] = replace(step, decision=decision)
    outcome = replay(recorded)
    assert said in outcome.difference
    assert outcome.wall_s == step.wall_s


def test_a_torn_end_is_left_out_and_nonsense_is_refused(death: Recorded) -> None:
    life = death.lives[0]
    assert replay(read([*life[:20], life[20][:50]])).steps == 19
    start = json.loads(life[0])
    for wrong in (
        ["{}", life[1]], ["[]"], [json.dumps(start | {"format": 9})],
        [json.dumps(start | {"core": ["o", "OutlastError", {}]})],
        [json.dumps(start | {"core": encode(1)})],
        [life[0], json.dumps({"kind": "step", "facts": {"nobody": 1}})],
    ):  # fmt: skip
        with pytest.raises(InvalidInput):
            replay(read(wrong))


@pytest.mark.parametrize(
    "wrong",
    [["o", "Proof", {}], ["o", "nothing", {}], ["e", "GuardState", "x"], ["x"], [], {"a": 1},
     ["m", [1]], ["s", ["l"]], ["o", "BrokenInvariant", {}]],
)  # fmt: skip
def test_what_no_encode_made_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidInput):
        decode(wrong)


def test_every_class_that_a_core_may_remember_is_known() -> None:
    """A new file of the pool room must be on the codec's list, or recordings would stop unseen."""
    for found in pkgutil.iter_modules(pool.__path__):
        if found.name in NOT_HELD:
            continue
        module = importlib.import_module(f"outlast.pool.{found.name}")
        mine = [
            value for value in vars(module).values()
            if isinstance(value, type) and value.__module__ == module.__name__
        ]  # fmt: skip
        assert not [kind for kind in mine if kind not in NAMES], found.name


def test_nesting_is_bounded_and_strangers_are_not_encoded() -> None:
    deep: object = 1
    for _ in range(100):
        deep = ["t", deep]
    with pytest.raises(InvalidInput):
        decode(deep)
    with pytest.raises(TypeError):
        encode(Path("/"))


def test_an_incident_goes_and_comes_back(death: Recorded, tmp_path: Path) -> None:
    recorded, path = list(read(death.lives[0])), tmp_path / "i.zip"
    assert archive.export(path, recorded, death.notes, masked=False).same
    assert path.stat().st_mode & 0o777 == 0o600
    incident = archive.load(path)
    assert list(incident.recorded) == recorded
    assert [n["sentence"] for n in incident.notes] == [n["sentence"] for n in death.notes]
    assert [p.name for p in tmp_path.iterdir()] == ["i.zip"]


def test_a_masked_incident_replays_and_names_nobody(death: Recorded, tmp_path: Path) -> None:
    recorded, path = list(read(death.lives[0])), tmp_path / "i.zip"
    fields = {"vm": "payroll", "host": "c", "by": "anna"}
    asked = {"id": "9", "wall_s": 1.0, "host": "a", "code": "drill-begins", "fields": fields,
             "sentence": "anna ended payroll on c"}  # fmt: skip
    archive.export(path, recorded, [*death.notes, asked], masked=True)
    incident = archive.load(path)
    assert incident.notes[-1]["sentence"] == "person-01 ended vm-003 on host-03"
    said = {str(n["sentence"]) for n in incident.notes}
    assert "host-01 is a member of view 1, slot 1" in said, "the article is no host"
    outcome = replay(incident.recorded)
    assert outcome.same, outcome.difference
    assert outcome.notes == replay(recorded).notes
    step = incident.recorded[-1]
    assert isinstance(step, Step)
    assert step.facts.me.host == "host-01"
    assert set(step.facts.vms) == {"vm-001", "vm-002", "vm-004"}
    assert {h.value.spec.name for h in step.facts.vms.values()} == set(step.facts.vms)
    whole = "".join(lines(list(incident.recorded))) + json.dumps(incident.notes)
    for name in ("web", "mail", "payroll", "anna", '"uuid":"00000000'):
        assert name not in whole


def test_a_masked_incident_names_no_storage(death: Recorded, tmp_path: Path) -> None:
    away = {"flash": Answering(0, "nothing is mounted at /mnt/customer")}
    recorded = archive.decided([
        replace(one, facts=replace(one.facts, repositories=away)) if isinstance(one, Step) else one
        for one in read(death.lives[0])
    ])  # fmt: skip
    fields = {"host": "a", "repository": "flash", "why": "nothing is mounted at /mnt/customer"}
    lacks = {"id": "9", "wall_s": 1.0, "host": "a", "code": "repository-lacks", "fields": fields,
             "sentence": "a: storage flash: nothing is mounted at /mnt/customer"}  # fmt: skip
    archive.export(tmp_path / "i.zip", recorded, [lacks], masked=True)
    incident = archive.load(tmp_path / "i.zip")
    assert replay(incident.recorded).same
    step = incident.recorded[-1]
    assert isinstance(step, Step) and set(step.facts.repositories) == {"storage-01"}
    whole = "".join(lines(list(incident.recorded))) + json.dumps(incident.notes)
    assert "flash" not in whole and "customer" not in whole


def test_what_could_not_be_read_again_is_not_written(
    death: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MEMBER_MAX", 1 << 10)
    with pytest.raises(InvalidInput, match="were recorded in this time, 0 are the most"):
        archive.export(tmp_path / "i.zip", list(read(death.lives[0])), [], masked=False)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_incident(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        archive.load(tmp_path / "none.zip")
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(InvalidInput):
        archive.load(tmp_path / "x.zip")


def test_its_story_ends_as_the_incident_did(death: Recorded) -> None:
    told = story(list(read(death.lives[0])), death.notes)
    assert told.splitlines()[2].startswith("pool hosts=a,b,c vms=db,mail,web timing=lab")
    assert "power of c off" in told
    played = Player().play(told)
    assert "c is silent" in played
    assert "web runs on a" in played
    assert "BROKEN" not in played


def test_its_vms_are_where_they_were_when_the_fault_began(death: Recorded) -> None:
    told = story(list(read(death.lives[0])), death.notes)
    where = [line for line in told.splitlines() if line.startswith("move ")]
    assert where == ["move db to a", "move mail to b", "move web to c"]
    elsewhere = told.replace("move mail to b", "move mail to c")
    assert "lease of mail taken from its former holder" not in Player().play(told)
    assert "lease of mail taken from its former holder" in Player().play(elsewhere)


def test_patience_would_have_changed_the_outcome(death: Recorded) -> None:
    """c is back after 12 s: with T_dead 30 s nobody would have taken its VM over before."""
    told = story(list(read(death.lives[0])), death.notes)
    assert "power of c on" in told
    assert "web runs on a" in Player().play(told)
    patient = Player().play(told.replace("timing=lab", "timing=lab dead=30s"))
    assert "c is silent" not in patient
    assert "c begins a new term, so its old one is over" in patient


def test_what_owners_wished_and_when_storage_was_lost(death: Recorded) -> None:
    recorded = list(read(death.lives[0]))
    began_s = recorded[0].wall_s + 20
    evidence = {"limits": {"fence_s": 1.2}, "guard": {"remaining_s": 0.2}}
    notes = [
        {"wall_s": began_s + at, "host": "c", "code": code, "fields": fields, "evidence": evidence}
        for at, code, fields in (
            (0.0, "vm-stops", {"vm": "db", "host": "a", "why": OWNER_STOPS}),
            (5.0, "order-given", {"vm": "db", "host": "b", "why": "it is wanted"}),
            (9.0, "storage-sick", {"host": "c", "why": "w"}),
            (15.0, "member", {"host": "c", "view": 5, "slot": 3}),
        )
    ]  # fmt: skip
    told = story(recorded, notes)
    assert [line for line in told.splitlines() if line.startswith(("wish", "storage", "wait"))] == [
        "wait 8s", "wait 8s", "wish db stopped", "wait 5.0s", "wish db running", "wait 3.0s",
        "storage of c stuck", "wait 7.0s", "storage of c ok", "wait 14s",
    ]  # fmt: skip
    assert any(line.startswith("db runs on") for line in Player().play(told).splitlines()[-3:])


def test_one_line_of_it_changed_is_a_what_if(death: Recorded) -> None:
    told = story(list(read(death.lives[0])), death.notes)
    patient = Player().play(told.replace("timing=lab", "timing=lab dead=6s"))
    assert "limit 6 s" in patient
    assert "limit 3 s" not in patient
    assert "web runs on a" in patient
    with pytest.raises(InvalidInput, match="must stay below dead"):
        Player().play(told.replace("timing=lab", "timing=lab dead=2s"))


def test_a_drill_is_told_as_one(death: Recorded) -> None:
    recorded = list(read(death.lives[0]))
    began_s = recorded[0].wall_s + 20
    drill = {"host": "c", "kind": "network", "for_s": 7}
    notes = [
        {"wall_s": began_s + at, "host": "a", "code": code, "fields": fields}
        for at, code, fields in (
            (0.0, "drill-begins", drill), (1.3, "link-down", {"host": "a", "other": "c"}),
            (9.0, "link-up", {"host": "a", "other": "c"}), (12.0, "drill-ended", {"host": "c"}),
            (15.0, "link-down", {"host": "a", "other": "b"}),
        )
    ]  # fmt: skip
    told = story(recorded, notes)
    assert "drill network of c for 7s" in told
    assert [line for line in told.splitlines() if line.startswith("link")] == ["link a-b down"]
    assert "cannot be reached for the whole grace" in Player().play(told)
