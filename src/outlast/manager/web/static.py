"""Scripts, styles, icons and the font: read once, served compressed, cached for good.

Their address holds a hash of all of them, so a browser never mixes two versions. Nothing outside
this folder can be asked for: names are looked up, not opened.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from outlast.errors import NotFound

router = APIRouter()
FOLDER = Path(__file__).parent / "static"
KINDS = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True, slots=True)
class File:
    kind: str
    raw: bytes
    packed: bytes  # b"" where packing does not help


def _load() -> dict[str, File]:
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in KINDS:
            raw = path.read_bytes()
            packed = b"" if path.suffix == ".woff2" else gzip.compress(raw, 9, mtime=0)
            found[path.relative_to(FOLDER).as_posix()] = File(KINDS[path.suffix], raw, packed)
    return found


FILES = _load()
VERSION = hashlib.sha256(b"".join(f.raw for f in FILES.values())).hexdigest()[:12]


def address(name: str) -> str:
    """Where a file is served. KeyError for one that is not there."""
    assert name in FILES, name
    return f"/static/{VERSION}/{name}"


@router.get("/static/{version}/{name:path}")
async def static_file(version: str, name: str, request: Request) -> Response:
    found = FILES.get(name)
    if found is None:
        raise NotFound(f"there is no file {name[:80]!r}")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if version != VERSION:  # a page of another version: give it what there is, but do not keep it
        headers["Cache-Control"] = "no-store"
    if found.packed and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.packed, media_type=found.kind, headers=headers)
    return Response(found.raw, media_type=found.kind, headers=headers)


@router.get("/favicon.ico")
async def icon() -> Response:
    return Response(FILES["icon.svg"].raw, media_type="image/svg+xml")
