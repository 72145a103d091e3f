"""The root file system and the kernel of the lab's machines, made once and kept in a cache.

What comes out lies in the cache's folder: `root.img` (ext4, each machine writes into a layer of its
own above it), `vmlinuz` and `initrd`. Debian's own packages and kernel, from the mirror that this
machine uses itself; nothing of them is changed but what is said in `_settle`.

Rules:
1. What was made once is used again as long as the recipe (this file) and the distribution stay the
   same; a build that was broken off leaves nothing that looks finished.
2. Nothing is installed on this machine, no service is started, no file system is mounted here.
3. The machine is as bare as a fresh one: what a package starts by itself at boot and no trial wants
   is off, everything else is as the package brought it. Outlast is not in it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import NotFound, StorageTrouble

SUITE = "bookworm"
MIRROR = Path("/etc/apt/sources.list.d/debian.sources")
IMAGE_SIZE = "6G"  # sparse
PACKAGES = (
    # a machine
    "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "iputils-ping", "netbase", "procps",
    "util-linux", "sudo", "qemu-guest-agent",
    # what `apt-get install ./outlast_*.deb` would bring along
    "python3", "libvirt-daemon-system", "libvirt-clients", "qemu-system-x86", "qemu-utils",
    # file systems, servers and clients
    "nfs-common", "nfs-kernel-server", "ocfs2-tools", "open-iscsi", "tgt",
    "glusterfs-server", "glusterfs-client", "gfs2-utils", "dlm-controld", "corosync",
    "ceph-mon", "ceph-mgr", "ceph-osd", "ceph-mds", "ceph-common",
    "python3-pytest", "busybox-static",
)  # fmt: skip
# started by the trial that wants it
OFF = (
    "nfs-server.service", "tgt.service", "glusterd.service", "corosync.service", "dlm.service",
    "ceph-crash.service", "ceph.target", "apt-daily.timer",
    "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "logrotate.timer",
    "e2scrub_reap.service", "getty@tty1.service", "libvirt-guests.service",
)  # fmt: skip
MODULES = (
    "virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "9pnet_virtio", "9p", "ext4",
)  # fmt: skip
INIT = """\
#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t proc proc /proc; $bb mount -t devtmpfs dev /dev
# one for another kind of processor is refused, and not missed
for module in $($bb cat /modules); do $bb insmod /lib/modules/$module 2>/dev/null; done
for word in $($bb cat /proc/cmdline); do
  case $word in
    lab.name=*) $bb echo ${word#*=} >/proc/sys/kernel/hostname ;;
    lab.address=*) $bb ip addr add ${word#*=} dev eth0; $bb ip link set eth0 up ;;
  esac
done
$bb mount -t ext4 /dev/vda /root
$bb cat /proc/sys/kernel/hostname >/root/etc/hostname
$bb umount /proc; $bb mount -o move /dev /root/dev
exec $bb switch_root /root /sbin/init
"""


@dataclass(frozen=True, slots=True)
class Root:
    image: Path
    kernel: Path
    initrd: Path


def cache() -> Path:
    """Where things are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("OUTLAST_LAB_CACHE") or Path(base) / "outlast-lab")


def made() -> Root:
    """The root file system, from the cache or made now. Raises NotFound, StorageTrouble."""
    folder = kept(SUITE, Path(__file__), _make)
    return Root(folder / "root.img", folder / "vmlinuz", folder / "initrd")


def kept(name: str, recipe: Path, make: Callable[[Path], None]) -> Path:
    """A folder of the cache: what `make` puts into `done` of its working folder, by rule 1.

    Raises NotFound, StorageTrouble.
    """
    digest = hashlib.sha256(recipe.read_bytes()).hexdigest()[:12]
    folder = cache() / f"{name}-{digest}"
    if not folder.exists():
        _check_programs()
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="making-", dir=cache()) as work:
            (Path(work) / "done").mkdir()
            make(Path(work))
            (Path(work) / "done").rename(folder)
    return folder


def install(root: Path, packages: Sequence[str], *more: str) -> None:
    """The distribution with these packages, in a new folder. more: words of mmdebstrap."""
    # in namespaces, so that what it mounts is gone with it, however it ends: its folder is removed
    run(
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "mmdebstrap",
        "--variant=minbase", "--mode=root", f"--include={','.join(packages)}",
        '--aptopt=APT::Install-Recommends "false"', *more, SUITE, str(root), str(MIRROR),
    )  # fmt: skip


def run(*argv: str) -> str:
    """What it says. Raises StorageTrouble."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise StorageTrouble(f"'{' '.join(argv)[:200]}' failed: {said}")
    return done.stdout


def _check_programs() -> None:
    for program, package in (("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs")):
        if shutil.which(program) is None:
            raise NotFound(f"there is no {program}", hint=f"apt-get install {package}")
    if not MIRROR.exists():
        raise NotFound(f"there is no {MIRROR}, which says where this machine has Debian from")


def _make(work: Path) -> None:
    root, kernel, done = work / "root", work / "kernel", work / "done"
    fetch = (
        'chroot "$1" sh -ec "cd /var/tmp && apt-get download '
        '\\$(apt-cache depends linux-image-amd64 | sed -n \\"s/.*Depends: //p\\")"'
    )
    install(root, PACKAGES, f"--customize-hook={fetch}")
    (package,) = (root / "var/tmp").glob("linux-image-*.deb")
    # not into the root: a package's own /lib would take the place of the link that is there
    run("dpkg-deb", "-x", str(package), str(kernel))
    package.unlink()
    (modules,) = (kernel / "lib/modules").iterdir()
    shutil.copytree(modules, root / "usr/lib/modules" / modules.name)
    run("depmod", "-b", str(root), modules.name)
    shutil.copy(next((kernel / "boot").glob("vmlinuz-*")), done / "vmlinuz")
    _settle(root)
    (done / "initrd").write_bytes(gzip.compress(_initrd(root, modules.name, work / "tree"), 1))
    run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(done / "root.img"), IMAGE_SIZE)


def _settle(root: Path) -> None:
    """What makes a machine of it."""
    (root / "etc/fstab").write_text("")
    (root / "etc/machine-id").write_text("")  # each machine is told its own; no "first boot"
    for unit in OFF:
        run("systemctl", "--quiet", "--root", str(root), "disable", unit)


def _initrd(root: Path, version: str, tree: Path) -> bytes:
    """The smallest that finds the root: busybox, and the modules in their order."""
    names = list(dict.fromkeys(_module_files(root, version, MODULES)))
    for folder in ("bin", "dev", "proc", "root", "lib/modules"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", tree / "bin/busybox")
    for path in names:
        shutil.copy(path, tree / "lib/modules" / path.name)
    (tree / "modules").write_text("\n".join(path.name for path in names))
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    listed = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    return subprocess.run(
        [str(root / "bin/busybox"), "cpio", "-o", "-H", "newc"], input=listed.encode(),
        cwd=tree, capture_output=True, check=True,
    ).stdout  # fmt: skip


def _module_files(root: Path, version: str, wished: Sequence[str]) -> Iterator[Path]:
    """Each after those that it needs."""
    for name in wished:
        said = run("modprobe", "-d", str(root), "-S", version, "--show-depends", name)
        for line in said.splitlines():
            kind, _, path = line.strip().partition(" ")
            if kind == "insmod":
                yield Path(path)
