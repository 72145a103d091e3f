"""The shapes of hardware: what few VMs have, and a host's power switch; parts of shapes.py."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from outlast.model import VmSpec
from outlast.wire.size_field import Size


class HardwareWish(BaseModel):
    """What few VMs need; a part of VmCreate."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    firmware: Literal["bios", "uefi", "uefi-secure"] = "bios"
    tpm: bool = False
    watchdog: Literal["", "restart", "reset"] = ""  # what happens when the system inside hangs
    agent_channel: bool = False
    graphics: Literal["vnc", "none"] = "vnc"
    # of its host, like pci:0000:03:00.0 or usb:046d:c52b; they pin it
    devices: list[str] = Field(default=[], max_length=16)
    vcpus_max: int = Field(default=0, ge=0, le=512)  # that it can grow to while it runs
    memory_max: Size | Literal[0] = 0  # the same of memory
    cpu: Literal["", "passthrough"] = ""  # its host's processor as it is

    @classmethod
    def like(cls, spec: VmSpec) -> HardwareWish:
        """What a new VM of this one's disks needs; devices stay with the VM that has them."""
        return cls.model_validate({
            "firmware": spec.firmware, "tpm": bool(spec.tpm_state), "watchdog": spec.watchdog,
            "agent_channel": spec.agent_channel, "graphics": spec.graphics, "cpu": spec.cpu,
            "vcpus_max": spec.vcpus_max, "memory_max": spec.memory_max_mib << 20,
        })  # fmt: skip


# every cloud's image has the agent, or can be told by cloud-init to install it
OF_TEMPLATE = HardwareWish(agent_channel=True)


class PowerInfo(BaseModel):
    """What a host's power switch said when the answering host last asked."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    power: str  # on | off | unknown
    why: str = ""  # it is not known
