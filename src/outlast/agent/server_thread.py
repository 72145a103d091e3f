"""A Server on an event loop in a thread of its own, for programs that have none."""

from __future__ import annotations

import asyncio
import threading

from outlast.agent.server import Server


class ServerThread:
    """A Server on an event loop in a thread of its own, for programs that have none."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api", daemon=True)

    def start(self) -> None:
        """Listen; returns when it does. Raises what `Server.start` raises."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
