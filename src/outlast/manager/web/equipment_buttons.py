"""Buttons about networks, storage, images and templates; the rules are those of buttons.py."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from dataclasses import replace

from outlast.errors import InvalidInput, OutlastError, PoolTrouble
from outlast.images.series import counted, series
from outlast.manager.ports import PoolEntry, Task
from outlast.manager.web import edits
from outlast.manager.web.buttons import ASK, TYPE, Aim, Button, plain
from outlast.manager.web.edits import Field
from outlast.manager.web.forms import Form
from outlast.placement.picture import Vm
from outlast.wire.equipment import (
    NetworkChange,
    NetworkInfo,
    NetworkWish,
    OrphanInfo,
    StorageInfo,
    StorageWish,
)
from outlast.wire.images import ImageImport, ImageInfo
from outlast.wire.shapes import VmStatus, make
from outlast.wire.sizes import MIB, parse_size, size_text
from outlast.wire.templates import TemplateDeploy, TemplateInfo, TemplateOfVm, TemplateWish

SERIES_MAX, AT_ONCE = 50, 4
NAME = Field("name", "Name", "", hint="a-z, 0-9 and -", required=True)
CARDS = (
    Field("uplink", "Card to other hosts", "--uplink", hint="like eno1; nothing: VMs of one host"),
    Field("uplinks_of", "Another card on some hosts", "--uplink-of", edits.as_words,
          hint="like b=ens3 c=ens4"),
    Field("vlan", "VLAN", "--vlan", edits.as_number, initial="0", hint="0: not tagged"),
    Field("mtu", "MTU", "--mtu", edits.as_number, initial="1500",
          hint="the largest packet; cards must have it"),
)  # fmt: skip
STORE = (
    NAME,
    Field("kind", "Kind", "", choices=(
        ("nfs", "nfs: NFS 4"), ("nfs3", "nfs3: NFS 3"), ("ocfs2", "ocfs2"), ("gfs2", "gfs2"),
        ("glusterfs", "glusterfs"), ("cephfs", "cephfs"),
        ("dir", "dir: something else mounts it, on every host")), initial="nfs"),
    Field("source", "Source", "", hint="nas:/export/vms, a,b:/volume or a device; none of a dir"),
    Field("path", "Where, on every host", "--path", hint="nothing: /srv/NAME"),
    Field("options", "Mount options", "--option", edits.as_words, hint="like vers=4.1; rarely any"),
)  # fmt: skip
IMPORT = (
    NAME,
    Field("source", "From", "", required=True,
          hint="an https address, or the name of a file in the folder import of the pool"),
    Field("sha256", "SHA-256 of the file", "--sha256", hint="what it must be, as sha256sum says"),
)  # fmt: skip
SIZES = (
    Field("memory", "Memory", "--memory", required=True, hint="like 2GiB"),
    Field("vcpus", "vCPUs", "--vcpus", edits.as_number),
    Field("networks", "Networks", "--network", edits.as_words, hint="names, like lan"),
)  # fmt: skip
NOTE = Field("note", "What people should know of it", "--note")
TEMPLATE = (NAME, *SIZES, NOTE)
DEPLOY = (
    Field("name", "Name", "", required=True, hint="or a series: web-[01-20]"),
    Field("count", "How many", "--count", edits.as_number, initial="1"),
    *SIZES,
    Field("user", "User", "--user", hint="made with the key, and sudo; nothing: the image's own"),
    Field("ssh_key", "SSH key", "--ssh-key", hint="ssh-ed25519 ...; may log in"),
    Field("user_data", "Your own user-data for cloud-init", "", lines=True,
          hint="#cloud-config ...; instead of user and host name"),
    Field("start", "Start", "", choices=(("1", "at once"), ("", "later")), initial="1"),
)  # fmt: skip


def _network(form: Form) -> dict[str, object]:
    """Raises BadField."""
    return {
        "uplink": form["uplink"], "uplinks_of": form["uplinks_of"].split(),
        "vlan": edits.as_number("vlan", form["vlan"] or "0"),
        "mtu": edits.as_number("mtu", form["mtu"] or "1500"),
    }  # fmt: skip


def _options(form: Form, fields: tuple[Field, ...]) -> str:
    """What the command would not do by itself."""
    said = ""
    for field in fields:
        value = form[field.name]
        if field.option and value != field.initial:
            words = value.split() if field.parse is edits.as_words else [value]
            said += "".join(f" {field.option} {shlex.quote(word)}" for word in words if word)
    return said


async def _create_network(to: Aim, form: Form) -> Task:
    wish = make(NetworkWish, name=form["name"], **_network(form))
    made: Task = await to.acts.create_network(to.pool_id, to.who, wish, address=to.address)
    return made


async def _change_network(to: Aim, form: Form) -> Task:
    change = make(NetworkChange, **edits.parsed(CARDS, form))
    made: Task = await to.acts.change_network(
        to.pool_id, to.name, to.who, change, before=edits.was(CARDS, form), address=to.address
    )
    return made


async def _add_storage(to: Aim, form: Form) -> Task:
    wish = make(
        StorageWish, name=form["name"], kind=form["kind"], source=form["source"],
        path=form["path"], options=form["options"].split(),
    )  # fmt: skip
    made: Task = await to.acts.add_storage(to.pool_id, to.who, wish, address=to.address)
    return made


async def _import(to: Aim, form: Form) -> Task:
    wish = make(ImageImport, source=form["source"], sha256=form["sha256"].lower())
    made: Task = await to.acts.import_image(
        to.pool_id, form["name"], to.who, wish, address=to.address
    )
    return made


async def _template(to: Aim, form: Form) -> Task:
    wish = make(
        TemplateWish, name=form["name"], image=to.name, note=form["note"],
        networks=form["networks"].split(), **_size(form),
    )  # fmt: skip
    made: Task = await to.acts.create_template(to.pool_id, to.who, wish, address=to.address)
    return made


async def _template_of_vm(to: Aim, form: Form) -> Task:
    wish = make(TemplateOfVm, name=form["name"], note=form["note"])
    made: Task = await to.acts.template_of_vm(to.pool_id, to.name, to.who, wish, address=to.address)
    return made


def _size(form: Form) -> dict[str, object]:
    """Raises BadField."""
    return {"memory": form["memory"], "vcpus": edits.as_number("vcpus", form["vcpus"] or "1")}


def _names(form: Form) -> list[str]:
    """Raises InvalidInput."""
    count = int(str(edits.as_number("count", form["count"] or "1")))
    names = series(form["name"]) if count == 1 else []
    if not 1 <= max(count, len(names)) <= SERIES_MAX:
        raise InvalidInput(f"between 1 and {SERIES_MAX} at once", hint="more: the command line")
    return names or counted(form["name"], count)


def wished_vms(form: Form) -> list[Vm]:
    """The VMs that a form would make, as placement sees them. Raises InvalidInput."""
    memory_mib = -(-parse_size(form["memory"]) // MIB)
    vcpus = edits.as_number("vcpus", form["vcpus"] or "1")
    networks = (form["networks"] or form["network"]).split()
    one = Vm("", memory_mib, int(str(vcpus)), networks=tuple(networks))
    return [replace(one, name=name) for name in _names(form)]


async def _deploy(to: Aim, form: Form) -> Task:
    """The last one's task. Raises what the first refusal says when not all were taken."""
    names, some = _names(form), asyncio.Semaphore(AT_ONCE)
    keys = form.all("ssh_key")
    more = {"user": form["user"], "ssh_keys": keys, "user_data": form.raw("user_data")}
    wish = make(
        TemplateDeploy, name=names[0], networks=form["networks"].split(), **_size(form), **more
    )

    async def one(name: str) -> Task:
        async with some:
            own = wish.model_copy(update={"name": name})
            made: Task = await to.acts.deploy(
                to.pool_id, to.who, to.name, own, start=bool(form["start"]), address=to.address
            )
            return made

    done = await asyncio.gather(*map(one, names), return_exceptions=True)
    wrong = [(n, e) for n, e in zip(names, done, strict=True) if isinstance(e, BaseException)]
    if not wrong:
        return next(task for task in reversed(done) if isinstance(task, Task))
    name, error = wrong[0]
    if len(names) == 1 or not isinstance(error, OutlastError):
        raise error
    raise PoolTrouble(
        f"{len(names) - len(wrong)} of {len(names)} are being made; {name}: {error.sentence}",
        hint=error.hint,
    )


