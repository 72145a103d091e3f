"""The part of the agent's API that takes images in pieces, from machines that are no hosts.

Rules:
1. What has come is on the storage before the next piece is read, and stays when the connection
   breaks. Nothing larger than a piece is ever held in memory.
2. Pieces are taken no faster than the pool's own copies go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from outlast.agent.jobs import Job, Jobs
from outlast.agent.replies import json_of
from outlast.errors import InvalidInput
from outlast.images.pace import Pace
from outlast.images.uploads import Upload, Uploads
from outlast.wire.images import ImportStatus, ImportWish, UploadStatus, UploadWish
from outlast.wire.shapes import parse

PIECE, RATE_BYTES_S = 1 << 20, 48 << 20


class ImageApi:
    """Handlers of these calls; lives on the server's event loop."""

    def __init__(self, pool_dir: Path, blocking: Callable[..., Awaitable[Any]]) -> None:
        self._uploads, self._place = Uploads(pool_dir), pool_dir
        self._jobs: Jobs[ImportStatus] = Jobs("import")
        self._blocking = blocking

    def routes(self) -> list[web.RouteDef]:
        upload = "/v1/images/{name}/upload"
        return [
            web.post(upload, self._begin),
            web.put(upload, self._send),
            web.post(f"{upload}/import", self._take),
            web.get(f"{upload}/import", self._status),
        ]

    async def _begin(self, request: web.Request) -> web.Response:
        name, wish = request.match_info["name"], parse(UploadWish, await request.read())
        begin = lambda: self._uploads.begin(name, wish.size_bytes, wish.sha256)  # noqa: E731
        return json_of(_shape(await self._blocking(begin)))

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
            if len(waiting) >= PIECE:
                at = await self._blocking(lambda d=bytes(waiting), a=at: keep(d, a))
                waiting.clear()
        if waiting:
            at = await self._blocking(lambda: keep(bytes(waiting), at))
        return json_of(_shape(await self._blocking(lambda: self._uploads.get(name))))

    async def _take(self, request: web.Request) -> web.Response:
        name, wish = request.match_info["name"], parse(ImportWish, await request.read() or b"{}")
        await self._blocking(lambda: self._uploads.get(name))

        def work(job: Job[ImportStatus]) -> None:
            def progress(what: str, done: int, all_: int) -> None:
                job.tell(sentence=f"{what} {name}", done_bytes=done, total_bytes=all_)

            self._uploads.take(name, wish.rate_bytes_s, progress)
            job.tell(state="done", sentence=f"{name} is imported")

        first = ImportStatus(name=name, state="running", sentence=f"{name} is being imported")
        return json_of(self._jobs.begin(name, first, work, self._place), 202)

    async def _status(self, request: web.Request) -> web.Response:
        return json_of(self._jobs.status(request.match_info["name"]))


def _shape(upload: Upload) -> UploadStatus:
    return UploadStatus(name=upload.name, size_bytes=upload.size_bytes, got_bytes=upload.got_bytes)
