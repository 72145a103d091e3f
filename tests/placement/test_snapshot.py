"""Snapshots: whole round trips, bad files named by their field, names masked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pools

from outlast.errors import InvalidInput
from outlast.placement.balance import balance
from outlast.placement.masking import masked
from outlast.placement.picture import Group, GroupKind, Host, Picture, Vm
from outlast.placement.snapshot import read, write
from outlast.placement.spare import every


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


@given(pools())
@settings(deadline=None)
def test_a_masked_pool_is_answered_like_the_real_one(picture: Picture) -> None:
    found = masked(picture)
    assert masked(found) == found
    hosts = {a.name: b.name for a, b in zip(picture.hosts, found.hosts, strict=True)}
    vms = {a.name: b.name for a, b in zip(picture.vms, found.vms, strict=True)}
    real, same = balance(picture), balance(found)
    assert [(m.vm, m.target) for m in same.moves] == [
        (vms[m.vm], hosts[m.target]) for m in real.moves
    ]
    for name, failure in every(picture).items():
        told = every(found)[hosts[name]]
        assert [(r.vm, r.target) for r in told.restarts] == [
            (vms[r.vm], hosts.get(r.target, "")) for r in failure.restarts
        ]


def test_a_masked_pool_tells_no_name() -> None:
    picture = Picture(
        (Host("berlin-1", 8, 4, networks=("blue",), storage=("ssd",), why="Anna looks at it"),
         Host("berlin-2", 8, 4)),
        (Vm("payroll", 1, 1, "berlin-1", networks=("blue",), storage=("ssd",),
            preferred=("berlin-1",), likes=("berlin-9",)),
         Vm("wiki", 1, 1)),
        (Group("erp", GroupKind.APART, ("payroll", "wiki")),),
    )  # fmt: skip
    said = write(masked(picture))
    for name in ("berlin", "payroll", "wiki", "blue", "ssd", "Anna", "erp"):
        assert name not in said
    vm = masked(picture).vms[0]
    assert (vm.name, vm.host, vm.likes) == ("vm-1", "host-1", ("host-3",))


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
