"""Pages of networks, storage, images and templates: what they say, and what is wished there."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

from conftest import Site
from outlast.manager.ports import Grant

POOL = "/pools/00000000-0000-4000-8000-000000000001"


def form_of(site: Site, path: str, who: str = "anna") -> dict[str, str]:
    """The dialog's own fields, as a browser sends them."""
    text = site.get(path, who).body.decode()
    pairs = re.findall(r'<input (?:type="hidden" )?name="([^"]+)" value="([^"]*)"', text)
    chosen = re.findall(r'<select name="([^"]+)">.*?<option value="([^"]*)" selected', text)
    return dict(pairs) | dict(chosen)


def test_hosts_say_how_it_stands(own_site: Site) -> None:
    stock = own_site.pools["frankfurt-a"].stock
    stock.lacks["lan", "fra-kvm-02"] = "there is no card eno1"
    stock.deaf["lan", "fra-kvm-03"] = ("fra-kvm-04",)
    stock.lacks["fast", "fra-kvm-05"] = "it has not answered for 9 s"
    page = own_site.get(f"{POOL}/networks").body.decode()
    for words in ("VLAN 20", "fra-kvm-02: there is no card eno1",
                  "fra-kvm-03 does not hear fra-kvm-04"):  # fmt: skip
        assert words in page
    page = own_site.get(f"{POOL}/storage").body.decode()
    assert "fra-kvm-05: it has not answered for 9 s" in page
    assert "1.5 TiB free of 3.9 TiB" in page
    assert f'href="{POOL}/storage/pool/remove"' not in page, "the pool lives there"
    assert own_site.get("/storage").headers["location"] == f"{POOL}/storage"


def test_a_silent_pool_says_so_and_keeps_what_it_said(own_site: Site) -> None:
    assert "VLAN 20" in own_site.get(f"{POOL}/networks").body.decode()
    own_site.pools["frankfurt-a"].answers = False
    page = own_site.get(f"{POOL}/networks").body.decode()
    assert "VLAN 20" in page and "No agent of frankfurt-a answers" in page


def test_a_network_is_made_edited_and_removed(own_site: Site) -> None:
    path = f"{POOL}/networks/create"
    form = form_of(own_site, path) | {"name": "dmz", "uplink": "eno2", "vlan": "30"}
    told = "&".join(f"{k}={quote(v)}" for k, v in form.items())
    said = own_site.get(f"{path}?{told}", target="cli").body.decode()
    assert "outlast network create dmz --uplink eno2 --vlan 30<" in said
    bad = own_site.post(path, form | {"vlan": "many"})
    assert (bad.status, "is no number" in bad.body.decode()) == (422, True)
    assert own_site.post(path, form).status == 303
    assert own_site.post(path, form).status == 409, "there is one already"
    edit = f"{POOL}/networks/dmz/change"
    form = form_of(own_site, edit)
    assert (form["vlan"], form["was-vlan"], form["was-mtu"]) == ("30", "30", "1500")
    form["vlan"] = "31"
    told = "&".join(f"{k}={quote(v)}" for k, v in form.items())
    assert "outlast network set dmz --vlan 31<" in own_site.get(
        f"{edit}?{told}", target="cli").body.decode()  # fmt: skip
    assert own_site.post(edit, form).status == 303
    again = own_site.post(edit, form)
    assert again.status == 409, "it has changed meanwhile"
    assert "VLAN 31" in own_site.get(f"{POOL}/networks").body.decode()
    own_site.post(f"{POOL}/networks/dmz/remove", form_of(own_site, f"{POOL}/networks/dmz/remove"))
    assert "dmz" not in own_site.get(f"{POOL}/networks").body.decode()


def test_storage_is_added_and_taken_away(own_site: Site) -> None:
    path = f"{POOL}/storage/add"
    form = form_of(own_site, path) | {"name": "slow", "source": "nas:/vms", "options": "vers=4.1"}
    told = "&".join(f"{k}={quote(v)}" for k, v in form.items())
    assert "outlast storage add slow nfs nas:/vms --option vers=4.1<" in own_site.get(
        f"{path}?{told}", target="cli").body.decode()  # fmt: skip
    assert own_site.post(path, form).status == 303
    assert "nas:/vms at /srv/slow" in own_site.get(f"{POOL}/storage").body.decode()
    remove = f"{POOL}/storage/slow/remove"
    assert "What is on it stays" in own_site.get(remove).body.decode()
    assert own_site.post(remove, form_of(own_site, remove)).status == 303
    assert "slow" not in own_site.get(f"{POOL}/storage").body.decode()


