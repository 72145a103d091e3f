"""A VM's page: its groups and hosts, its snapshots."""

from __future__ import annotations

import re

from test_pages import POOL, VM, text

from conftest import Site


def test_a_vm_says_with_whom_it_is_in_a_group_and_on_how_few_hosts(own_site: Site) -> None:
    pool, here = own_site.pools["frankfurt-a"], "db-prod-0018"
    host = pool.vms[here].host
    mate = next(v.name for v in pool.vms.values() if v.host == host and v.name != here)
    other = next(v.name for v in pool.vms.values() if v.host not in ("", host))
    for name, groups in ((here, ["apart db (soft)"]), (mate, ["apart db"]), (other, ["apart db"])):
        pool.change_vm(name, groups=groups, preferred=[host, "fra-kvm-06"])
    own_site.tell()
    page = text(own_site.get(f"/pools/{POOL}/vms/{here}"))
    assert re.search(rf"{mate}\s+is\s+on the same host", page) and f"{other} on " in page
    assert not re.search(rf"{other}\s+is\s+on the same", page)
    assert "1 of them is up" in re.sub(r"\s+", " ", page)


def test_a_vm_shows_its_snapshots(site: Site) -> None:
    page = text(site.get(VM))
    assert f'hx-get="{VM}/snapshots"' in page and "outlast vm snapshot create" in page
    said = text(site.get(f"{VM}/snapshots", target="snapshots"))
    assert said.index("half") < said.index("before-upgrade"), "the newest first"
    assert "25 h" in said or "1 d" in said
    assert said.count("not of all its disks") == 1
    assert "outlast vm snapshot revert db-prod-0018 half" in said
    other = VM.replace("db-prod-0018", "web-prod-0015")
    assert "Raw disks can keep none" in text(site.get(f"{other}/snapshots"))
