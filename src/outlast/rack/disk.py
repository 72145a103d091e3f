"""A host's disk: the folders that survive its power cycles, and what is installed on them.

    disk/etc-outlast  -> /etc/outlast         disk/etc-libvirt     -> /etc/libvirt
    disk/var-outlast  -> /var/lib/outlast     disk/var-libvirt     -> /var/lib/libvirt
    disk/pki          -> /etc/pki             disk/cache-libvirt   -> /var/cache/libvirt
    disk/root         -> /root                log                  -> /var/log/outlast
    disk/log-libvirt  -> /var/log/libvirt     run (fresh a boot)   -> /run

libvirt is configured as one would for a pool: TLS with certificates of the rack's own authority,
quick keepalives (a lost peer ends a migration after 6 s), no confinement, no helper daemons.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

FOLDERS = {
    "disk/etc-outlast": "/etc/outlast",
    "disk/var-outlast": "/var/lib/outlast",
    "disk/etc-libvirt": "/etc/libvirt",
    "disk/var-libvirt": "/var/lib/libvirt",
    "disk/log-libvirt": "/var/log/libvirt",
    "disk/cache-libvirt": "/var/cache/libvirt",
    "disk/pki": "/etc/pki",
    "disk/root": "/root",
    "log": "/var/log/outlast",
    "run": "/run",
}
FRESH_RUN = ("lock", "libvirt", "rack", "outlast")
LIBVIRTD_CONF = """\
listen_tls = 1
listen_tcp = 0
auth_tls = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "{uuid}"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
keepalive_interval = 2
keepalive_count = 3
"""
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
swtpm_user = "root"
swtpm_group = "root"
keepalive_interval = 2
keepalive_count = 3
"""


def install(base: Path) -> str:
    """Make a host's folders if they are missing; returns the host's lasting machine id."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    for place in ("root", "watchdog"):
        (base / place).mkdir(exist_ok=True)
    identity = base / "disk/machine-id"
    if not identity.exists():
        identity.write_text(uuid.uuid4().hex + "\n")
    machine_id = identity.read_text().strip()
    config = base / "disk/etc-libvirt"
    if not (config / "libvirtd.conf").exists():
        text = LIBVIRTD_CONF.format(uuid=uuid.UUID(machine_id))
        (config / "libvirtd.conf").write_text(text)
        (config / "qemu.conf").write_text(QEMU_CONF)
    return machine_id


def empty_run(base: Path, again: bool) -> None:
    """Empty the host's /run; again: make the folders a booting host needs."""
    run = base / "run"
    for entry in run.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    if again:
        for name in FRESH_RUN:
            (run / name).mkdir(mode=0o755, exist_ok=True)
        for name in ("rack", "outlast"):
            (run / name).chmod(0o700)
