"""Shapes and calls of the agent's API about images: the library, imports, uploads."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from pydantic import Field

from outlast.wire.client import AgentClient
from outlast.wire.disks import JobStatus
from outlast.wire.shapes import Answer, PoolWish, Request, parse, parse_list


class UploadWish(Request):
    """What will come. One that begins with the same goes on where the last one was broken off."""

    size_bytes: int = Field(gt=0)
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")  # what it must be
    key: str = Field(default="", max_length=300)  # of the file, for who does not know its SHA-256


class UploadStatus(Answer):
    name: str
    size_bytes: int
    got_bytes: int  # all of it on the pool's storage


class ImportWish(Request):
    rate_bytes_s: int = Field(default=48 << 20, ge=0)


class ImportStatus(JobStatus):
    name: str


class ImageInfo(Answer):
    """A disk image of the pool's library."""

    name: str
    disks: int
    virtual_bytes: int
    stored_bytes: int  # what it takes on the storage
    source: str  # it came from
    kind: str  # format of the source
    sha256: str  # of the source
    created_wall_s: float
    by_host: str  # that imported it
    files: list[str] = Field(default=[])  # of its disks, on the pool's storage


class ImageImport(Request):
    """An image from elsewhere: an https address, or the name of a file in the pool's `import`."""

    source: str = Field(min_length=1, max_length=2000)
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    rate_bytes_s: int = Field(default=48 << 20, ge=0)


class ImageClient:
    """Through one agent."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def all(self) -> list[ImageInfo]:
        """By name. Raises StorageTrouble."""
        return parse_list(ImageInfo, self._client.call("GET", "/v1/images"))

    def import_(self, name: str, wish: ImageImport) -> ImportStatus:
        """Begin an import by that agent's host. Raises Conflict, InvalidInput, NotFound."""
        raw = wish.model_dump_json(exclude_unset=True).encode()
        return parse(ImportStatus, self._client.call("POST", f"{_image(name)}/import", raw))

    def importing(self, name: str) -> ImportStatus:
        """Raises NotFound when that agent has begun none."""
        return parse(ImportStatus, self._client.call("GET", f"{_image(name)}/import"))

    def give_up(self, name: str) -> ImportStatus:
        """Break off what that agent imports. Raises NotFound."""
        return parse(ImportStatus, self._client.call("DELETE", f"{_image(name)}/import"))

    def remove(self, name: str) -> PoolWish:
        """Raises NotFound."""
        return parse(PoolWish, self._client.call("DELETE", _image(name)))

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


def _image(name: str) -> str:
    return f"/v1/images/{quote(name, safe='')}"


def _upload(name: str) -> str:
    return f"{_image(name)}/upload"
