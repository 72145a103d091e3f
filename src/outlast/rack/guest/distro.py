"""Brings the distribution's small kernel, a static busybox and QEMU's agent, out of their packages.

Promises: nothing is installed and nothing outside the given folder is written; what is missing is
said by name. Knows Debian (linux-image-cloud-amd64) and Ubuntu (linux-image-virtual), on x86-64.
Deliberately does not update the package lists: that is the administrator's decision.
"""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import NotFound

KERNEL_PACKAGES = ("linux-image-cloud-amd64", "linux-image-virtual")
MODULES = ("virtio_pci", "virtio_blk", "button", "evdev")  # disk, and the power button
AGENT_MODULES = ("virtio_console", "ext4")  # its port, and something to bring to rest
_DOWNLOAD_S = 600


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel image, and (file name, content) of the modules in the order of their need."""

    image: bytes
    modules: tuple[tuple[str, bytes], ...]


def resolve() -> tuple[str, ...]:
    """Names of the packages that hold kernel and modules.

    Raises NotFound when this distribution has none that is known here.
    """
    for name in KERNEL_PACKAGES:
        real = [p for p in _depends(name) if p.startswith("linux-image-")]
        if real:
            modules = [p for p in _depends(real[0]) if p.startswith("linux-modules-")]
            return (real[0], *modules[:1])
    names = " nor ".join(KERNEL_PACKAGES)
    raise NotFound(
        f"no kernel for the demo guest: the package lists know neither {names}",
        hint="run `apt-get update`; the guest pulsar needs no kernel and works without",
    )


def fetch_kernel(
    packages: tuple[str, ...], work_dir: Path, modules: tuple[str, ...] = MODULES
) -> Kernel:
    """Unpacks the packages of `resolve` below `work_dir` and picks what the guest needs.

    Raises NotFound naming the package or file that is missing.
    """
    root = work_dir / "kernel"
    for package in packages:
        _unpack(package, root)
    images = sorted((root / "boot").glob("vmlinuz-*"))
    trees = sorted(p for lib in ("lib", "usr/lib") for p in (root / lib / "modules").glob("*"))
    if not images or not trees:
        raise NotFound(
            f"{' and '.join(packages)} hold no kernel with modules where they are looked for",
            hint="boot/vmlinuz-* and lib/modules/* are expected in them",
        )
    ordered = _in_order(trees[0], modules)
    return Kernel(images[0].read_bytes(), tuple((p.name, _module_bytes(p)) for p in ordered))


def fetch_busybox(work_dir: Path) -> bytes:
    """A static busybox: the installed one if it is static, else out of its package."""
    installed = shutil.which("busybox")
    if installed and b"/lib64/ld-linux" not in (content := Path(installed).read_bytes()):
        return content
    root = work_dir / "busybox"
    _unpack("busybox-static", root)
    for path in ("bin/busybox", "usr/bin/busybox"):
        if (root / path).is_file():
            return (root / path).read_bytes()
    raise NotFound("the package busybox-static holds no busybox", hint="install busybox-static")


def fetch_agent(work_dir: Path) -> dict[str, bytes]:
    """QEMU's guest agent, by the paths it and its libraries have in a system; unpacked, not
    installed.

    Raises NotFound naming the package or library that is missing.
    """
    root = work_dir / "agent"
    _unpack("qemu-guest-agent", root)
    program = root / "usr/sbin/qemu-ga"
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if missing := re.findall(r"(\S+) => not found", done.stdout):
        raise NotFound(
            f"the guest agent needs {', '.join(missing)}", hint="qemu-system-x86 brings them"
        )
    libraries = re.findall(r"(/\S+) \(0x", done.stdout)
    return {"bin/qemu-ga": program.read_bytes()} | {
        path.lstrip("/"): Path(path).read_bytes() for path in libraries
    }


def _depends(package: str) -> list[str]:
    """What a package depends on, by the package lists; empty for an unknown one."""
    if shutil.which("apt-cache") is None:
        return []
    words = ["apt-cache", "depends", "--no-recommends", "--no-suggests", package]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return re.findall(r"^ +Depends: ([^\s<]+)", done.stdout, re.MULTILINE)


def _unpack(package: str, root: Path) -> None:
    """Downloads one package and unpacks it into `root`."""
    folder = root.parent / f"{root.name}.download"
    folder.mkdir(parents=True, exist_ok=True)
    hint = "run `apt-get update`, and look whether this machine reaches its package source"
    for words in (["apt-get", "download", "-q", package], ["dpkg-deb", "-x", "", str(root)]):
        if shutil.which(words[0]) is None:
            raise NotFound(f"{words[0]} is missing: {package} cannot be had", hint="a Debian tool")
        if words[0] == "dpkg-deb":
            words[2] = str(next(folder.glob(f"{package}_*.deb"), folder / f"{package}.deb"))
        try:
            done = subprocess.run(
                words, cwd=folder, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise NotFound(f"{package} did not arrive within {_DOWNLOAD_S} s", hint=hint) from None
        if done.returncode != 0:
            why = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise NotFound(f"{package} cannot be had: {' '.join(why)}", hint=hint)


def _in_order(tree: Path, modules: tuple[str, ...]) -> list[Path]:
    """Files of these modules and all they need, needed ones first; those built in are left out."""
    built_in = (tree / "modules.builtin").read_text() if (tree / "modules.builtin").exists() else ""
    have = {p.name.split(".")[0].replace("-", "_"): p for p in tree.rglob("*.ko*")}
    ordered: list[Path] = []

    def need(name: str) -> None:
        path = have.get(name)
        if path is None:
            if f"/{name}.ko" in built_in.replace("-", "_"):
                return
            raise NotFound(f"the kernel has no module {name}", hint=f"looked in {tree.name}")
        if path not in ordered:
            for other in _needs(_module_bytes(path)):
                need(other)
            ordered.append(path)

    for name in modules:
        need(name)
    return ordered


def _needs(module: bytes) -> Iterator[str]:
    """The `depends` entry of a module's information section."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    names = found.group(1).decode() if found else ""
    return (name.replace("-", "_") for name in names.split(",") if name)


def _module_bytes(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        if shutil.which("zstd") is None:
            raise NotFound("the kernel's modules are packed with zstd", hint="install zstd")
        return subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
    return path.read_bytes()
