"""OVA archives: a tar with a description (OVF) and the disks of one VM as VMDKs.

Rules:
1. Only ordinary files are taken out, under names of our own; links and paths in it mean nothing.
2. The disks are those the description refers to, in its order. Checksums it brings are checked.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from outlast.errors import InvalidInput
from outlast.images.pace import Pace, Progress, open_gently

TEXT_MAX, MEMBERS_MAX = 4 << 20, 64
_MANIFEST = re.compile(r"SHA(1|256|512) ?\(([^)]+)\) ?= ?([0-9a-fA-F]+)")


@dataclass(frozen=True, slots=True)
class _Archive:
    sizes: dict[str, int]  # of its ordinary files
    texts: dict[str, bytes]  # descriptions and manifests


def unpack(path: Path, folder: Path, pace: Pace, room: int, progress: Progress) -> list[Path]:
    """The disks of an OVA, in their order, as files in `folder`. Raises InvalidInput, OSError."""
    try:
        archive = _survey(path)
        wanted = _disks(path, archive)
        sums = _sums(archive)
        total = sum(archive.sizes[name] for name in wanted)
        if total > room:
            raise InvalidInput(f"there is no room to unpack {path}: {total >> 20} MiB")
        made: dict[str, Path] = {}
        done = 0
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isreg() and member.name in wanted and member.name not in made:
                    target = folder / f"unpacked-{wanted.index(member.name)}"
                    file = tar.extractfile(member)
                    assert file is not None
                    _copy(file, target, member.name, sums, pace, lambda count, so_far=done: (
                        progress("unpacking", so_far + count, total)
                    ))  # fmt: skip
                    made[member.name] = target
                    done += member.size
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInput(f"{path} is no whole OVA: {error}", hint="get it again") from error
    return [made[name] for name in wanted]


def _survey(path: Path) -> _Archive:
    archive = _Archive({}, {})
    with tarfile.open(path, "r:") as tar:
        for number, member in enumerate(tar):
            if number >= MEMBERS_MAX:
                raise InvalidInput(f"{path} holds too many files for an OVA")
            if not member.isreg() or member.name in archive.sizes:
                continue
            archive.sizes[member.name] = member.size
            if member.name.lower().endswith((".ovf", ".mf")):
                if member.size > TEXT_MAX:
                    raise InvalidInput(f"{path}: {member.name[:60]} is too large to be true")
                file = tar.extractfile(member)
                assert file is not None
                archive.texts[member.name] = file.read()
    size = path.stat().st_size
    if sum(archive.sizes.values()) > size:
        raise InvalidInput(f"{path} is cut off", hint="get it again")
    return archive


def _disks(path: Path, archive: _Archive) -> list[str]:
    text = next((t for n, t in archive.texts.items() if n.lower().endswith(".ovf")), None)
    if text is None:
        raise InvalidInput(f"{path} is a tar without a description of a VM, so no OVA")
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise InvalidInput(f"{path}: its description is not taken, it could expand without end")
    try:
        root = ET.fromstring(text)  # noqa: S314 - no entities, and not large
    except ET.ParseError as error:
        raise InvalidInput(f"{path}: its description is damaged: {error}") from error
    files, order = {}, []
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        here = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if tag == "File" and "id" in here and "href" in here:
            files[here["id"]] = here["href"]
        elif tag == "Disk" and "fileRef" in here:
            order.append(here["fileRef"])
    names = [files.get(ref, "") for ref in order]
    missing = [name for name in names if name not in archive.sizes]
    if not names or missing:
        what = f"{missing[0][:60]!r} is not in it" if missing else "it names no disks"
        raise InvalidInput(f"{path} is not complete: {what}")
    return list(dict.fromkeys(names))


def _sums(archive: _Archive) -> dict[str, tuple[str, str]]:
    texts = [t.decode(errors="replace") for n, t in archive.texts.items() if n.endswith(".mf")]
    found = (match for text in texts for match in _MANIFEST.finditer(text))
    return {match[2]: (f"sha{match[1]}", match[3].lower()) for match in found}


def _copy(
    file: IO[bytes], target: Path, name: str, sums: dict[str, tuple[str, str]], pace: Pace,
    told: object,
) -> None:  # fmt: skip
    kind, wanted = sums.get(name, ("sha256", ""))
    digest = hashlib.new(kind)
    count = 0
    with open_gently(target) as out:
        while data := file.read(pace.piece_bytes):
            digest.update(data)
            out.write(data)
            count += len(data)
            pace.took(len(data))
            if callable(told):
                told(count)
    if wanted and digest.hexdigest() != wanted:
        raise InvalidInput(f"{name[:60]} in the OVA is damaged: its checksum is another one")
