"""Images that come from the caller: begun, sent in one or in many bodies, made an image.

The rules are those of manager/uploading.py. Only the whole is a wish with a task.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from outlast.manager import uploading
from outlast.manager.api.answers import ERRORS
from outlast.manager.api.gate import Caller, needs
from outlast.manager.api.once import Once, accepted
from outlast.wire.images import ImportWish, UploadStatus, UploadWish

router = APIRouter(tags=["images"])
PATH = "/pools/{pool}/images/{image}/upload"
OCTETS = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.post(PATH, responses=ERRORS)
async def begin_upload(
    pool: str, image: str, wish: UploadWish, caller: Annotated[Caller, needs("images")]
) -> UploadStatus:
    """Begin, or go on: the answer says how much of the same file is there already."""
    manager = caller.manager
    status = await uploading.begin(manager.reads, caller.pool_id, image, wish)
    if not status.got_bytes:
        await manager.people.audit(
            caller.person, "image-upload", f"{caller.pool_id}/{image}", address=caller.address,
            after=wish.model_dump_json(exclude_unset=True),
        )  # fmt: skip
    return status


@router.put(PATH, responses=ERRORS, openapi_extra={"requestBody": {"content": OCTETS}})
async def send_upload(
    pool: str, image: str, request: Request, caller: Annotated[Caller, needs("images")],
    offset: Annotated[int, Query(ge=0, lt=1 << 50, description="where the body belongs")],
) -> UploadStatus:  # fmt: skip
    """Some of the file, or all the rest of it; what is acknowledged is on the pool's storage."""
    reads = caller.manager.reads
    return await uploading.append(reads, caller.pool_id, image, offset, request.stream())


@router.post(f"{PATH}/import", **accepted())
async def import_upload(
    pool: str, image: str, wish: ImportWish, caller: Annotated[Caller, needs("images")], once: Once
) -> Response:
    """Make the image, once all of it is there; the task says how far it is."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.take_upload(caller.pool_id, image, who, wish, address=caller.address)
    )