def _deploy_command(name: str, form: Form) -> str:
    said = f"outlast template deploy {name} {shlex.quote(form['name'] or 'NAME')}"
    said += _options(form, DEPLOY)
    said += " --user-data FILE" if form["user_data"] else ""
    return said + " --start" * bool(form["start"])


def _storage_command(name: str, form: Form) -> str:
    words = [form["name"] or "NAME", form["kind"] or "nfs", form["source"]]
    said = " ".join(shlex.quote(word) for word in words if word)
    return f"outlast storage add {said}{_options(form, STORE)}"


def _import_command(name: str, form: Form) -> str:
    source = form["source"] or "FILE|URL"
    source = source if "/" in source or source == "FILE|URL" else f"import/{source}"
    name = shlex.quote(form["name"] or "NAME")
    return f"outlast image import {name} {shlex.quote(source)}{_options(form, IMPORT)}"


def _command(words: str) -> Callable[[str, Form], str]:
    return lambda name, form: f"outlast {words} {name}"


def _is(kind: type) -> Callable[[object], bool]:
    return lambda thing: isinstance(thing, kind)


def _alive(pool: object) -> bool:
    return isinstance(pool, PoolEntry) and not pool.stale


def values_of(fields: tuple[Field, ...], thing: object) -> dict[str, str]:
    """What a form says at first: of something new, or of what the thing is now."""
    first = {field.name: field.initial for field in fields}
    if isinstance(thing, NetworkInfo):
        return first | {"uplink": thing.uplink, "uplinks_of": " ".join(thing.uplinks_of),
                        "vlan": str(thing.vlan), "mtu": str(thing.mtu)}  # fmt: skip
    if isinstance(thing, ImageInfo):
        return first | {"memory": "2GiB", "vcpus": "1"}
    if isinstance(thing, TemplateInfo):
        return first | {
            "memory": size_text(thing.memory_mib * MIB).replace(" ", ""),
            "vcpus": str(thing.vcpus), "networks": " ".join(thing.networks),
        }  # fmt: skip
    return first


