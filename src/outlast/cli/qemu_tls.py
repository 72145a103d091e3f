"""Certificates for QEMU's own TLS, so that the memory of a VM on its way is read by nobody.

libvirt tells QEMU to look in /etc/pki/qemu (its default, and read anew for every migration, so that
no daemon has to be restarted). Rules:

1. They are of the pool's authority, with a role that no agent accepts: they open nothing else.
2. The key is readable by root and by the group that QEMU runs as, nobody else.
3. What an administrator has put there stays: it is not ours to replace. Moves then use that.
"""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

from outlast.errors import StorageTrouble
from outlast.storage.etcd_folder import shared
from outlast.wire import seal
from outlast.wire.files import write_file

USERS = ("libvirt-qemu", "qemu")  # Debian's, others'
REVOKED = "ca-crl.pem"
NAMES = ("server", "client")


def install(authority: Path, host: str, uuid: str, addresses: tuple[str, ...]) -> str:
    """Put them where QEMU looks; a warning for people, "" when all is well.

    Raises StorageTrouble.
    """
    where = seal.qemu_folder()
    ours = (authority / seal.CA_CERT).read_bytes()
    theirs = _read(where / seal.QEMU_CA)
    if theirs and theirs != ours:
        return (
            f"note: {where} has certificates of another authority; VMs move with these, so the "
            "other hosts must trust them"
        )
    with shared(authority.parent):
        key, cert = seal.issue_host(authority, host, uuid, addresses, seal.QEMU)
    try:
        where.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageTrouble(f"{where}: {error.strerror}", hint="run it as root") from error
    group = _group()
    for name in NAMES:
        path = where / f"{name}-key.pem"
        write_file(path, key, 0o600)
        if group:
            os.chown(path, 0, group)
            path.chmod(0o640)
        write_file(where / f"{name}-cert.pem", cert, 0o644)
    revoked = _read(authority / seal.CRL)
    if revoked:
        write_file(where / REVOKED, revoked, 0o644)
    write_file(where / seal.QEMU_CA, ours, 0o644)
    return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _group() -> int:
    """The group QEMU runs as; 0 when it runs as root or nobody knows."""
    for name in USERS:
        try:
            return pwd.getpwnam(name).pw_gid
        except KeyError:
            continue
    try:
        return grp.getgrnam("kvm").gr_gid
    except KeyError:
        return 0
