"""Storage work for a person who waits: its answer in time, or a plain word that there is none.

The work goes on in its thread, however long the storage hangs; nobody waits for it any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from outlast.errors import StorageTrouble

T = TypeVar("T")

STORAGE_WAIT_S = 8.0


def in_time(work: Callable[[], T]) -> T:
    """Raises StorageTrouble when it takes too long, and whatever the work raises."""
    box: list[T | BaseException] = []

    def run() -> None:
        try:
            box.append(work())
        except BaseException as trouble:
            box.append(trouble)

    worker = threading.Thread(target=run, name="for-people", daemon=True)
    worker.start()
    worker.join(STORAGE_WAIT_S)
    if not box:
        raise StorageTrouble(
            f"the pool's storage has not answered for {STORAGE_WAIT_S:g} s",
            hint="what was asked may still happen; look again when the storage is back",
        )
    if isinstance(box[0], BaseException):
        raise box[0]
    return box[0]