def test_an_image_is_imported_and_becomes_vms(own_site: Site) -> None:
    pool, path = own_site.pools["frankfurt-a"], f"{POOL}/images/import"
    form = form_of(own_site, path) | {"name": "alma", "source": "https://images.example/a.qcow2"}
    assert own_site.post(path, form).status == 303
    own_site.tell()
    own_site.until(f"{POOL}/images", "fetching alma · 40 %")
    pool.stock.imported("alma")
    own_site.tell()
    own_site.until("/tasks", "alma is imported")
    make = f"{POOL}/images/alma/template"
    form = form_of(own_site, make) | {"name": "web", "memory": "4GiB", "networks": "lan"}
    assert own_site.post(make, form).status == 303
    deploy = f"{POOL}/templates/web/deploy"
    first = form_of(own_site, deploy)
    assert (first["memory"], first["networks"], first["start"]) == ("4GiB", "lan", "1")
    data = "#cloud-config\npackages:\n  - nginx\n"
    form = first | {"name": "shop", "count": "3", "user_data": data}
    told = "&".join(f"{k}={quote(v)}" for k, v in form.items())
    said = own_site.get(f"{deploy}?{told}", target="cli").body.decode()
    assert (
        "outlast template deploy web shop --count 3 --memory 4GiB --vcpus 1 --network lan" in said
    )
    assert own_site.post(deploy, form).status == 303
    assert sorted(wish.name for _, wish in pool.deployed) == ["shop-1", "shop-2", "shop-3"]
    assert {wish.user_data for _, wish in pool.deployed} == {data}
    many = own_site.post(deploy, form | {"count": "1000"})
    assert (many.status, "Between 1 and 50 at once" in many.body.decode()) == (422, True)
    twice = own_site.post(deploy, form | {"count": "4"})
    assert "1 of 4 are being made; shop-1" in twice.body.decode()


def test_a_template_is_made_of_a_vm_on_its_page(own_site: Site) -> None:
    pool, vm = own_site.pools["frankfurt-a"], f"{POOL}/vms/db-prod-0018"
    assert f'href="{vm}/template"' in own_site.get(vm).body.decode()
    assert f'href="{vm}/template"' not in own_site.get(vm, "vera").body.decode()
    form = form_of(own_site, f"{vm}/template") | {"name": "golden", "note": "patched in May"}
    told = "&".join(f"{k}={quote(v)}" for k, v in form.items())
    said = own_site.get(f"{vm}/template?{told}", target="cli").body.decode()
    command = "outlast template create golden --from db-prod-0018 --note &#39;patched in May&#39;<"
    assert command in said
    assert own_site.post(f"{vm}/template", form).status == 303
    own_site.tell()
    page = own_site.until(f"{POOL}/images", "copying the disks of db-prod-0018 · 40 %")
    assert "outlast template cancel db-prod-0018" in page
    pool.stock.making["db-prod-0018"] = pool.stock.making["db-prod-0018"].model_copy(
        update={"state": "done", "sentence": "the template golden is made of db-prod-0018"}
    )
    own_site.tell()
    own_site.until("/tasks", "the template golden is made of db-prod-0018")


def test_a_disk_of_a_vm_moves_and_a_vm_is_backed_up(own_site: Site) -> None:
    """The buttons are for those who may; folders of hosts need a role on the pool."""
    vm, name, pool = f"{POOL}/vms/db-prod-0018", "db-prod-0018", own_site.pools["frankfurt-a"]
    assert f'href="{vm}/backup"' not in own_site.get(vm, "vera").body.decode()
    for verb, more, command in (
        ("move-disk", {"to": "fast"}, f"outlast vm move-disk {name} --to fast --disk 1<"),
        ("backup", {"folder": "/mnt/b", "keep": "7"}, f"outlast vm backup {name} /mnt/b --keep 7<"),
    ):
        assert f'href="{vm}/{verb}"' in own_site.get(vm).body.decode()
        form = form_of(own_site, f"{vm}/{verb}") | more
        told = urlencode(form)
        assert command in own_site.get(f"{vm}/{verb}?{told}", target="cli").body.decode()
        bad = form | {"disk": "x", "keep": "x"}
        assert own_site.post(f"{vm}/{verb}", bad).status == 422
        assert own_site.post(f"{vm}/{verb}", form).status == 303
    assert pool.stock.asked == [
        ("disk-move", name, {"to": "fast", "disk": 1}),
        ("backup", name, {"folder": "/mnt/b", "keep": 7}),
    ]
    own_site.tell()
    own_site.until("/tasks", f"the backup of {name} is done")


def test_what_is_on_its_way_is_cancelled_where_it_is_shown(own_site: Site) -> None:
    """Only by who may; what cannot be taken back has no button."""
    vm = f"{POOL}/vms/db-prod-0018"
    own_site.post(f"{vm}/migrate", form_of(own_site, f"{vm}/migrate"))
    own_site.tell()
    page = own_site.get("/tasks").body.decode()
    assert "outlast vm migrate db-prod-0018 --cancel" in page
    assert "Cancel</button>" not in own_site.get("/tasks", "vera").body.decode()
    action = re.search(r'action="(/tasks/[^"]+/cancel)"', page)
    assert action is not None
    assert own_site.post(action[1], who="vera").status == 403
    assert own_site.post(action[1]).status == 303


