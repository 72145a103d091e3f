"""Gets a file over https: resumed where it was broken off, never faster than allowed.

Beside the part, NAME.json says whose part it is (address, the server's mark of the version) and how
much of it is certainly on the disk.

Rules:
1. Plain http is taken only when the caller knows the checksum; redirects lead to https only.
2. A part goes on only when the server says that the file is still the same (If-Range); else it
   begins again. What was not noted before the end of the last try is fetched again.
3. A broken connection is tried again as long as each try brings something.
4. More than announced, or more than there is room for, is refused early.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from outlast.errors import InvalidInput, NotFound, StorageTrouble, Unreachable
from outlast.images.pace import Pace, Progress, open_gently
from outlast.storage.files import trouble_of

NOTE_BYTES = 8 << 20  # how often the part's note is written anew
PATIENCE_S, TRIES, PAUSE_S = 30.0, 5, 1.0
PART = "source.part"


@dataclass(frozen=True, slots=True)
class Part:
    """How far a file is. total: 0 = the server does not say."""

    url: str
    mark: str = ""  # ETag or Last-Modified; "" = it cannot be resumed
    total: int = 0
    safe: int = 0  # bytes that are certainly on the disk


class _Broken(Exception):
    """The connection broke; trying again may help."""


def is_address(text: str) -> bool:
    return text.lower().startswith(("https://", "http://"))


def check_address(url: str, sha256: str) -> None:
    """Raises InvalidInput for one that is not taken."""
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname or any(c.isspace() or ord(c) < 33 for c in url):
        raise InvalidInput(f"{url[:80]!r} is no address")
    if parts.username or parts.password:
        raise InvalidInput("a password in an address would be kept and shown", hint="leave it out")
    if parts.scheme.lower() == "http" and not sha256:
        raise InvalidInput(
            "over http anybody on the way can change the file",
            hint="use https, or say what it must be: --sha256 HEX",
        )


def fetch(url: str, folder: Path, pace: Pace, room: int, progress: Progress) -> Path:
    """The file at an address, in `folder`; goes on with a part that is there already.

    room: bytes that may be written. Raises NotFound, Unreachable, InvalidInput, StorageTrouble.
    """
    path = folder / PART
    fruitless, had = 0, -1
    while True:
        try:
            _try(url, path, pace, room, progress)
            return path
        except _Broken as error:
            part = _known(path, url)
            fruitless = 0 if part.safe > had else fruitless + 1
            had = part.safe
            if fruitless >= TRIES:
                raise Unreachable(
                    f"{url} broke off {TRIES} times: {error}",
                    hint="do it again later: it goes on where it was",
                ) from error
            time.sleep(PAUSE_S)
        except OSError as error:
            raise trouble_of(error, path) from error


def _known(path: Path, url: str) -> Part:
    """The part that is there, cut to what is safe."""
    try:
        part = Part(**json.loads(path.with_suffix(".json").read_text()))
        if part.url == url and part.mark and path.stat().st_size >= part.safe:
            return part
    except (OSError, ValueError, TypeError):
        pass
    return Part(url)


def _note(path: Path, part: Part) -> None:
    about, fresh = path.with_suffix(".json"), path.with_suffix(".json.new")
    fresh.write_text(json.dumps(asdict(part)))
    fresh.replace(about)


def _try(url: str, path: Path, pace: Pace, room: int, progress: Progress) -> None:
    part = _known(path, url)
    with contextlib.closing(_open(url, part)) as answer:
        part = _begun(answer, part)
        if part.total > room:
            raise StorageTrouble(
                f"{url} has {part.total >> 20} MiB, there is room for {max(0, room) >> 20} MiB",
                hint="free some space on the pool's storage",
            )
        with open_gently(path) as file:
            file.truncate(part.safe)
            file.seek(part.safe)
            _note(path, part)
            _receive(answer, file, path, part, pace, room, progress)


def _open(url: str, part: Part) -> http.client.HTTPResponse:
    headers = {"User-Agent": "outlast", "Accept-Encoding": "identity"}
    if part.safe:
        headers |= {"Range": f"bytes={part.safe}-", "If-Range": part.mark}
    opener = urllib.request.build_opener(
        _Careful(), urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - checked before
        answer: http.client.HTTPResponse = opener.open(request, timeout=PATIENCE_S)
        return answer
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500 or error.code in {408, 429}:
            raise _Broken(f"the server says {error.code}") from error
        if error.code == 416:
            part_gone = "the part that is here does not fit the file there any more"
            raise InvalidInput(part_gone, hint="do it again: it begins anew") from error
        raise NotFound(f"{url}: the server says {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise Unreachable(
                f"{url}: the server's certificate is not trusted ({error.reason.verify_message})",
                hint="is it the right server? its authority belongs in /etc/ssl/certs",
            ) from error
        raise _Broken(str(error.reason)) from error
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _Broken(str(error) or type(error).__name__) from error


def _begun(answer: http.client.HTTPResponse, part: Part) -> Part:
    """What is coming: the rest of the part, or the whole file anew."""
    length = int(answer.headers.get("Content-Length") or 0)
    if answer.status == 206:
        start = (answer.headers.get("Content-Range") or "").removeprefix("bytes ").partition("-")[0]
        if start != str(part.safe):
            raise InvalidInput("the server sent another part than was asked for")
        return part
    weak = (answer.headers.get("ETag") or "").startswith("W/")
    mark = "" if weak else answer.headers.get("ETag") or ""
    return Part(part.url, mark or answer.headers.get("Last-Modified") or "", length)


def _receive(
    answer: http.client.HTTPResponse, file: IO[bytes], path: Path, part: Part, pace: Pace,
    room: int, progress: Progress,
) -> None:  # fmt: skip
    done = unnoted = 0
    broken: Exception | None = None
    while broken is None:
        try:
            data = answer.read(pace.piece_bytes)
        except (http.client.HTTPException, OSError) as error:
            data, broken = b"", error
        if not data:
            break
        if part.safe + done + len(data) > room:
            raise StorageTrouble("the file is larger than the room there is for it")
        file.write(data)
        done, unnoted = done + len(data), unnoted + len(data)
        progress("fetching", part.safe + done, part.total)
        pace.took(len(data))
        if unnoted >= NOTE_BYTES:
            _keep(file, path, part, done)
            unnoted = 0
    _keep(file, path, part, done)
    if broken is not None:
        raise _Broken(str(broken) or type(broken).__name__)
    if part.total and part.safe + done != part.total:
        raise _Broken(f"{part.safe + done} of {part.total} bytes came")


def _keep(file: IO[bytes], path: Path, part: Part, done: int) -> None:
    file.flush()
    _note(path, Part(part.url, part.mark, part.total, part.safe + done))


class _Careful(urllib.request.HTTPRedirectHandler):
    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ):
        if not newurl.lower().startswith("https://") and req.full_url.lower().startswith("https:"):
            raise InvalidInput(f"the server leads away from https, to {newurl[:80]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
