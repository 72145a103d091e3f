"""The way from this host's libvirt to another's, for one move: a unix socket here, the other
agent's web socket there.

libvirt lets the source of a move go on by itself whenever it does not hear that the target has
finished. So this relay stands in between on purpose:

1. It lets everything pass but the target's word that the copy is complete (`held`). While that word
   is held, the source's libvirt waits for it and can let nothing go on.
2. `intact` is True while that is so: the word was held and never delivered, and the libvirt that
   waits for it has not hung up. libvirt hangs up before it lets the source go on, and a libvirt
   that was restarted has hung up when it died.
3. A word that is held for longer than HOLD_S is delivered: nobody here cares any more.
4. Either end's end ends both. Nothing is kept, nothing is tried again.

One thread with an event loop of its own; all other methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
import threading
from pathlib import Path
from urllib.parse import quote

import aiohttp

from outlast.agent.api import Place
from outlast.agent.peers import base_url
from outlast.errors import OutlastError, PoolTrouble
from outlast.hypervisor.rpc_frames import KEEPALIVE, Frame, Frames, StreamBroken
from outlast.wire.target import parse_target
from outlast.wire.websocket import ClientSocket, connect

HOLD_S = 5.0
READY_S = 15.0
CHUNK = 1 << 16


class Relay:
    """Good for one move."""

    def __init__(
        self, path: Path, place: Place, vm: str, id_: str, context: ssl.SSLContext
    ) -> None:
        self._path, self._place, self._context = path, place, context
        self._url = f"/v1/moves/{quote(vm, safe='')}/way?id={quote(id_, safe='')}"
        self.held = threading.Event()
        self._ready = threading.Event()
        self._trouble: OutlastError | None = None
        self._loop = asyncio.new_event_loop()
        self._near: asyncio.StreamWriter | None = None
        self._waiting: list[Frame] = []
        self._delivered = False
        self._over: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name=f"relay {vm}", daemon=True)

    def start(self) -> None:
        """Open the way; returns when libvirt can use it. Raises what the other agent says."""
        self._thread.start()
        if not self._ready.wait(READY_S):
            self.close()
            raise PoolTrouble(f"the agent of {self._place.host} does not answer")
        if self._trouble is not None:
            raise self._trouble

    def intact(self) -> bool:
        """Rule 2."""
        near = self._near
        if near is None or not self.held.is_set() or self._delivered:
            return False
        poll = select.poll()
        try:
            poll.register(near.get_extra_info("socket").fileno(), select.POLLRDHUP)
            return not poll.poll(0)
        except (OSError, ValueError):
            return False

    def release(self) -> None:
        """Deliver what is held."""
        self._in_loop(self._deliver)

    def close(self) -> None:
        """End both ends."""
        self._in_loop(self._end)

    def _in_loop(self, act: object) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(act)  # type: ignore[arg-type]

    # ---- the loop's thread

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except OutlastError as trouble:
            self._trouble = trouble
        except OSError as trouble:
            self._trouble = PoolTrouble(f"no way to {self._place.host}: {trouble}")
        finally:
            self._ready.set()
            self._delivered = True
            self._path.unlink(missing_ok=True)
            self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        target = parse_target(base_url(self._place.api))
        there = connect(
            target, self._url, what=f"way to the agent of {self._place.host}",
            context=self._context, server_name=self._place.host,
        )  # fmt: skip
        async with there as far:

            async def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if self._near is not None:  # one daemon, once
                    writer.close()
                    return
                self._near = writer
                await self._out(reader, far)
                self._end()

            self._path.unlink(missing_ok=True)
            server = await asyncio.start_unix_server(came, str(self._path))
            self._path.chmod(0o600)
            self._ready.set()
            back = asyncio.create_task(self._back(far))
            await self._over.wait()
            back.cancel()
            server.close()
            if self._near is not None:
                self._near.close()

    async def _out(self, reader: asyncio.StreamReader, far: ClientSocket) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await far.send_bytes(data)

    async def _back(self, far: ClientSocket) -> None:
        frames = Frames()
        try:
            async for message in far:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                for frame in frames.feed(message.data):
                    self._pass(frame)
                if self._near is not None:
                    await self._near.drain()
        except (ConnectionError, StreamBroken):
            pass
        finally:
            self._end()

    def _pass(self, frame: Frame) -> None:
        """Rule 1; what comes after a word that is held waits behind it."""
        if frame.finished and not self._delivered:
            self._waiting.append(frame)
            self._loop.call_later(HOLD_S, self._deliver)
            self.held.set()
        elif self._waiting and frame.program != KEEPALIVE:
            self._waiting.append(frame)
        elif self._near is not None:
            self._near.write(frame.raw)

    def _deliver(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._delivered = True
        if self._near is not None:
            for frame in waiting:
                self._near.write(frame.raw)

    def _end(self) -> None:
        if self._over is not None:
            self._over.set()