def test_an_import_is_cancelled_by_who_may_import(own_site: Site) -> None:
    path = f"{POOL}/images/import"
    form = form_of(own_site, path) | {"name": "alma", "source": "https://images.example/a.qcow2"}
    own_site.post(path, form)
    page = own_site.until(f"{POOL}/images", "fetching alma")
    own_site.pools["frankfurt-a"].change_host("fra-kvm-02", api="pretend:7791")
    own_site.tell()
    page = own_site.until(f"{POOL}/images", "by fra-kvm-02")
    assert "outlast --agent https://pretend:7791 image cancel alma" in page
    found = re.search(r'action="(/tasks/[0-9a-f]+/cancel)"', page)
    assert found and "Cancel the import" not in own_site.get(f"{POOL}/images", "vera").body.decode()
    assert own_site.post(found[1], {}, "vera").status == 403
    assert own_site.post(found[1]).status == 303
    own_site.tell()
    own_site.until("/tasks", "broken off by wish")
    assert own_site.post(found[1]).status == 409


def test_what_cannot_be_undone_wants_the_name_and_what_is_needed_stays(own_site: Site) -> None:
    path = f"{POOL}/images/debian-12/remove"
    form = form_of(own_site, path)
    assert own_site.post(path, form).status == 422
    assert own_site.post(path, form | {"typed": "debian-12"}).status == 303
    page = own_site.get(f"{POOL}/templates/small/remove").body.decode()
    assert "It is needed, and stays: disks of api-prod-0000 are on it" in page
    assert re.search(r"<button[^>]* disabled>Delete", page)


def test_each_sees_and_may_what_the_roles_say(own_site: Site) -> None:
    own_site.person("olga", Grant("own", POOL.removeprefix("/pools/")))
    page = own_site.get(f"{POOL}/images", "olga").body.decode()
    assert "Deploy" in page and "Import an image" not in page and "api-prod-0000" not in page
    page = own_site.get(f"{POOL}/images", "otto").body.decode()
    assert "Import an image" in page and "api-prod-0000" in page
    page = own_site.get(f"{POOL}/networks", "otto").body.decode()
    assert "New network" not in page, "networks are the pool's settings"
    own_site.person("nils", Grant("viewer", POOL.removeprefix("/pools/"), "db-*"))
    assert own_site.get(f"{POOL}/networks", "nils").status == 403
    assert own_site.get("/networks", "nils").status == 403


def test_disks_that_no_vm_names_are_shown_and_one_is_deleted(own_site: Site) -> None:
    page = own_site.get(f"{POOL}/storage").body.decode()
    at = f"{POOL}/orphans"
    assert f'hx-get="{at}" hx-trigger="load"' in page
    part = own_site.get(at, target="orphans").body.decode()
    assert "old-web.raw" in part and "2 disks, 43.0 GiB in all" in part and "<html" not in part
    assert "/remove" not in own_site.get(at, "vera").body.decode()
    path = f"{at}/fast:spare.qcow2/remove"
    dialog = own_site.get(path).body.decode()
    assert "nothing brings it back" in dialog and "outlast storage orphans --remove" in dialog
    form = {"seen": re.findall(r'name="seen" value="(\w+)"', dialog)[0]}
    assert own_site.post(path, form | {"typed": "spare.qcow2"}).status == 422
    assert own_site.post(path, form | {"typed": "fast:spare.qcow2"}, "otto").status == 403
    assert own_site.post(path, form | {"typed": "fast:spare.qcow2"}).status == 303
    left = own_site.pools["frankfurt-a"].stock.loose
    assert list(left) == ["old-web.raw"]
    assert own_site.get(path).status == 404


def test_a_series_says_how_many_of_it_fit(own_site: Site) -> None:
    at = f"{POOL}/templates/small/deploy"

    def said(**form: str) -> str:
        query = urlencode({"memory": "1GiB", "vcpus": "1", "count": "1"} | form)
        return own_site.get(f"{at}?{query}", target="cli").body.decode()

    assert "It would start on fra-kvm-" in said(name="web")
    assert "20 of 20 would find a place now" in said(name="new-[01-20]")
    assert "outlast template deploy small &#39;new-[01-20]&#39;" in said(name="new-[01-20]")
    assert "7 of 20 would find a place now" in said(name="big-[01-20]", memory="1000GiB")
    assert "No host has room" in said(name="huge", memory="9TiB")
    for nothing in ({"name": ""}, {"name": "x-[3-1]"}, {"name": "x", "memory": "much"}):
        assert 'role="status"' not in said(**nothing)
    own_site.person("maker", Grant("own", POOL.rpartition("/")[2]))
    hidden = own_site.get(f"{at}?name=web&memory=1GiB&vcpus=1&count=1", "maker", target="cli")
    assert hidden.status == 200 and "fra-kvm" not in hidden.body.decode()
    own_site.pools["frankfurt-a"].answers = False
    assert "outlast template deploy" in said(name="web")
