"""Shapes of the agent's API about uploads of images, and its calls for the command line."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from pydantic import Field

from outlast.wire.client import AgentClient
from outlast.wire.disks import JobStatus
from outlast.wire.shapes import Answer, Request, parse


class UploadWish(Request):
    size_bytes: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class UploadStatus(Answer):
    name: str
    size_bytes: int
    got_bytes: int  # all of it on the pool's storage


class ImportWish(Request):
    rate_bytes_s: int = Field(default=48 << 20, ge=0)


class ImportStatus(JobStatus):
    name: str


class ImageClient:
    """Uploads, through one agent."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def begin(self, name: str, wish: UploadWish) -> UploadStatus:
        """Begin, or find out how much is there already. Raises Conflict, StorageTrouble."""
        raw = wish.model_dump_json().encode()
        return parse(UploadStatus, self._client.call("POST", _upload(name), raw))

    def send(self, name: str, offset: int, pieces: Iterator[bytes], length: int) -> UploadStatus:
        """Send from there on. Raises Unreachable when it breaks off: begin again, and go on."""
        path = f"{_upload(name)}?offset={offset}"
        return parse(UploadStatus, self._client.call("PUT", path, pieces, length))

    def take(self, name: str, wish: ImportWish) -> ImportStatus:
        """Make the image. Raises Conflict while something has not come yet."""
        raw = wish.model_dump_json().encode()
        return parse(ImportStatus, self._client.call("POST", f"{_upload(name)}/import", raw))

    def status(self, name: str) -> ImportStatus:
        """Raises NotFound."""
        return parse(ImportStatus, self._client.call("GET", f"{_upload(name)}/import"))


def _upload(name: str) -> str:
    return f"/v1/images/{quote(name, safe='')}/upload"
