"""The key with which VMs reach Ceph: this host's own, lent to libvirt, never stored by us.

Rules:
1. A host that has `/etc/ceph/ceph.client.outlast.keyring` reaches RBD images as `client.outlast`.
   QEMU need not be able to read that file: it gets the key from libvirt, over no argv and no disk.
2. libvirt keeps it in memory only and shows it to nobody (ephemeral, private), so it is lent anew
   whenever libvirtd is: at each connection, for VMs that arrive, and before each start, for a key
   that was changed.
3. Without the file the XML says nothing, and QEMU finds what Ceph's own defaults name.
"""

from __future__ import annotations

import base64
import binascii
import configparser
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from outlast.errors import HypervisorTrouble
from outlast.hypervisor.domain_xml import CEPH_SECRET, CEPH_USER
from outlast.model import Disk

KEYRING = f"/etc/ceph/ceph.client.{CEPH_USER}.keyring"

log = logging.getLogger(__name__)


def has_key(root: Path, disks: Sequence[Disk]) -> bool:
    """Does a VM with these disks need the key, and is there one? root: as libvirt sees it."""
    return any(disk.kind == "rbd" for disk in disks) and (root / KEYRING.lstrip("/")).is_file()


def lend_key(conn: Any, root: Path) -> None:
    """Have libvirt know the key, if there is one.

    Raises HypervisorTrouble for a keyring that is none, libvirtError.
    """
    try:
        key = _key((root / KEYRING.lstrip("/")).read_text())
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError, binascii.Error) as error:
        raise HypervisorTrouble(
            f"{KEYRING} holds no key of client.{CEPH_USER}: {error}",
            hint=f"ceph auth get client.{CEPH_USER} -o {KEYRING}",
        ) from error
    conn.secretDefineXML(_secret_xml()).setValue(key)


def lend_key_quietly(conn: Any, root: Path) -> None:
    """The same at a new connection: what is wrong is told in full when a VM needs it."""
    try:
        lend_key(conn, root)
    except (HypervisorTrouble, libvirt.libvirtError) as error:
        log.warning("libvirt has no key for Ceph: %s", error)


def _key(text: str) -> bytes:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string("\n".join(line.strip() for line in text.splitlines()))
    return base64.b64decode(parser[f"client.{CEPH_USER}"]["key"], validate=True)


def _secret_xml() -> str:
    secret = ET.Element("secret", ephemeral="yes", private="yes")
    ET.SubElement(secret, "uuid").text = CEPH_SECRET
    usage = ET.SubElement(secret, "usage", type="ceph")
    ET.SubElement(usage, "name").text = f"client.{CEPH_USER} of Outlast"
    return ET.tostring(secret, encoding="unicode")
