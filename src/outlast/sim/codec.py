"""Registers of the pretend disk: values as the real format writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from outlast.storage import format as fmt
from outlast.storage.format import value_to as encode

__all__ = ["DECODE", "encode"]

DECODE: dict[str, Callable[[Any], Any]] = {
    "vm": fmt.vm_from,
    "lease": fmt.lease_from,
    "slot": fmt.slot_from,
    "order": fmt.order_from,
    "fence": fmt.fence_from,
    "report": fmt.report_from,
}
