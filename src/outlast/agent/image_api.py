"""The part of the agent's API about images: the library, imports, and uploads in pieces from
machines that are no hosts.

Rules:
1. What has come is on the storage before the next piece is read, and stays when the connection
   breaks. Nothing larger than a piece is ever held in memory.
2. Pieces are taken no faster than the pool's own copies go.
3. Callers name no paths of hosts: an import is of an address, or of a file that an administrator
   put into the folder `import` of the pool's storage.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from outlast.agent.jobs import Job, Jobs
from outlast.agent.replies import json_list, json_of
from outlast.errors import Conflict, InvalidInput, NotFound
from outlast.images import fetch
from outlast.images.library import Library
from outlast.images.pace import RATE_BYTES_S, Pace, Progress
from outlast.images.uploads import Upload, Uploads
from outlast.storage.access import is_shared
from outlast.storage.names import check_name
from outlast.wire.images import (
    ImageImport,
    ImageInfo,
    ImportStatus,
    ImportWish,
    UploadStatus,
    UploadWish,
)
from outlast.wire.shapes import PoolWish, parse

DROP = "import"  # of the pool's storage: files to be imported


class ImageApi:
    """Handlers of these calls; lives on the server's event loop."""

    def __init__(self, pool_dir: Path, blocking: Callable[..., Awaitable[Any]]) -> None:
        self._uploads, self._place = Uploads(pool_dir), pool_dir
        self._library = Library(pool_dir)
        self._jobs: Jobs[ImportStatus] = Jobs("import")
        self._blocking = blocking

    def routes(self) -> list[web.RouteDef]:
        image = "/v1/images/{name}"
        upload = f"{image}/upload"
        return [
            web.get("/v1/images", self._all),
            web.delete(image, self._remove),
            web.post(f"{image}/import", self._import),
            web.get(f"{image}/import", self._status),
            web.delete(f"{image}/import", self._give_up),
            web.post(upload, self._begin),
            web.put(upload, self._send),
            web.post(f"{upload}/import", self._take),
        ]

    async def _all(self, _: web.Request) -> web.Response:
        library = self._library
        return json_list(
            await self._blocking(lambda: [ImageInfo(**library.told(one)) for one in library.all()])
        )

    async def _remove(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        await self._blocking(lambda: self._library.remove(name))
        return json_of(PoolWish(changed=True, sentence=f"the image {name} is deleted"))

    async def _import(self, request: web.Request) -> web.Response:
        name, wish = request.match_info["name"], parse(ImageImport, await request.read())
        source = await self._blocking(lambda: self._checked(name, wish))

        def work(job: Job[ImportStatus]) -> None:
            self._library.take(
                name, source, sha256=wish.sha256, rate_bytes_s=wish.rate_bytes_s,
                progress=_telling(name, job), told=wish.source,
            )  # fmt: skip
            job.tell(state="done", sentence=f"{name} is imported")

        return json_of(self._jobs.begin(name, _first(name), work, self._place), 202)

    def _checked(self, name: str, wish: ImageImport) -> str:
        """Where it is taken from (rule 3). Raises InvalidInput, NotFound, Conflict."""
        if not is_shared(self._place):
            raise InvalidInput("this pool has no shared file system, so it has no images")
        check_name(name, "image name")
        if any(image.name == name for image in self._library.all()):
            raise Conflict(f"there is an image '{name}' already", hint="take another name")
        source = wish.source
        if fetch.is_address(source):
            fetch.check_address(source, wish.sha256)
            return source
        folder = self._place / DROP
        file = folder / source
        if file.parent != folder or file.is_symlink() or source in {"", ".", ".."}:
            raise InvalidInput(
                f"{source[:80]!r} is neither an https address nor a file in {folder}",
                hint="put it there, and say its name alone",
            )
        if not file.is_file():
            raise NotFound(f"there is no file {file}", hint="put it there first")
        return str(file)

    async def _give_up(self, request: web.Request) -> web.Response:
        return json_of(self._jobs.give_up(request.match_info["name"]))

    async def _begin(self, request: web.Request) -> web.Response:
        name, wish = request.match_info["name"], parse(UploadWish, await request.read())
        size, sha256, key = wish.size_bytes, wish.sha256, wish.key
        found = await self._blocking(lambda: self._uploads.begin(name, size, sha256, key))
        return json_of(_shape(found))

    async def _send(self, request: web.Request) -> web.Response:
        name, text = request.match_info["name"], request.query.get("offset", "")
        if not text.isdigit() or len(text) > 15:
            raise InvalidInput(f"offset: {text[:40]!r} is no number")
        at, pace = int(text), Pace(RATE_BYTES_S)

        def keep(data: bytes, at: int) -> int:
            pace.took(len(data))
            return self._uploads.append(name, at, data)

        waiting = bytearray()
        async for data in request.content.iter_any():
            waiting += data
            if len(waiting) >= pace.piece_bytes:
                at = await self._blocking(lambda d=bytes(waiting), a=at: keep(d, a))
                waiting.clear()
        if waiting:
            at = await self._blocking(lambda: keep(bytes(waiting), at))
        return json_of(_shape(await self._blocking(lambda: self._uploads.get(name))))

    async def _take(self, request: web.Request) -> web.Response:
        name, wish = request.match_info["name"], parse(ImportWish, await request.read() or b"{}")
        await self._blocking(lambda: self._uploads.whole(name))

        def work(job: Job[ImportStatus]) -> None:
            self._uploads.take(name, wish.rate_bytes_s, _telling(name, job))
            job.tell(state="done", sentence=f"{name} is imported")

        return json_of(self._jobs.begin(name, _first(name), work, self._place), 202)

    async def _status(self, request: web.Request) -> web.Response:
        return json_of(self._jobs.status(request.match_info["name"]))


def _first(name: str) -> ImportStatus:
    return ImportStatus(name=name, state="running", sentence=f"{name} is being imported")


def _telling(name: str, job: Job[ImportStatus]) -> Progress:
    """Progress that a job tells; it is broken off there, too."""

    def progress(what: str, done: int, all_: int) -> None:
        job.check()
        job.tell(sentence=f"{what} {name}", done_bytes=done, total_bytes=all_)

    return progress


def _shape(upload: Upload) -> UploadStatus:
    return UploadStatus(name=upload.name, size_bytes=upload.size_bytes, got_bytes=upload.got_bytes)
