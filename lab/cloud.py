"""A disk as a cloud's images are: Debian that starts by BIOS, with cloud-init and QEMU's agent.

Debian's own packages and cloud kernel, from the mirror that this machine uses itself; kept as
root.py keeps its root file system, and made as carefully: nothing is mounted, no service started.

Rule: it knows nothing of the machine that will run it: no name, no host keys, no machine-id, no
user, no network. All of that is cloud-init's part.
"""

from __future__ import annotations

import struct
from pathlib import Path

from lab.root import install, kept, run

SECTOR, FIRST = 512, 2048  # where the partition begins, as all tools have it
SIZE_MIB = 1500
PACKAGES = (
    "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "iputils-ping", "netbase", "procps",
    "util-linux", "sudo", "e2fsprogs",
    "linux-image-cloud-amd64", "initramfs-tools", "grub-pc-bin", "grub-common",
    "cloud-init", "cloud-guest-utils", "netplan.io", "systemd-resolved", "openssh-server",
    "qemu-guest-agent",
)  # fmt: skip
GRUB = ("biosdisk", "part_msdos", "ext2", "search", "search_label", "configfile", "normal", "linux")
EARLY = "search --label --set=root root\nconfigfile /boot/grub.cfg\n"
MENU = """\
set timeout=0
linux /vmlinuz root=LABEL=root ro console=ttyS0 net.ifnames=0
initrd /initrd.img
boot
"""
# as clouds' images bring a file of their own: this one has no languages
SETTINGS = "locale: false\nmanage_etc_hosts: true\n"
OFF = ("apt-daily.timer", "apt-daily-upgrade.timer")  # there is no mirror
FORGET = ("etc/hostname", "etc/machine-id", "etc/ssh/ssh_host_*")


def disk() -> Path:
    """The disk, qcow2, from the cache or made now. Raises NotFound, StorageTrouble."""
    return kept("cloud", Path(__file__), _make) / "disk.qcow2"


def _make(work: Path) -> None:
    root, raw = work / "root", work / "disk.raw"
    install(root, PACKAGES)
    early, core = root / "boot/early.cfg", root / "boot/core.img"
    early.write_text(EARLY)
    run("chroot", str(root), "grub-mkimage", "-O", "i386-pc", "-p", "/boot",
        "-c", "/boot/early.cfg", "-o", "/boot/core.img", *GRUB)  # fmt: skip
    boot = (root / "usr/lib/grub/i386-pc/boot.img").read_bytes()
    raw.write_bytes(_before_partition(boot, core.read_bytes()))
    early.unlink()
    core.unlink()
    (root / "boot/grub.cfg").write_text(MENU)
    (root / "etc/fstab").write_text("LABEL=root / ext4 defaults 0 1\n")
    (root / "etc/cloud/cloud.cfg.d/01_image.cfg").write_text(SETTINGS)
    run("systemctl", "--quiet", "--root", str(root), "disable", *OFF)
    for pattern in FORGET:
        for path in root.glob(pattern):
            path.unlink()
    (root / "etc/machine-id").touch()  # systemd makes one at the first boot
    run("truncate", "-s", f"{SIZE_MIB + 1}M", str(raw))
    run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root),
        "-E", f"offset={FIRST * SECTOR}", str(raw), f"{SIZE_MIB}M")  # fmt: skip
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw),
        str(work / "done/disk.qcow2"))  # fmt: skip


def _before_partition(boot: bytes, core: bytes) -> bytes:
    """GRUB, where it finds itself: its first sector, the table with one partition, the rest."""
    no_cylinders = b"\xfe\xff\xff"
    entry = struct.pack(
        "<B3sB3sII", 0x80, no_cylinders, 0x83, no_cylinders, FIRST, SIZE_MIB * 2048
    )  # fmt: skip
    first = boot[:440].ljust(446, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa"
    assert len(first) == SECTOR and len(core) < (FIRST - 1) * SECTOR
    return first + core
