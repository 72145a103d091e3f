"""Buttons: what they say before, what they do, and that nothing happens by accident or twice."""

from __future__ import annotations

import re

import pytest

from conftest import Site
from outlast.manager.ports import ACTIONS
from outlast.manager.repository import records
from outlast.manager.web.buttons import BUTTONS, DIRECT, TYPE

POOL = "00000000-0000-4000-8000-000000000001"
LAB = "00000000-0000-4000-8000-000000000002"
RUNS, STOPPED = "db-prod-0018", "api-dev-0080"


def vm(name: str, verb: str = "") -> str:
    return f"/pools/{POOL}/vms/{name}" + (f"/{verb}" if verb else "")


def host(name: str, verb: str = "") -> str:
    return f"/pools/{POOL}/hosts/{name}" + (f"/{verb}" if verb else "")


def seen(site: Site, path: str) -> dict[str, str]:
    """What a dialog asks to be repeated."""
    page = site.get(path).body.decode()
    found = re.search(r'name="seen" value="(\w+)"', page)
    assert found is not None, page[:300]
    return {"seen": found[1]}


def stopped(site: Site) -> str:
    name = next(v.name for v in site.pools["frankfurt-a"].vms.values() if v.state == "stopped")
    return str(name)


def test_buttons_are_whole() -> None:
    assert {b.action for b in BUTTONS} <= set(ACTIONS)
    places = [(b.kind, b.verb) for b in BUTTONS]
    assert len(set(places)) == len(places)
    assert all(b.title for b in BUTTONS if b.level != DIRECT)
    assert {b.verb for b in BUTTONS if b.level == TYPE} == {
        "delete",
        "power-off",
        "confirm-off",
        "remove",
        "drill",
    }


def test_each_button_shows_the_command_that_does_the_same(site: Site) -> None:
    for path in (vm(RUNS), vm(stopped(site)), host("fra-kvm-02"), f"/pools/{POOL}"):
        page = site.get(path).body.decode()
        offered = re.findall(r'class="o-button[^"]*"(?: role="button")?[^>]*title="([^"]+)"', page)
        assert offered, path
        listed = page.partition("Commands that do the same")[2]
        for command in offered:
            assert command.startswith("outlast ")
            assert f"<span>{command}</span>" in listed, (path, command)


def test_the_command_follows_what_is_typed(site: Site) -> None:
    path = f"/pools/{LAB}/new-vm?name=a+b&memory=1GiB&vcpus=2&disk=5GiB&ha=off&network=br0"
    said = site.get(path, target="cli").body.decode()
    assert said.startswith('<div id="cli"') and "--start" not in said
    assert "outlast vm create &#39;a b&#39; --memory 1GiB --vcpus 2 --disk 5GiB" in said
    assert "--no-ha --network br0" in said
    assert "--start" in site.get(f"/pools/{LAB}/new-vm").body.decode()


def test_commands_are_ones_of_the_command_line(site: Site) -> None:
    """Each command that a page shows is known to `outlast`, with its options."""
    import subprocess
    import sys

    shown = set()
    for path in (vm(RUNS), vm(stopped(site)), host("fra-kvm-02"), f"/pools/{POOL}", "/users",
                 "/me", f"/failovers?pool={POOL}", f"/pools/{POOL}/what-if", "/vms",
                 vm(RUNS, "migrate"), f"/pools/{POOL}/new-vm",
                 f"/pools/{POOL}/settings", vm(RUNS, "set")):  # fmt: skip
        shown |= set(re.findall(r'data-copy="(outlast [^"]+)"', site.get(path).body.decode()))
    assert len(shown) > 12
    # one process: importing the command line costs more than parsing
    code = (
        "import sys, json, typer\n"
        "from outlast.cli.main import app\n"
        "root = typer.main.get_command(app)\n"
        "for line in json.load(sys.stdin):\n"
        "    words, at = line.split()[1:], root\n"
        "    while hasattr(at, 'commands'):\n"
        "        at = at.get_command(None, words.pop(0)); assert at, line\n"
        "    known = {o for p in at.params for o in (*p.opts, *p.secondary_opts)}\n"
        "    bad = [w for w in words if w.startswith('--') and w not in known]\n"
        "    assert not bad, (line, bad)\n"
    )
    import json

    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(sorted(shown)),
                          text=True, capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]


