"""Which address of a host is for what, where its record leaves it to be found. Pure."""

from __future__ import annotations

from outlast.model import SlotRecord

BEATS = "heartbeats"


def beats_role(network: int) -> str:
    """The role of a heartbeat network, counted from 0."""
    return f"{BEATS} {network + 1}" if network else BEATS


def roles(record: SlotRecord) -> dict[str, str]:
    """What a host is reached for by others, and at which IP address."""
    found = {beats_role(n): _ip(address) for n, address in enumerate(record.addresses)}
    found["management"] = _ip(record.api.removeprefix("https://"))
    found["moves"] = "" if record.no_vms else migration_address(record)
    return {role: address for role, address in found.items() if address}


def migration_address(record: SlotRecord) -> str:
    """The IP address at which a host takes the memory of VMs in; "" = it has none."""
    return record.migration_address or (_ip(record.addresses[0]) if record.addresses else "")


def _ip(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")
