"""The host file: the little a host keeps of itself, written by `outlast host join`.

Everything that all hosts must agree on lives on the pool's storage instead.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from outlast.errors import InvalidInput, NotFound
from outlast.model import SLOT_MAX


def etc_dir() -> Path:
    return Path(os.environ.get("OUTLAST_ETC", "/etc/outlast"))


def run_dir() -> Path:
    return Path(os.environ.get("OUTLAST_RUN", "/run/outlast"))


def var_dir() -> Path:
    return Path(os.environ.get("OUTLAST_VAR", "/var/lib/outlast"))


class HostFile(BaseModel):
    """The agent's part of /etc/outlast/host.json; fields of guard and pulse are theirs."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pool_dir: str
    pool_uuid: str
    host: str
    slot: int = Field(ge=1, le=SLOT_MAX)
    uuid: str
    generation: int = Field(ge=1)
    api_address: str = ""
    accelerator: str = "auto"
    libvirt_uri: str = "qemu:///system"
    qemu: str = "/usr/bin/qemu-system-x86_64"
    memory_mib: int = Field(default=0, ge=0)  # what VMs may use; 0 = what the host has
    vcpus: int = Field(default=0, ge=0)
    qemu_pki: str = "/etc/pki/qemu"  # where QEMU's certificates are
    power_off_command: tuple[str, ...] = ("systemctl", "poweroff")


def load(path: Path | None = None) -> HostFile:
    """Read the host file.

    Raises NotFound when this host joined no pool, InvalidInput when the file is damaged.
    """
    path = path or etc_dir() / "host.json"
    try:
        return HostFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(
            f"this host is in no pool: {path} is not there", hint="outlast host join DIR"
        ) from None
    except ValidationError as trouble:
        first = trouble.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(
            f"{path} is damaged: {where}: {first['msg']}", hint="join this host again"
        ) from None