def test_a_vm_is_made_of_a_template(own_site: Site) -> None:
    at, key = f"/pools/{LAB}/new-vm", "ssh-ed25519 AAAA anna"
    page = own_site.get(at).body.decode()
    assert '<option value="small">small: debian-12, for all</option>' in page
    form = seen(own_site, at) | {"name": "web-9", "template": "small", "memory": "3GiB",
                                 "vcpus": "2", "disk": "20GiB", "ha": "on", "ssh_key": key,
                                 "start": "1"}  # fmt: skip
    words = "&".join(f"{k}={v.replace(' ', '+')}" for k, v in form.items())
    said = own_site.get(f"{at}?{words}", target="cli").body.decode()
    assert ("outlast template deploy small web-9 --memory 3GiB --vcpus 2 "
            "--ssh-key &#39;ssh-ed25519 AAAA anna&#39; --start") in said  # fmt: skip
    off = own_site.post(at, form | {"ha": "off"}, scripted=True)
    assert off.status == 422 and "change it afterwards" in off.body.decode().lower()
    assert own_site.post(at, form).status == 303
    pool = own_site.pools["lab"]
    assert [(name, w.name, w.memory, w.ssh_keys) for name, w in pool.deployed] == [
        ("small", "web-9", 3 << 30, [key])
    ]
    pool.answers = False
    assert "Made of" not in own_site.get(at).body.decode()  # an empty disk is left
    pool.answers = True


def test_a_wish_that_can_be_taken_back_asks_nothing(own_site: Site) -> None:
    name = stopped(own_site)
    said = own_site.post(vm(name, "start"), scripted=True)
    assert said.status == 200
    assert f"Starting {name}" in said.body.decode() and 'hx-target="#toasts"' in said.body.decode()
    assert own_site.pools["frankfurt-a"].wishes == [("start", name)]
    own_site.pools["frankfurt-a"].step()
    own_site.tell()
    own_site.until("/tasks", f"{name} runs on")
    again = own_site.post(vm(name, "start"))
    assert again.status == 409 and "has changed meanwhile" in again.body.decode()


def test_without_scripts_it_leads_back(own_site: Site) -> None:
    said = own_site.post(vm(stopped(own_site), "start"))
    assert (said.status, said.headers["location"]) == (303, vm(stopped_name(own_site)))


def stopped_name(site: Site) -> str:
    return str(site.pools["frankfurt-a"].wishes[-1][1])


@pytest.mark.parametrize("verb", ["stop", "kill", "ha-off", "migrate"])
def test_what_interrupts_somebody_is_shown_first(own_site: Site, verb: str) -> None:
    path = vm(RUNS, verb)
    page = own_site.get(path).body.decode()
    assert RUNS in page and "<li>" in page
    before = own_site.wishes()
    for form in ({}, {"seen": "0" * 16}):
        said = own_site.post(path, form)
        assert said.status == 409 and "this is the new list" in said.body.decode().lower()
    assert own_site.wishes() == before
    assert own_site.post(path, seen(own_site, path)).status == 303
    assert own_site.wishes() == before + 1


def test_a_plan_that_changed_is_shown_anew(own_site: Site) -> None:
    path = host("fra-kvm-04", "maintain")
    form = seen(own_site, path)
    page = own_site.get(path).body.decode()
    assert "away while they run" in page and "<td>fra-kvm-0" in page
    mine = [v.name for v in own_site.pools["frankfurt-a"].vms.values() if v.host == "fra-kvm-04"]
    for name in own_site.pools["frankfurt-a"].hosts:
        if name != "fra-kvm-04":
            own_site.pools["frankfurt-a"].change_host(name, maintenance="full")
    own_site.app.state.web.foresight._pictures.clear()
    said = own_site.post(path, form, scripted=True)
    assert said.status == 409
    told = said.body.decode()
    assert 'hx-target="#dialog-body"' in told and f"<td>{mine[0]}</td>" in told and "stays" in told
    assert own_site.wishes() == 0


