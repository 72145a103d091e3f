"""Chains of causes over what whole pools say: from a VM that runs back to what began it."""

from __future__ import annotations

import pytest

from outlast.agent.notebook import linked
from outlast.pool.causes import Causes, Told, chain
from outlast.pool.evidence import DECISIVE
from outlast.pool.journal import SENTENCES, Note
from outlast.sim.pool import SimPool


class Journal:
    """A pretend pool whose notes are written down as the agents would."""

    def __init__(self, hosts: str = "abc", vms: str = "web") -> None:
        self.entries: list[dict[str, object]] = []
        self.pool = SimPool(1, list(hosts), [vms], tell=self._tell)
        self.pool.start()

    def _tell(self, host: str, note: Note) -> None:
        self.entries.append(
            {
                "id": f"{host}-{len(self.entries)}", "wall_s": self.pool.world.now_ns / 1e9,
                "host": host, "code": note.code, "sentence": note.sentence,
                "fields": dict(note.fields),
            }
        )  # fmt: skip

    def codes(self, last: str) -> list[str]:
        """The chain that leads to the newest note of code `last`."""
        entries = linked(self.entries)
        newest = [e for e in entries if e["code"] == last][-1]
        return [str(e["code"]) for e in chain(entries, str(newest["id"]))]


def test_first_start_begins_with_the_order() -> None:
    journal = Journal()
    journal.pool.run(6.0)
    assert journal.codes("vm-runs") == ["order-given", "lease-taken", "vm-starts", "vm-runs"]


def test_take_over_leads_back_to_the_silence() -> None:
    journal = Journal()
    journal.pool.run(6.0)
    where = journal.pool.where("web")
    journal.pool.hosts[where].power_off()
    journal.pool.run(8.0)
    assert journal.pool.where("web") not in {"", where}
    assert journal.codes("vm-runs") == [
        "host-silent", "order-given", "lease-taken", "vm-starts", "vm-runs",
    ]  # fmt: skip
    assert "host-silent" in journal.codes("view-changed")


def test_restart_after_a_crash_leads_back_to_the_crash_and_not_to_the_first_start() -> None:
    journal = Journal()
    told = [
        ("order-given", {"vm": "web", "host": "a", "why": "w"}),
        ("lease-taken", {"vm": "web"}),
        ("vm-starts", {"vm": "web"}),
        ("vm-runs", {"vm": "web"}),
        ("vm-crashed", {"vm": "web"}),
        ("vm-starts", {"vm": "web"}),
        ("vm-runs", {"vm": "web"}),
    ]
    journal.entries = [
        {"id": str(n), "wall_s": float(n), "host": "a", "code": code, "fields": fields}
        for n, (code, fields) in enumerate(told)
    ]
    assert journal.codes("vm-runs") == ["vm-crashed", "vm-starts", "vm-runs"]


def test_storage_that_came_back_causes_nothing_more() -> None:
    causes = Causes()
    for id_, code in (("1", "storage-sick"), ("2", "storage-back")):
        causes.add(Told(id_, "a", code, {"host": "a"}))
    assert causes.of(Told("3", "a", "not-member", {"host": "a"})) == ()
    causes.add(Told("4", "a", "storage-sick", {"host": "a"}))
    assert causes.of(Told("5", "a", "not-member", {"host": "a"})) == ("4",)


def test_a_host_that_was_switched_off_is_the_cause_of_what_follows() -> None:
    causes = Causes()
    causes.add(Told("1", "a", "fence-begins", {"host": "b", "by": "a"}))
    off = Told("2", "c", "host-off", {"host": "b", "why": "w"})
    assert causes.of(off) == ("1",)
    causes.add(off)
    why = "b lost it, proof: fenced (its power switch says that it is off)"
    assert causes.of(Told("3", "a", "order-given", {"vm": "web", "host": "a", "why": why})) == (
        "2",
    )
    seen = {"view": 4, "members": "a c", "master": "a", "reason": "b is off"}
    assert causes.of(Told("4", "a", "view-changed", seen)) == ("2",)


def test_another_vms_story_is_not_mixed_in() -> None:
    causes = Causes()
    causes.add(Told("1", "a", "vm-starts", {"vm": "db"}))
    assert causes.of(Told("2", "a", "vm-runs", {"vm": "web"})) == ()


def test_chain_survives_a_circle_and_a_missing_cause() -> None:
    entries: list[dict[str, object]] = [
        {"id": "1", "causes": ["2", "gone"]},
        {"id": "2", "causes": ["1"]},
    ]
    assert [e["id"] for e in chain(entries, "1")] == ["1", "2"]


@pytest.mark.parametrize("code", sorted(DECISIVE))
def test_evidence_is_for_notes_that_exist(code: str) -> None:
    assert code in SENTENCES
