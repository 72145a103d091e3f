"""Pages of a pool's networks, storage, images and templates.

Rules: what is shown is what hosts say of themselves; silence is shown as not known. VMs are
named only to who may see them.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response

from outlast.errors import Refused
from outlast.manager import jobs
from outlast.manager.ports import PoolEntry, Task
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import drawn, fragment, html, pool_path, redirect
from outlast.manager.web.render import page as whole
from outlast.manager.web.stock import IMAGES, NETWORKS, ORPHANS, STORAGE, Said
from outlast.manager.web.wishes import dialogs_for

router = APIRouter()
TITLES = {NETWORKS: "Networks", STORAGE: "Storage", IMAGES: "Images and templates"}
LEADS = {
    NETWORKS: "A network for VMs is a bridge of its name on every host. Hosts make it by "
    "themselves, and call each other on it with packets of full size.",
    STORAGE: "The storage the pool lives on, and more for disks of VMs. Every host mounts it by "
    "itself, at the same place, and watches it.",
    IMAGES: "An image is imported once; a template says how large VMs of it are; VMs are linked "
    "clones of a template, there at once.",
}
COLLECTIONS = {NETWORKS: "networks", STORAGE: "storages", IMAGES: "images"}
ROWS = {"networks": "network", "storage": "storage", "images": "image", "templates": "template"}


def seen_pools(view: View) -> list[PoolEntry]:
    return [e for e in view.manager.reads.pools() if view.may("catalog", e.id)]


async def _any(view: View, what: str) -> Response:
    """Of the pool that comes first, whose page leads to the others."""
    pools = seen_pools(view)
    if not pools:
        raise Refused("you see the networks, storage and images of no pool",
                      hint="an administrator gives roles")  # fmt: skip
    return redirect(f"{pool_path(pools[0])}/{what}")


async def _one(view: View, what: str) -> Response:
    entry = view.manager.reads.pool(view.caller.pool_id)
    said = await view.room.stock.now(entry.id, what)
    values = {
        "entry": entry, "what": what, "title": TITLES[what], "lead": LEADS[what],
        "pools": seen_pools(view), "buttons": dialogs_for(view, COLLECTIONS[what], entry.id),
        **parts(view, entry.id, what, said),
    }  # fmt: skip
    return whole(view, "equipment.html", live=f"stock={entry.id}/{what}", **values)


@router.get("/pools/{pool}/orphans")
async def orphans(pool: str, view: Annotated[View, page("see")]) -> Response:
    """Disks that no VM names: the storage page asks for them once it is there."""
    pool_id = view.caller.pool_id
    said = await view.room.stock.now(pool_id, ORPHANS)
    rows = [(one, dialogs_for(view, "orphan", pool_id, one.name, one))
            for one in said.parts.get(ORPHANS, ())]  # fmt: skip
    made = fragment("_orphans.html", rows=rows, error=said.error, pool_id=pool_id, csrf=view.csrf)
    if view.partial:
        return html(made)
    return whole(view, "plain.html", title="Disks that no VM names", body=drawn(made))


@router.get("/pools/{pool}/images/upload")
async def upload(pool: str, view: Annotated[View, page("images")]) -> Response:
    """A file of this computer; static/upload.js sends it through the API."""
    return whole(view, "upload.html", entry=view.manager.reads.pool(view.caller.pool_id))


def parts(view: View, pool_id: str, what: str, said: Said) -> dict[str, Any]:
    """What the page and its stream both show: things with their buttons."""
    rows = {
        name: [(_seen(view, pool_id, one), dialogs_for(view, kind, pool_id, one.name, one))
               for one in said.parts.get(name, ())]
        for name, kind in ROWS.items()
    }  # fmt: skip
    return {"error": said.error, "imports": _imports(view, pool_id), "rows": rows,
            "pool_id": pool_id}  # fmt: skip


def stock_fragment(view: View, pool_id: str, what: str) -> dict[str, str]:
    """By id of the element; nothing while nobody has answered yet."""
    said = view.room.stock.glance(pool_id, what)
    if said is None or not view.may("catalog", pool_id):
        return {}
    return {"stock": fragment(f"_{what}.html", view=view, **parts(view, pool_id, what, said))}


def _seen(view: View, pool_id: str, info: Any) -> Any:
    vms = getattr(info, "vms", None)
    if not vms or view.scope.sees_pool(pool_id):
        return info
    return info.model_copy(update={"vms": [v for v in vms if view.scope.sees_vm(pool_id, v)]})


def _imports(view: View, pool_id: str) -> list[Task]:
    """Under way, or ended badly lately."""
    found = [t for t in view.manager.acts.tasks() if t.verb in jobs.KINDS]
    return [t for t in found if t.pool_id == pool_id and (not t.done or t.failed)][:5]


def _route(what: str) -> None:
    async def any_(view: Annotated[View, page()]) -> Response:
        return await _any(view, what)

    async def one(pool: str, view: Annotated[View, page("catalog")]) -> Response:
        return await _one(view, what)

    router.add_api_route(f"/{what}", any_, methods=["GET"])
    router.add_api_route(f"/pools/{{pool}}/{what}", one, methods=["GET"])


for _what in TITLES:
    _route(_what)
