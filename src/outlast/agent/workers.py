"""Runs what may block in threads, for an event loop that must not.

Each call has a thread of its own. Those that hang, with the storage for instance, are counted, and
above CALLS_MAX new ones are turned away. Who waits may give up; the thread goes on to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from outlast.errors import StorageTrouble

CALLS_MAX = 32

T = TypeVar("T")


class Workers:
    def __init__(self) -> None:
        self._calls = 0
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Raises StorageTrouble when too many hang."""
        with self._lock:
            if self._calls >= CALLS_MAX:
                raise StorageTrouble(
                    f"{self._calls} calls are waiting for the pool's storage already",
                    hint="is the storage reachable? see 'outlast status'",
                )
            self._calls += 1
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        threading.Thread(target=self._run, args=(loop, future, work), daemon=True).start()
        return await future

    def _run(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], work: Callable[[], T]
    ) -> None:
        def settle(result: T | None, error: BaseException | None) -> None:
            if future.done():  # the caller has gone
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        result, error = None, None
        try:
            result = work()
        except BaseException as caught:
            error = caught
        with self._lock:
            self._calls -= 1
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, error)