def test_maintenance_and_back(own_site: Site) -> None:
    path, pool = host("fra-kvm-04", "maintain"), own_site.pools["frankfurt-a"]
    assert own_site.post(path, seen(own_site, path) | {"why": "more memory"}).status == 303
    own_site.tell()
    page = own_site.get(host("fra-kvm-04")).body.decode()
    assert "In maintenance." in page and "more memory (anna)" in page
    assert "Emptying fra-kvm-04" in page and "still on fra-kvm-04" in page
    pool.step()
    own_site.tell()
    own_site.until("/tasks", "runs no VMs any more")
    back = host("fra-kvm-04", "resume")
    assert "left it for this maintenance" in own_site.get(back).body.decode()
    assert own_site.post(back, seen(own_site, back) | {"bring_back": "1"}).status == 303
    assert pool.wishes[-1] == ("resume", "fra-kvm-04", True)


def test_what_cannot_be_undone_wants_the_name_typed(own_site: Site) -> None:
    name = stopped(own_site)
    path = vm(name, "delete")
    form = seen(own_site, path) | {"with_disks": "1"}
    for typed in ("", "other", name + "x"):
        said = own_site.post(path, form | {"typed": typed})
        assert said.status == 422 and f"ype {name} to confirm" in said.body.decode()
    assert own_site.wishes() == 0
    said = own_site.post(path, form | {"typed": name})
    assert (said.status, said.headers["location"]) == (303, "/vms")
    assert own_site.pools["frankfurt-a"].wishes == [("delete", name, True)]
    off = host("fra-kvm-05", "power-off")
    assert own_site.post(off, seen(own_site, off) | {"typed": "fra-kvm-05"}).status == 303


def test_a_drill_says_first_what_each_failure_would_do(own_site: Site) -> None:
    """Of a pool where a host is down already, nothing but looking is offered."""
    name, path = "fra-kvm-05", host("fra-kvm-05", "drill")
    page = own_site.get(path, target="dialog-body").body.decode()
    for words in ("Its power", "Its network", "Its way to the storage", "Its agent",
                  "its death is proven after", "its guard and its pulse need no agent",
                  f"outlast drill --host {name} --kind power"):  # fmt: skip
        assert words in page, words
    assert "None of it may take place now: " in page and "fra-kvm-06 is silent" in page
    assert 'is-bad" disabled>Fire drill' in page
    assert page.count('value="power" disabled') == page.count('value="agent" disabled') == 1
    command = own_site.get(f"{path}?kind=agent", target="cli").body.decode()
    assert f"outlast drill --host {name} --kind agent" in command
    form = seen(own_site, path)
    for wrong in ({"typed": ""}, {"typed": name, "kind": "flood"}):
        assert own_site.post(path, form | wrong).status == 422
    assert own_site.wishes() == 0
    assert own_site.post(path, form | {"typed": name, "kind": "network"}).status == 303
    assert own_site.pools["frankfurt-a"].wishes == [("drill", name, "network", "anna")]
    own_site.tell()


def test_a_migration_names_each_host_with_its_reason(own_site: Site) -> None:
    page = own_site.get(vm(RUNS, "migrate"), target="dialog-body").body.decode()
    assert "<html" not in page and "The pool chooses" in page
    here = own_site.pools["frankfurt-a"].vms[RUNS].host
    offered = re.findall(r'name="to" value="([^"]+)"(?! disabled)', page)
    assert here not in offered and "fra-kvm-06 is down" in page
    form = seen(own_site, vm(RUNS, "migrate"))
    said = own_site.post(vm(RUNS, "migrate"), form | {"to": offered[0]}, scripted=True)
    assert said.headers["hx-trigger"] == "o-close-dialog"
    pool = own_site.pools["frankfurt-a"]
    pool.step(0.4)
    own_site.tell()
    page = own_site.get(vm(RUNS)).body.decode()
    assert 'value="40" max="100"' in page and f"to {offered[0]}" in page
    assert own_site.post(vm(RUNS, "stay")).status == 303


