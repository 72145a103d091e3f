"""What few VMs need, as a new VM wishes it: firmware, TPM, watchdog, agent channel, devices.

Rules:
1. Everything it must find again on another host gets a place on the pool's storage, named after the
   VM's uuid, so that a later VM of the same name finds nothing of it.
2. Devices of a host pin a VM: it must say on which hosts it runs, those that have such a device.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from outlast.errors import StorageTrouble
from outlast.hypervisor import hardware_xml
from outlast.model import VmSpec
from outlast.storage.access import is_shared
from outlast.wire.shapes import BadField, VmCreate
from outlast.wire.sizes import MIB

FOLDER = "firmware"


def unfurnish(spec: VmSpec) -> list[str]:
    """Remove what it has beside its disks; a sentence for each thing that is left."""
    left = []
    for path in filter(None, (spec.nvram, spec.tpm_state)):
        try:
            if path == spec.tpm_state:
                shutil.rmtree(path)
            else:
                Path(path).unlink()
        except FileNotFoundError:
            continue  # it never ran
        except OSError as error:
            left.append(f"{path} is left: {error.strerror}")
    return left


def furnished(spec: VmSpec, pool_dir: str, wish: VmCreate) -> VmSpec:
    """The definition with this hardware. Raises BadField, StorageTrouble."""
    wanted = wish.hardware
    place = f"{pool_dir.rstrip('/')}/{FOLDER}/{spec.name}-{spec.uuid}"
    secure = wanted.firmware == "uefi-secure"
    made = replace(
        spec,
        machine="q35" if secure and spec.machine == "pc" else spec.machine,
        firmware=wanted.firmware,
        nvram=f"{place}.fd" if wanted.firmware != "bios" else "",
        tpm_state=f"{place}.tpm" if wanted.tpm else "",
        watchdog=wanted.watchdog,
        agent_channel=wanted.agent_channel,
        graphics=wanted.graphics,
        devices=tuple(wanted.devices),
        vcpus_max=wanted.vcpus_max,
        memory_max_mib=wanted.memory_max // MIB,
        cpu=wanted.cpu,
    )
    for holds, sentence, hint in hardware_xml.rules(made):
        if not holds:
            raise BadField(f"hardware: {sentence}", hint=hint, field="hardware")
    if made.devices and not (wish.preferred or wish.placing.preferred):
        raise BadField(
            "hardware: devices of a host pin the VM to it: which hosts have them?",
            hint="--prefer HOST", field="hardware",
        )  # fmt: skip
    if (made.nvram or made.tpm_state) and not is_shared(Path(pool_dir)):
        raise BadField(
            "hardware: UEFI and TPM keep their state in files, and this pool shares none",
            hint="firmware bios, no TPM", field="hardware",
        )  # fmt: skip
    if made.nvram or made.tpm_state:
        folder = Path(pool_dir) / FOLDER
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageTrouble(
                f"{folder} cannot be made: {error.strerror}", hint="is the storage well?"
            ) from error
    return made


def told(spec: VmSpec) -> list[str]:
    """What it has beside disks and cards, in words."""
    words = {"uefi": "UEFI", "uefi-secure": "UEFI with Secure Boot"}
    parts = {
        words.get(spec.firmware, ""): True,
        "TPM": spec.tpm_state,
        "its host's processor": spec.cpu,
        f"watchdog ({spec.watchdog})": spec.watchdog,
        "agent channel": spec.agent_channel,
        "no screen": spec.graphics == "none",
        f"up to {spec.vcpus_max} processors": spec.vcpus_max,
        f"up to {spec.memory_max_mib} MiB": spec.memory_max_mib,
    }
    return [*(said for said, has in parts.items() if said and has), *spec.devices]
