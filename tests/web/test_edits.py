"""Editing VMs and pools in the console: only what was changed is wished, and said as a command."""

from __future__ import annotations

import re
from html import unescape

import pytest

from conftest import Site
from outlast.errors import InvalidInput
from outlast.manager.web import edits
from outlast.manager.web.forms import Form
from outlast.settings import PRESETS
from outlast.wire.shapes import PoolChange, VmChange, VmStatus

POOL = "00000000-0000-4000-8000-000000000001"
AT, SETTINGS = f"/pools/{POOL}/vms/db-prod-0018/set", f"/pools/{POOL}/settings"
VM = VmStatus(
    name="db", uuid="u", state="running", sentence="db runs on a", desired="running", host="a",
    memory_mib=2048, vcpus=2, ha=True, definition=1, priority="high", preferred=["a", "b"],
    groups=["apart db", "together app (soft)"],
)  # fmt: skip


def shown(site: Site, path: str, who: str = "anna") -> dict[str, str]:
    """What the dialog would send if nobody changed anything."""
    page = site.get(path, who).body.decode()
    form = page.partition('<form class="o-form o-confirm"')[2].partition("</form>")[0]
    found = dict(re.findall(r'name="([\w-]+)" value="([^"]*)"', form))
    for name, body in re.findall(r'<select name="(\w+)">(.*?)</select>', form):
        found[name] = re.findall(r'value="([^"]*)" selected', body)[0]
    found = {k: unescape(v) for k, v in found.items()}
    return {k: v for k, v in found.items() if k not in ("csrf", "preferred", "likes")}


def typed(**values: str | list[str]) -> Form:
    pairs = [(f"was-{name}", value) for name, value in edits.now(VM).items()]
    for name, value in (edits.now(VM) | values).items():
        many = value if isinstance(value, list) else value.split() if " " in value else [value]
        pairs += [(name, word) for word in many]
    return Form(pairs)


def test_only_what_was_changed_is_wished() -> None:
    with pytest.raises(InvalidInput, match="nothing is changed"):
        edits.vm_change(typed())
    form = typed(memory="4GiB", preferred=[], groups=["apart:db"], vcpus="2")
    assert edits.vm_change(form).model_dump(exclude_unset=True) == {
        "memory": 4 << 30, "preferred": [],
        "groups": [{"name": "db", "kind": "apart", "hard": True}],
    }  # fmt: skip
    said = edits.command("outlast vm set db", edits.VM_FIELDS, form)
    assert said == "outlast vm set db --memory 4GiB --group apart:db --prefer any"
    with pytest.raises(InvalidInput, match="no number"):
        edits.vm_change(typed(vcpus="many"))
    with pytest.raises(InvalidInput, match="beside:db"):
        edits.vm_change(typed(groups=["beside:db"]))


def test_every_setting_can_be_edited() -> None:
    assert {f.name for f in edits.VM_FIELDS} == set(VmChange.model_fields)
    drills = {"drill_vm", "drill_kind", "drill_at"}  # one thing, that `outlast drill --every` says
    assert {f.name for f in edits.POOL_FIELDS} == set(PoolChange.model_fields) - drills
    timing = next(f for f in edits.POOL_FIELDS if f.name == "timing")
    assert {name for name, _ in timing.choices} == set(PRESETS) - {"lab"}


def test_a_vm_is_edited(own_site: Site) -> None:
    form = shown(own_site, AT)
    assert (form["was-priority"], form["priority"], form["was-memory"]) == ("high", "high", "4GiB")
    same = own_site.post(AT, form, scripted=True)
    assert same.status == 422 and "nothing is changed" in same.body.decode().lower()
    said = own_site.post(AT, form | {"priority": "low", "likes": "fra-kvm-02"}, scripted=True)
    assert said.status == 200 and "Changing db-prod-0018" in said.body.decode()
    vm = own_site.pools["frankfurt-a"].vms["db-prod-0018"]
    assert (vm.priority, vm.likes, vm.memory_mib) == ("low", ["fra-kvm-02"], 4096)
    words = own_site.get(f"{AT}?was-priority=high&priority=low", target="cli").body.decode()
    assert "outlast vm set db-prod-0018 --priority low" in words


def test_what_others_changed_meanwhile_is_shown_first(own_site: Site) -> None:
    form = shown(own_site, AT)
    own_site.pools["frankfurt-a"].change_vm("db-prod-0018", vcpus=6)
    own_site.tell()
    said = own_site.post(AT, form | {"priority": "low"}, scripted=True)
    page = said.body.decode()
    assert said.status == 409 and "has changed meanwhile" in page
    assert 'name="vcpus" value="6"' in page and 'value="low" selected' in page
    assert own_site.wishes() == 0


def test_a_pool_is_set(own_site: Site) -> None:
    form = shown(own_site, SETTINGS)
    page = own_site.get(SETTINGS).body.decode()
    assert "a silent host counts as dead after 121 s" in page
    said = own_site.post(SETTINGS, form | {"timing": "tolerant", "balance": "auto"}, scripted=True)
    assert said.status == 200
    assert own_site.pools["frankfurt-a"].wishes == [("pool-set", ("timing", "balance"))]
    assert own_site.get(SETTINGS, "otto").status == 403
    assert own_site.post(SETTINGS, form, "otto").status == 403
    assert own_site.get(AT, "otto").status == 200 and own_site.get(AT, "vera").status == 403
