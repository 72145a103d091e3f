"""Model types and JSON: inverse, tolerant of what is new, strict with what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast import model
from outlast.errors import StorageTrouble
from outlast.settings import PRESETS, PoolSettings
from outlast.storage import format as form

TERM = st.binary(min_size=16, max_size=16).map(bytes.hex)
NAT = st.integers(0, 2**63)
SLOT = st.integers(0, 64)
st.register_type_strategy(int, NAT)


def built(kind: type, **fixed) -> st.SearchStrategy:
    """Any value of a model type whose slots and terms are well-formed."""
    kinds = {
        name: TERM if name.endswith("term") else SLOT
        for name in kind.__dataclass_fields__
        if name.endswith(("term", "_slot")) or name in {"slot", "master"}
    }
    return st.builds(kind, **{**kinds, **fixed})


PROOF = built(model.Proof)
MEMBERS = st.dictionaries(st.integers(1, 64), built(model.Member), max_size=4)
PAIRS = {
    "view": (built(model.View, members=MEMBERS), form.view_to, form.view_from),
    "slot": (built(model.SlotRecord), form.slot_to, form.slot_from),
    "lease": (built(model.Lease, proof=st.none() | PROOF), form.lease_to, form.lease_from),
    "vm": (built(model.VmRecord), form.vm_to, form.vm_from),
    "order": (
        built(model.OrderBook, orders=st.lists(built(model.Order), max_size=3).map(tuple)),
        form.order_to, form.order_from,
    ),
    "pool": (
        st.builds(PoolSettings, timing=st.sampled_from(list(PRESETS.values()))),
        form.pool_to, form.pool_from,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
@given(data=st.data())
def test_values_come_back(name: str, data: st.DataObject) -> None:
    strategy, to, back = PAIRS[name]
    thing = data.draw(strategy)
    value = to(thing)
    assert back(json.loads(json.dumps(value))) == thing
    assert back({**value, "from_the_future": {"x": 1}}) == thing, "unknown fields are ignored"


@pytest.mark.parametrize("name", PAIRS)
@given(data=st.data(), junk=st.sampled_from([None, [], {}, "x", -1, 1.5, ["x"], {"1": "x"}, [[]]]))
def test_one_wrong_field_is_named_or_harmless(name: str, data: st.DataObject, junk) -> None:
    strategy, to, back = PAIRS[name]
    value = to(data.draw(strategy))
    field = data.draw(st.sampled_from(sorted(value)))
    try:
        thing = back({**value, field: junk})
    except StorageTrouble as trouble:
        assert trouble.sentence
    else:
        assert back(to(thing)) == thing


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("garbage", [None, [], "x", 3, {}, {"version": 1}])
def test_garbage_is_refused(name: str, garbage: object) -> None:
    with pytest.raises(StorageTrouble):
        PAIRS[name][2](garbage)


def test_what_is_wrong_is_said() -> None:
    lease = form.lease_to(model.Lease("web", 3, "ab" * 16, "start"))
    view = form.view_to(model.View(7, {3: model.Member("c", "u", "ab" * 16)}, 3, "form", "", 3))
    vm = form.vm_to(model.VmRecord(model.VmSpec("web", "u", 512, 1)))
    for back, value, match in (
        (form.lease_from, {**lease, "slot": 65}, "the lease: 'slot' is 65"),
        (form.lease_from, {**lease, "term": "AB" * 16}, "'term'"),
        (form.lease_from, {**lease, "slot": True}, "'slot' is True"),
        (form.lease_from, {**lease, "proof": {"kind": "silent"}}, "'proof' in the lease has no"),
        (form.view_from, {**view, "members": {"65": {}}}, "a map of slots"),
        (form.view_from, {**view, "members": {"03": {}}}, "a map of slots"),
        (form.view_from, {k: v for k, v in view.items() if k != "master"}, "has no 'master'"),
        (lambda v: form.view_from(v, 8), view, "view 7 stands in version 8"),
        (form.vm_from, {**vm, "desired": "sleeping"}, "one of running, stopped"),
        (form.vm_from, {**vm, "preferred": "a"}, "not a list"),
    ):
        with pytest.raises(StorageTrouble, match=match):
            back(value)
    assert form.view_from(view, 7).members[3].host == "c"


def test_missing_fields_take_the_models_defaults() -> None:
    assert form.lease_from({"vm": "web"}) == model.Lease("web")
    assert form.slot_from(
        {"slot": 3, "host": "c", "uuid": "u", "generation": 1, "active": True}
    ) == model.SlotRecord(3, "c", "u", 1, True)


def test_a_timing_that_is_not_safe_is_refused() -> None:
    good = PRESETS["standard"]
    bad = PoolSettings("p", "u", replace(good, dead_ns=good.fence_ns))
    with pytest.raises(StorageTrouble, match="must stay below"):
        form.pool_from(form.pool_to(bad))
