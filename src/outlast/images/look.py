"""What is this file? Answered before any program that knows image formats opens it.

Rules:
1. The format follows from the first bytes. What has no mark of any format is a raw disk.
2. An image that refers to anything outside itself is refused: backing files, external data files,
   extents and parents of VMDKs. It could make the host read any file it likes.
3. Web pages, packed files and formats that are not known here are refused with what to do.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import InvalidInput, NotFound, StorageTrouble
from outlast.images import qemu_img

SIZE_MAX = 64 << 40
HEAD = 4096
QCOW2, VMDK, RAW, OVA = "qcow2", "vmdk", "raw", "ova"
_EXTERNAL_DATA = 1 << 2  # incompatible feature of qcow2
_PACKED = {
    b"\x1f\x8b": "gunzip",
    b"\xfd7zXZ": "unxz",
    b"BZh": "bunzip2",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"PK\x03\x04": "unzip",
}
_FOREIGN = {b"conectix": "vpc", b"vhdxfile": "vhdx", b"COWD": "vmdk"}
_PREFIXES = ("json:", "nbd:", "http:", "ftp:", "ftps:", "ssh:", "iscsi:", "rbd:", "fat:", "driver=")


@dataclass(frozen=True, slots=True)
class Looked:
    """An image that may be taken: its format and the size of the disk it holds."""

    kind: str
    virtual_bytes: int


def sniff(path: Path) -> str:
    """The format of a file by its first bytes.

    Raises NotFound, InvalidInput for what is none that can be taken, StorageTrouble.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
            raise InvalidInput(f"{path} is {what}", hint="name the file of an image")
        with path.open("rb") as file:
            head = file.read(HEAD)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise StorageTrouble(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise InvalidInput(f"{path} is empty")
    for mark, tool in _PACKED.items():
        if head.startswith(mark):
            raise InvalidInput(f"{path} is packed", hint=f"unpack it first: {tool} {path.name}")
    for mark, name in _FOREIGN.items():
        if head.startswith(mark):
            hint = f"convert it first: qemu-img convert -f {name} -O qcow2 {path.name} disk.qcow2"
            raise InvalidInput(f"{path} is of a format that is not taken", hint=hint)
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise InvalidInput(
            f"{path} is a page of the web or XML, no image", hint="is the address right?"
        )
    if head.lstrip().startswith(b"# Disk DescriptorFile"):
        raise InvalidInput(
            f"{path} only says where the disk is, the disk itself is in other files",
            hint="export it as one file (OVA), or: qemu-img convert -f vmdk -O qcow2 ...",
        )
    if head.startswith(b"QFI\xfb"):
        return QCOW2
    if head.startswith(b"KDMV"):
        return VMDK
    return OVA if head[257:262] == b"ustar" else RAW


def look(path: Path, kind: str) -> Looked:
    """A disk image, held to rule 2. kind: as sniffed. Raises InvalidInput."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if kind == QCOW2:
        _check_qcow2(path, head)
    if kind == VMDK and len(head) >= 20 and struct.unpack_from("<Q", head, 12)[0] == 0:
        raise _outside(path, "its disk is in other files")
    found = qemu_img.info(path, kind)
    for key, what in (("backing-filename", "another image"), ("full-backing-filename", "one")):
        if found.get(key):
            raise _outside(path, f"it is only what changed against {what}")
    data = (found.get("format-specific") or {}).get("data") or {}
    if data.get("data-file"):
        raise _outside(path, "its disk is in another file")
    for extent in data.get("extents") or []:
        if Path(str(extent.get("filename"))) != path:
            raise _outside(path, "parts of its disk are in other files")
    if kind == VMDK and data.get("parent-cid", 0xFFFFFFFF) != 0xFFFFFFFF:
        raise _outside(path, "it is only what changed against another image")
    if found.get("encrypted"):
        raise InvalidInput(f"{path} is encrypted", hint="decrypt it first")
    size = int(found.get("virtual-size", 0))
    if not 0 < size <= SIZE_MAX:
        raise InvalidInput(f"{path} claims a disk of {size} bytes, which cannot be")
    return Looked(kind, size)


def check_source(text: str) -> Path:
    """The absolute path of a source that is no address. Raises InvalidInput, NotFound."""
    if text.lower().startswith(_PREFIXES):
        raise InvalidInput(
            f"{text[:60]!r} is neither a file nor an https address",
            hint="images are taken from files and from https://",
        )
    path = Path(text).absolute()
    if not path.exists():
        raise NotFound(f"there is no file {path}")
    return path


def backing_of(path: Path) -> str:
    """What a qcow2 file says it lies over, as written in it; "" for none or no qcow2.

    Only the header is read, so the file may be in use. Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
        if not head.startswith(b"QFI\xfb") or len(head) < 20:
            return ""
        offset, size = struct.unpack_from(">QI", head, 8)
        if not offset or size > 1023:
            return ""
        file.seek(offset)
        return file.read(size).decode(errors="replace")


def _check_qcow2(path: Path, head: bytes) -> None:
    if len(head) < 72:
        raise InvalidInput(f"{path} is cut off", hint="get it again")
    version, backing = struct.unpack_from(">IQ", head, 4)
    if backing:
        raise _outside(path, "it is only what changed against another image")
    if version >= 3 and struct.unpack_from(">Q", head, 72)[0] & _EXTERNAL_DATA:
        raise _outside(path, "its disk is in another file")


def _outside(path: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"{path} is not taken: {why}",
        hint="make it whole where those are: qemu-img convert -O qcow2 OLD WHOLE.qcow2",
    )
