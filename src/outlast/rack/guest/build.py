"""Builds the proving guests.

Promises: `build` needs gcc and ld only, no 32-bit libraries, and takes under a second; nothing is
built twice from the same sources; a file is complete or absent, also after kill -9 and with two
builders at once. `build_demo` downloads two packages the first time (about 28 MB).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import NotFound, OutlastError, StorageTrouble
from outlast.rack.guest import distro, initramfs

SOURCE_DIR = Path(__file__).parent
PULSAR_PARTS = ("platform", "serial", "clock", "disk", "entropy", "signer", "pulsar")
PULSAR_FLAGS = (
    *("-m32", "-march=i686", "-mgeneral-regs-only", "-Os", "-std=gnu11", "-Wall", "-Wextra"),
    *("-ffreestanding", "-fno-pic", "-fno-pie", "-fno-stack-protector", "-fcf-protection=none"),
    *("-fno-asynchronous-unwind-tables", "-nostdlib", "-static", "-no-pie", "-s"),
    *("-Wl,-N", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-T,pulsar.ld"),
)
SENTINEL_PARTS = ("signer", "sentinel")
SENTINEL_FLAGS = ("-static", "-Os", "-s", "-std=gnu11", "-Wall", "-Wextra")


@dataclass(frozen=True, slots=True)
class Demo:
    """Files of the Linux guest: kernel and initramfs, for direct kernel boot."""

    kernel: Path
    initrd: Path


def build(out_dir: Path) -> Path:
    """Makes `out_dir`/pulsar.elf, a 32-bit multiboot kernel, and returns its path.

    Raises NotFound without gcc, StorageTrouble when `out_dir` cannot be written, OutlastError when
    the compiler refuses.
    """
    target = out_dir / "pulsar.elf"
    key = _key(PULSAR_FLAGS)
    if _is_current((target,), key):
        return target
    with _workshop(out_dir) as folder:
        elf = _compile(PULSAR_PARTS, PULSAR_FLAGS, Path(folder))
        _publish({target: elf}, key)
    return target


def build_demo(out_dir: Path, *, agent: bool = False) -> Demo:
    """Makes `out_dir`/sentinel.kernel and `out_dir`/sentinel.initrd.

    agent: with QEMU's guest agent, and a file system on /dev/vdb that it can bring to rest
    (agent.sh). Raises NotFound naming what cannot be had (compiler, package, package source), else
    as `build`.
    """
    name = "sentinel-agent" if agent else "sentinel"
    demo = Demo(out_dir / f"{name}.kernel", out_dir / f"{name}.initrd")
    key = _key(SENTINEL_FLAGS)  # without the packages: a newer kernel is no reason to build again
    if _is_current((demo.kernel, demo.initrd), key):
        return demo
    packages = distro.resolve()
    with _workshop(out_dir) as workshop:
        folder = Path(workshop)
        sentinel = _compile(SENTINEL_PARTS, SENTINEL_FLAGS, folder)
        modules = distro.MODULES + (distro.AGENT_MODULES if agent else ())
        found = distro.fetch_kernel(packages, folder, modules)
        busybox = distro.fetch_busybox(folder)
        entries = [*_demo_entries(sentinel, busybox, found)]
        if agent:
            entries += _agent_entries(distro.fetch_agent(folder))
        initrd = initramfs.pack(entries)
        _publish({demo.kernel: found.image, demo.initrd: initrd}, key)
    return demo


def _demo_entries(
    sentinel: bytes, busybox: bytes, found: distro.Kernel
) -> Iterable[initramfs.Entry]:
    for path in ("dev", "proc", "sys", "tmp", "bin", "modules"):
        yield initramfs.folder(path)
    yield initramfs.character_device("dev/console", 5, 1)
    yield initramfs.program("init", sentinel)
    yield initramfs.program("bin/busybox", busybox)
    names = "".join(f"{name}\n" for name in _module_names(found))
    yield initramfs.plain("modules/list", names.encode())
    for name, (_, content) in zip(_module_names(found), found.modules, strict=True):
        yield initramfs.plain(f"modules/{name}", content)


def _agent_entries(files: dict[str, bytes]) -> Iterable[initramfs.Entry]:
    folders = {str(above) for path in files for above in Path(path).parents}
    for path in sorted({*folders, "data"} - {".", "bin"}):
        yield initramfs.folder(path)
    for path, content in files.items():
        yield initramfs.program(path, content)
    yield initramfs.program("agent", (SOURCE_DIR / "agent.sh").read_bytes())


def _module_names(found: distro.Kernel) -> list[str]:
    """Module file names without the packing's suffix: they are stored unpacked."""
    return [f"{name.split('.')[0]}.ko" for name, _ in found.modules]


def _key(words: Iterable[str]) -> str:
    """Names everything a build depends on, except the compiler's version."""
    digest = hashlib.sha256("\0".join(words).encode())
    for path in sorted(SOURCE_DIR.glob("*.*")):
        if path.suffix in (".c", ".h", ".ld", ".py", ".sh"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _key_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.key")


def _is_current(targets: Iterable[Path], key: str) -> bool:
    """True when all targets are there, unharmed, and were built from `key`."""
    try:
        return all(_key_file(t).read_text() == _signature(key, t.read_bytes()) for t in targets)
    except OSError:
        return False


def _signature(key: str, content: bytes) -> str:
    return f"{key} {hashlib.sha256(content).hexdigest()}\n"


def _publish(contents: dict[Path, bytes], key: str) -> None:
    for target, content in contents.items():
        _replace(target, content)
        _replace(_key_file(target), _signature(key, content).encode())


def _replace(target: Path, content: bytes) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(target.parent, error) from error


def _workshop(out_dir: Path) -> tempfile.TemporaryDirectory[str]:
    """A scratch folder beside nobody; `out_dir` comes into being as well."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="outlast-guest-")
    except OSError as error:
        raise _unwritable(out_dir, error) from error


def _unwritable(folder: Path, error: OSError) -> StorageTrouble:
    return StorageTrouble(
        f"the guest cannot be written to {folder}: {error.strerror}",
        hint="give another folder, or make room",
    )


def _compile(parts: Iterable[str], flags: Iterable[str], folder: Path) -> bytes:
    """Compiles and links the parts into one program."""
    if shutil.which("gcc") is None or shutil.which("ld") is None:
        raise NotFound(
            "the guests are built from C, and gcc or ld is missing",
            hint="install gcc (it brings ld) and, for the demo guest, libc6-dev",
        )
    target = folder / "program"
    words = ["gcc", *flags, "-o", str(target), *(f"{part}.c" for part in parts)]
    done = subprocess.run(words, cwd=SOURCE_DIR, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line or "cannot" in line]
        why = "; ".join(lines[:3]) or f"exit code {done.returncode}"
        raise OutlastError(f"gcc refused the guest: {why}", hint="this needs gcc for x86")
    return target.read_bytes()