EQUIPMENT = (
    Button("networks", "create", "pool-set", "New network", "plus", ASK, _alive,
           lambda name, f: f"outlast network create {shlex.quote(f['name'] or 'NAME')}"
           + _options(f, CARDS), _create_network, "New network", fields=(NAME, *CARDS), main=True),
    Button("network", "change", "pool-set", "Edit", "adjustments", ASK, _is(NetworkInfo),
           lambda name, f: edits.command(f"outlast network set {name}", CARDS, f),
           _change_network, "Edit the network {name}", fields=CARDS),
    Button("network", "remove", "pool-set", "Remove", "trash", ASK, _is(NetworkInfo),
           _command("network remove"), plain("remove_network"), "Remove the network {name}?",
           "bad"),
    Button("storages", "add", "pool-set", "Add storage", "plus", ASK, _alive, _storage_command,
           _add_storage, "Add storage", fields=STORE, main=True),
    Button("storage", "remove", "pool-set", "Remove", "trash", ASK,
           lambda thing: isinstance(thing, StorageInfo) and not thing.own,
           _command("storage remove"), plain("remove_storage"), "Take {name} from the pool?",
           "bad"),
    Button("orphan", "remove", "pool-set", "Delete", "trash", TYPE, _is(OrphanInfo),
           lambda name, f: f"outlast storage orphans --remove {shlex.quote(name)}",
           plain("remove_orphan"), "Delete the disk {name}?", "bad"),
    Button("images", "import", "images", "Import an image", "plus", ASK, _alive, _import_command,
           _import, "Import an image", fields=IMPORT, main=True),
    Button("image", "template", "images", "Make a template", "plus", ASK, _is(ImageInfo),
           lambda name, f: f"outlast template create {shlex.quote(f['name'] or 'NAME')}"
           f" --image {name}" + _options(f, TEMPLATE), _template, "A template of {name}",
           fields=TEMPLATE),
    Button("vm", "template", "images", "Make a template", "photo", ASK,
           lambda vm: isinstance(vm, VmStatus) and vm.state in ("running", "stopped"),
           lambda name, f: f"outlast template create {shlex.quote(f['name'] or 'NAME')}"
           f" --from {name}" + _options(f, (NOTE,)), _template_of_vm, "A template of {name}",
           fields=(NAME, NOTE)),
    Button("image", "remove", "images", "Delete", "trash", TYPE, _is(ImageInfo),
           _command("image remove"), plain("remove_image"), "Delete the image {name}?", "bad"),
    Button("template", "deploy", "create", "Deploy", "player-play", ASK, _is(TemplateInfo),
           _deploy_command, _deploy, "VMs of {name}", fields=DEPLOY),
    Button("template", "remove", "images", "Delete", "trash", TYPE, _is(TemplateInfo),
           _command("template remove"), plain("remove_template"), "Delete the template {name}?",
           "bad"),
)  # fmt: skip
