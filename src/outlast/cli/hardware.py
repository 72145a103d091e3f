"""The options of `outlast vm create` for what few VMs need: firmware, TPM, watchdog, devices."""

from __future__ import annotations

from typing import Annotated

import typer

Firmware = Annotated[
    str,
    typer.Option(metavar="bios|uefi|uefi-secure", help="uefi-secure: with Secure Boot, on q35."),
]
Tpm = Annotated[bool, typer.Option("--tpm", help="A TPM 2.0; such a VM cannot move while it runs.")]
Watchdog = Annotated[
    str,
    typer.Option(
        metavar="restart|reset",
        help="An i6300esb. When the system inside hangs, it counts as failed, or is reset.",
    ),
]
Channel = Annotated[
    bool, typer.Option("--guest-agent", help="A channel for the QEMU agent in the system inside.")
]
Graphics = Annotated[
    str, typer.Option(metavar="vnc|none", help="A screen, or none: the serial console is left.")
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device", metavar="pci:0000:03:00.0|usb:046d:c52b",
        help="A device of the host; pins the VM to hosts named by --prefer. Repeat for more.",
    ),
]  # fmt: skip
Cpu = Annotated[
    str,
    typer.Option(
        metavar="passthrough", help="Its host's processor as it is; moves to hosts with the same."
    ),
]
Most = Annotated[int, typer.Option(min=0, help="Processors it can grow to while it runs.")]
MostMemory = Annotated[
    str, typer.Option(metavar="SIZE", help="Memory it can grow to while it runs, like 16GiB.")
]


def wish(
    firmware: str,
    tpm: bool,
    watchdog: str,
    channel: bool,
    graphics: str,
    devices: list[str] | None,
    most: int,
    most_memory: str,
    cpu: str,
) -> dict[str, object]:
    """The part `hardware` of the wish; checked with it."""
    return {"firmware": firmware, "tpm": tpm, "watchdog": watchdog, "agent_channel": channel,
            "graphics": graphics, "devices": devices or [], "vcpus_max": most,
            "memory_max": most_memory or 0, "cpu": cpu}  # fmt: skip
