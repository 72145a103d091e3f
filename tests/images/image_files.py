"""Images as people bring them, and what must not be taken."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

CONTENT = b"the disk of a VM " * 4096


def qemu_img(*args: object) -> str:
    return subprocess.run(
        ["qemu-img", *map(str, args)], check=True, capture_output=True, text=True
    ).stdout


def raw(path: Path, mib: int = 1) -> Path:
    """A disk with something at its begin and noise at its end."""
    path.write_bytes(CONTENT)
    os.truncate(path, (mib << 20) - 65536)
    with path.open("ab") as file:
        file.write(os.urandom(65536))
    return path


def as_kind(source: Path, kind: str, *options: str) -> Path:
    target = source.with_suffix(f".{kind}")
    qemu_img("convert", "-f", "raw", "-O", kind, *options, source, target)
    return target


def same_disk(one: Path, kind: str, other: Path, other_kind: str) -> bool:
    return "identical" in qemu_img("compare", "-f", kind, "-F", other_kind, one, other)


OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://ovf.example/envelope/1"
          xmlns:ovf="http://ovf.example/envelope/1">
  <References>{files}</References>
  <DiskSection>{disks}</DiskSection>
</Envelope>
"""


def ova(path: Path, disks: list[Path], *, manifest: bool = True, text: str = "") -> Path:
    """An OVA of these VMDKs, the last disk's file first."""
    files = "".join(f'<File ovf:id="f{n}" ovf:href="{d.name}"/>' for n, d in enumerate(disks))
    refs = "".join(f'<Disk ovf:diskId="d{n}" ovf:fileRef="f{n}"/>' for n, _ in enumerate(disks))
    members = {"vm.ovf": (text or OVF.format(files=files, disks=refs)).encode()}
    if manifest:
        sums = [f"SHA256({d.name})= {hashlib.sha256(d.read_bytes()).hexdigest()}" for d in disks]
        members["vm.mf"] = "\n".join(sums).encode()
    members |= {d.name: d.read_bytes() for d in reversed(disks)}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def hidden(pool_dir: Path) -> list[str]:
    """What lies unfinished in a pool's library."""
    folder = pool_dir / "images/library"
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))
