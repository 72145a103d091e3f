"""Snapshots: whole round trips, bad files named by their field, golden answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pools

from outlast.errors import InvalidInput
from outlast.placement.balance import balance
from outlast.placement.picture import Picture
from outlast.placement.snapshot import read, write
from outlast.placement.spare import what_if

GOLDEN = Path(__file__).parent / "golden"


@given(pools())
@settings(deadline=None)
def test_what_is_written_is_read_the_same(picture: Picture) -> None:
    assert read(write(picture)) == picture
    assert write(read(write(picture))) == write(picture)


@given(pools(), st.data())
@settings(deadline=None)
def test_a_snapshot_cut_anywhere_is_refused(picture: Picture, data: st.DataObject) -> None:
    text = write(picture).rstrip()
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(InvalidInput):
        read(cut)


def test_the_golden_snapshot_gives_the_golden_answers() -> None:
    picture = read((GOLDEN / "tight.json").read_text())
    told = {
        "fail b": what_if(picture, ["b"]).sentence,
        "balance": [str(m) for m in balance(picture).moves],
    }
    assert told == json.loads((GOLDEN / "tight.answers.json").read_text())


WHOLE = {
    "outlast_picture": 1,
    "policy": {},
    "hosts": [{"name": "a", "memory_mib": 8, "cores": 2}],
    "vms": [{"name": "x", "memory_mib": 1, "vcpus": 1, "host": "a"}],
}


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("outlast_picture",), 2, "outlast_picture: 2"),
        (("outlast_picture",), True, "outlast_picture: True"),
        (("extra",), 1, "extra: there is no such field"),
        (("hosts",), {}, "hosts: a list is wanted"),
        (("hosts", 0, "memory_mib"), "8", r"hosts\[0\].memory_mib: a whole number"),
        (("hosts", 0, "memory_mib"), 8.5, r"hosts\[0\].memory_mib: a whole number"),
        (("hosts", 0, "memory_mib"), -8, "hosts.a.memory_mib: -8 is less than 1"),
        (("hosts", 0, "memory_mib"), 1 << 60, "out of range"),
        (("hosts", 0, "state"), "up", r"hosts\[0\].state: one of open, closed, down"),
        (("hosts", 0, "networks"), "br0", r"hosts\[0\].networks: a list of texts"),
        (("vms", 0, "ha"), 1, r"vms\[0\].ha: true or false"),
        (("vms", 0, "busy_cores"), True, r"vms\[0\].busy_cores: a number"),
        (("vms", 0, "priorty"), "high", r"vms\[0\].priorty: there is no such field"),
        (("vms", 0, "name"), "x\n", r"vms\[0\].name: a short text"),
        (("vms", 0), 7, r"vms\[0\]: an object is wanted"),
        (("vms", 0, "preferred"), ["z"], "vms.x.preferred: there is no host z"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(
    where: tuple[str | int, ...], value: object, said: str
) -> None:
    document = json.loads(json.dumps(WHOLE))
    at = document
    for step in where[:-1]:
        at = at[step]
    at[where[-1]] = value
    with pytest.raises(InvalidInput, match=said) as caught:
        read(json.dumps(document))
    assert caught.value.hint


def test_what_is_missing_or_twice_or_no_number_is_named() -> None:
    read(json.dumps(WHOLE))
    with pytest.raises(InvalidInput, match="vms: it is missing"):
        read(json.dumps({k: v for k, v in WHOLE.items() if k != "vms"}))
    with pytest.raises(InvalidInput, match="cores: it is missing"):
        read(json.dumps({**WHOLE, "hosts": [{"name": "a", "memory_mib": 1}]}))
    with pytest.raises(InvalidInput, match="vms: the field is there twice"):
        read('{"vms": [], "vms": []}')
    with pytest.raises(InvalidInput, match="NaN is not a number"):
        read(json.dumps({**WHOLE, "policy": {"memory_ratio": float("nan")}}))
    with pytest.raises(InvalidInput, match="nested too deeply"):
        read("[" * 200_000)
