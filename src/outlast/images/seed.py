"""Seeds for cloud-init: a small ISO with the label `cidata` that the system inside reads (NoCloud).

Rules:
1. What is written are the three files of cloud-init's NoCloud source: meta-data, user-data and,
   when asked for, network-config. They are JSON, which is YAML as well.
2. A user-data file of the user's own is taken as it is; keys and host name then come by meta-data.
3. A private key is never taken for a public one. The file is for root alone.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pycdlib

from outlast.errors import InvalidInput, NotFound, StorageTrouble
from outlast.images.qemu_img import sync

LABEL = "cidata"
FILE_MAX = 1 << 20
ALIGNMENT = 64 << 10  # QEMU takes no disk that ends within a block of the storage
_KEY = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( [^\r\n]*)?\Z")
_STARTS = (
    "#cloud-config", "#!", "#include", "## template", "#cloud-boothook", "#part-handler",
    "Content-Type:", "MIME-Version:", "From ",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seed:
    """What a system is told at its first start."""

    hostname: str
    instance: str  # another one makes cloud-init begin anew
    ssh_keys: tuple[str, ...] = ()
    user: str = ""  # made with these keys; "" = the image's own default user
    user_data: str = ""  # instead of ours
    network: str = ""  # network-config as it is
    address: str = ""  # with prefix length, like 10.0.0.11/24
    gateway: str = ""
    dns: tuple[str, ...] = ()


def files_of(seed: Seed) -> dict[str, bytes]:
    """The files of a seed. Raises InvalidInput."""
    meta: dict[str, object] = {"instance-id": seed.instance, "local-hostname": seed.hostname}
    if seed.ssh_keys:
        meta["public-keys"] = list(seed.ssh_keys)
    files = {"meta-data": _json(meta), "user-data": _user_data(seed)}
    network = seed.network.encode() if seed.network else _network(seed)
    if network:
        files["network-config"] = network
    return files


def write(path: Path, seed: Seed) -> None:
    """Write the ISO to a new file, synced. Raises InvalidInput, OSError."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    for number, (name, data) in enumerate(sorted(files_of(seed).items())):
        iso.add_fp(
            io.BytesIO(data), len(data), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}"
        )
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    data = out.getvalue()
    with open(fd, "wb") as file:
        file.write(data.ljust(-(-len(data) // ALIGNMENT) * ALIGNMENT, b"\0"))
    sync(path)


def is_key(text: str) -> bool:
    """One public SSH key."""
    return _KEY.match(text) is not None


def keys_of(text: str) -> tuple[str, ...]:
    """Public keys: one as it is, or those in a file. Raises InvalidInput, NotFound."""
    if is_key(text.strip()):
        return (text.strip(),)
    said = read_text(Path(text), "SSH keys")
    if "PRIVATE KEY" in said:
        raise InvalidInput(f"{text} is a private key", hint=f"the public one is {text}.pub")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    keys = tuple(line for line in lines if not line.startswith("#"))
    if not keys or not all(map(is_key, keys)):
        raise InvalidInput(f"{text} holds something else than public SSH keys")
    return keys


def user_data_of(path: Path) -> str:
    """A file of user-data. Raises as check_user_data, NotFound."""
    return check_user_data(read_text(path, "user-data"), str(path))


def check_user_data(text: str, what: str) -> str:
    """Raises InvalidInput when cloud-init would not know what it is; what: what people call it."""
    if not text.startswith(_STARTS):
        raise InvalidInput(
            f"{what} does not begin like user-data, so cloud-init would ignore it",
            hint="its first line is #cloud-config, or #! and a program",
        )
    return text


def read_text(path: Path, what: str) -> str:
    """Raises NotFound, InvalidInput, StorageTrouble."""
    try:
        data = path.read_bytes()
        if len(data) > FILE_MAX:
            raise InvalidInput(f"{path} is too large for {what}")
        return data.decode()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path} ({what})") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is no text ({what})") from None
    except OSError as error:
        raise StorageTrouble(f"{path} cannot be read: {error.strerror}") from error


def _user_data(seed: Seed) -> bytes:
    if seed.user_data:
        return seed.user_data.encode()
    told: dict[str, object] = {"hostname": seed.hostname, "preserve_hostname": False}
    if seed.user:
        if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", seed.user):
            raise InvalidInput(f"{seed.user[:40]!r} is no user's name")
        account = {
            "name": seed.user, "shell": "/bin/bash", "lock_passwd": True,
            "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": list(seed.ssh_keys),
        }  # fmt: skip
        told["users"] = ["default", account]
    return b"#cloud-config\n" + _json(told)


def _network(seed: Seed) -> bytes:
    if not seed.address:
        if seed.gateway or seed.dns:
            raise InvalidInput("a gateway or name server needs an address", hint="--address")
        return b""
    try:
        card: dict[str, object] = {
            "match": {"name": "e*"},
            "dhcp4": False,
            "addresses": [str(ipaddress.ip_interface(seed.address))],
        }
        if "/" not in seed.address:
            raise InvalidInput(f"{seed.address} has no prefix length", hint="like 10.0.0.11/24")
        if seed.gateway:
            card["routes"] = [{"to": "0.0.0.0/0", "via": str(ipaddress.ip_address(seed.gateway))}]
        if seed.dns:
            servers = [str(ipaddress.ip_address(server)) for server in seed.dns]
            card["nameservers"] = {"addresses": servers}
    except ValueError as error:
        raise InvalidInput(f"the network of {seed.hostname}: {error}") from None
    if seed.gateway and ":" in seed.gateway:
        card["routes"] = [{"to": "::/0", "via": seed.gateway}]
    return _json({"version": 2, "ethernets": {"nic0": card}})


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
