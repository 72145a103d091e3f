"""Refused calls: told once, counted after that, and never more than a journal can bear."""

from __future__ import annotations

from outlast.agent.refusals import EACH_S, KINDS_MAX, Refusals


def test_the_first_is_told_and_the_others_counted() -> None:
    refusals = Refusals("a")
    first = refusals.refused(10.0, "b", "POST /v1/vms", "host b may not POST /v1/vms")
    assert first is not None
    assert first.code == "call-refused"
    assert first.sentence == "a refused b the call POST /v1/vms: host b may not POST /v1/vms"
    assert all(refusals.refused(10.0 + n, "b", "POST /v1/vms", "no") is None for n in range(3))
    assert refusals.refused(11.0, "", "POST /v1/vms", "no role") is not None
    again = refusals.refused(10.0 + EACH_S, "b", "POST /v1/vms", "no")
    assert again is not None
    assert "(3 more like it since the last note)" in again.sentence
    assert refusals.count == 6


def test_ever_new_calls_do_not_fill_the_journal() -> None:
    refusals = Refusals("a")
    told = [refusals.refused(n / 1000, "b", f"GET /{n}", "no") for n in range(5000)]
    assert sum(one is not None for one in told) == KINDS_MAX + 1
    assert told[KINDS_MAX] is not None
    assert "others" in told[KINDS_MAX].sentence
    later = [refusals.refused(EACH_S * 2 + n, "c", f"GET /{n}", "no") for n in range(KINDS_MAX)]
    assert sum(one is not None for one in later) == KINDS_MAX