def test_a_new_vm(own_site: Site) -> None:
    path = f"/pools/{LAB}/new-vm"
    form = seen(own_site, path) | {"name": "fresh", "memory": "1GiB", "vcpus": "2",
                                   "disk": "5GiB", "ha": "on", "start": "1"}  # fmt: skip
    for bad in ({"memory": "much"}, {"vcpus": "x"}, {"vcpus": "0"}, {"disk": "-1"}):
        said = own_site.post(path, form | bad)
        assert said.status == 422, bad
        again = said.body.decode()
        assert 'value="fresh"' in again and 'id="wrong"' in again and 'role="alert"' in again
        wrong = re.findall(r'name="(\w+)"  ?aria-invalid="true" aria-describedby="wrong"', again)
        assert wrong == [*bad]
    said = own_site.post(path, form)
    assert (said.status, said.headers["location"]) == (303, "/vms?search=fresh")
    assert ("create", "fresh") in own_site.pools["lab"].wishes
    assert "already" in own_site.post(path, form).body.decode()


def test_ha_of_a_pool_off_is_on_its_page_until_it_is_on(own_site: Site) -> None:
    path = f"/pools/{LAB}/ha-off"
    assert own_site.post(path, seen(own_site, path) | {"for": "3y"}).status == 422
    form = seen(own_site, path) | {"why": "new switches", "for": "2h"}
    assert own_site.post(path, form).status == 303
    own_site.tell()
    page = own_site.get(f"/pools/{LAB}").body.decode()
    assert "HA is off in this pool" in page and "new switches (anna)" in page
    assert own_site.post(f"/pools/{LAB}/ha-on").status == 303


def test_wishes_are_in_the_audit_with_who_and_from_where(own_site: Site) -> None:
    name = stopped(own_site)
    own_site.post(vm(name, "start"), who="otto")
    rows, _ = own_site.run(
        own_site.manager.repository.read(lambda c: records.list_audit(c, action="start"))
    )
    assert [(r.who, r.address, r.object) for r in rows] == [("otto", "10.1.1.1", f"{POOL}/{name}")]
    page = own_site.get(f"/audit?object={POOL}/{name}").body.decode()
    assert f"frankfurt-a/{name}" in page and ">otto<" in page


def test_somebody_answers_for_a_host_that_is_off(own_site: Site) -> None:
    """Only of a host that shows no life; with its VMs named, the name typed, and who said it."""
    pool, dead = own_site.pools["frankfurt-a"], "fra-kvm-06"
    lives = own_site.get(host("fra-kvm-05")).body.decode()
    assert "/confirm-off" not in lives and "/remove" not in lives and "/power-on" not in lives
    held = next(v.name for v in pool.vms.values() if v.host == "fra-kvm-05")
    pool.change_vm(held, host=dead)
    pool.change_host(dead, macs=["52:54:00:00:00:06"])
    own_site.tell()
    path = host(dead, "confirm-off")
    page = own_site.get(path, target="dialog-body").body.decode()
    assert f"It holds {held}" in page and "run twice" in page
    command = own_site.get(f"{path}?why=no+power", target="cli").body.decode()
    assert "outlast host confirm-off fra-kvm-06 --why &#39;no power&#39;" in command
    form = seen(own_site, path) | {"why": "cord pulled"}
    assert own_site.post(path, form | {"typed": "yes"}).status == 422
    assert own_site.post(path, form | {"typed": dead}, "otto").status == 403
    assert own_site.wishes() == 0
    assert own_site.post(path, form | {"typed": dead}).status == 303
    assert own_site.post(host(dead, "power-on"), {}, "otto").status == 303
    gone = host(dead, "remove")
    said = own_site.post(gone, seen(own_site, gone) | {"typed": dead})
    assert (said.status, said.headers["location"]) == (303, f"/pools/{POOL}")
    assert pool.wishes == [
        ("confirm-off", dead, "cord pulled (anna)"), ("power-on", dead), ("host-remove", dead),
    ]  # fmt: skip
    living = host("fra-kvm-05", "confirm-off")
    said = own_site.post(living, seen(own_site, living) | {"typed": "fra-kvm-05"})
    assert said.status == 409 and len(pool.wishes) == 3
