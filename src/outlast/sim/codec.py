"""Registers of the pretend disk: values as the real format writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from outlast.model import Lease, OrderBook, SlotRecord, View, VmRecord
from outlast.storage import format as fmt

DECODE: dict[str, Callable[[Any], Any]] = {
    "vm": fmt.vm_from,
    "lease": fmt.lease_from,
    "slot": fmt.slot_from,
    "order": fmt.order_from,
    "fence": fmt.fence_from,
}
ENCODE: dict[type, Callable[[Any], dict[str, object]]] = {
    View: fmt.view_to,
    Lease: fmt.lease_to,
    OrderBook: fmt.order_to,
    VmRecord: fmt.vm_to,
    SlotRecord: fmt.slot_to,
}


def encode(value: View | Lease | OrderBook | VmRecord | SlotRecord) -> dict[str, object]:
    return ENCODE[type(value)](value)
