"""What VMs of a pool are made of: images and templates. What both share is in catalog.py."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from outlast.manager.api.catalog import all_of, one_of, unchanged
from outlast.manager.api.gate import Caller, needs
from outlast.manager.api.match import IfMatch
from outlast.manager.api.once import Once, accepted
from outlast.manager.api.paging import Asked, Page, asked
from outlast.wire.images import ImageImport, ImageInfo
from outlast.wire.templates import TemplateDeploy, TemplateInfo, TemplateOfVm, TemplateWish

router = APIRouter()


class ImportBody(ImageImport):
    name: str


class TemplateDeployBody(TemplateDeploy):
    start: bool = False  # and start it once it is there


@router.get("/pools/{pool}/images", tags=["images"])
async def list_images(
    pool: str, caller: Annotated[Caller, needs("catalog")], how: Annotated[Asked, asked()]
) -> Page[ImageInfo]:
    """Disk images that templates can be made of."""
    found = await all_of(caller, caller.manager.reads.images)
    keys = {"name": lambda i: i.name, "size": lambda i: i.virtual_bytes,
            "created": lambda i: i.created_wall_s}  # fmt: skip
    return how.page(found, keys, lambda image: image)


@router.get("/pools/{pool}/images/{image}", tags=["images"])
async def one_image(
    pool: str, image: str, caller: Annotated[Caller, needs("catalog")], response: Response
) -> ImageInfo:
    """One image; its ETag serves If-Match."""
    return await one_of(caller, caller.manager.reads.images, image, response)


@router.post("/pools/{pool}/images", tags=["images"], **accepted())
async def import_image(
    pool: str, wish: ImportBody, caller: Annotated[Caller, needs("images")], once: Once
) -> Response:
    """From an https address, or a file in the folder `import` of the pool's storage.

    Takes as long as it takes: the task says how far it is, and can be cancelled.
    """
    acts, who = caller.manager.acts, caller.person.name
    plain = ImageImport(**wish.model_dump(exclude={"name"}, exclude_unset=True))
    return await once(
        lambda: acts.import_image(caller.pool_id, wish.name, who, plain, address=caller.address)
    )


@router.delete("/pools/{pool}/images/{image}", tags=["images"], **accepted())
async def remove_image(
    pool: str, image: str, caller: Annotated[Caller, needs("images")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Templates that were made of it keep what they need."""
    await unchanged(caller, caller.manager.reads.images, image, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(lambda: acts.remove_image(caller.pool_id, image, who, address=caller.address))


@router.get("/pools/{pool}/templates", tags=["templates"])
async def list_templates(
    pool: str, caller: Annotated[Caller, needs("catalog")], how: Annotated[Asked, asked()]
) -> Page[TemplateInfo]:
    """Of which VMs can be made."""
    found = await all_of(caller, caller.manager.reads.templates)
    keys = {"name": lambda t: t.name, "memory": lambda t: t.memory_mib,
            "vms": lambda t: len(t.vms), "created": lambda t: t.created_wall_s}  # fmt: skip
    return how.page(found, keys, lambda template: template)


@router.get("/pools/{pool}/templates/{template}", tags=["templates"])
async def one_template(
    pool: str, template: str, caller: Annotated[Caller, needs("catalog")], response: Response
) -> TemplateInfo:
    """One template; its ETag serves If-Match."""
    return await one_of(caller, caller.manager.reads.templates, template, response)


@router.post("/pools/{pool}/templates", tags=["templates"], **accepted())
async def create_template(
    pool: str, wish: TemplateWish, caller: Annotated[Caller, needs("images")], once: Once
) -> Response:
    """Of an image; both share their files."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.create_template(caller.pool_id, who, wish, address=caller.address)
    )


@router.post("/pools/{pool}/vms/{vm}/template", tags=["templates"], **accepted())
async def template_of_vm(
    pool: str, vm: str, wish: TemplateOfVm, caller: Annotated[Caller, needs("images")], once: Once
) -> Response:
    """Of a VM, which runs or not: its disks are copied, and it goes on as it is.

    Takes as long as it takes: the task says how far it is, and can be cancelled.
    """
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.template_of_vm(caller.pool_id, caller.vm, who, wish, address=caller.address)
    )


@router.delete("/pools/{pool}/templates/{template}", tags=["templates"], **accepted())
async def remove_template(
    pool: str, template: str, caller: Annotated[Caller, needs("images")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """One with linked clones stays."""
    await unchanged(caller, caller.manager.reads.templates, template, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.remove_template(caller.pool_id, template, who, address=caller.address)
    )


@router.post("/pools/{pool}/templates/{template}/deploy", tags=["templates"], **accepted())
async def deploy(
    pool: str, template: str, wish: TemplateDeployBody, caller: Annotated[Caller, needs("create")],
    once: Once,
) -> Response:  # fmt: skip
    """A new VM, its disks linked clones; stopped, unless `start` is true."""
    acts, plain = caller.manager.acts, wish.model_dump(exclude={"start"}, exclude_unset=True)
    return await once(
        lambda: acts.deploy(
            caller.pool_id, caller.person.name, template, TemplateDeploy(**plain),
            start=wish.start, address=caller.address,
        )
    )  # fmt: skip
