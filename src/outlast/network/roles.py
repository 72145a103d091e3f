"""Which address of a host is for what, where its record leaves it to be found. Pure."""

from __future__ import annotations

from outlast.model import SlotRecord


def migration_address(record: SlotRecord) -> str:
    """The IP address at which a host takes the memory of VMs in; "" = it has none."""
    first = record.addresses[0] if record.addresses else ""
    return record.migration_address or first.rpartition(":")[0].strip("[]")
