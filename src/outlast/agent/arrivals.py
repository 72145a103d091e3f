"""The target's part in a live migration: may this copy come, and the way to this host's libvirt.

Rules:
1. Only the host that holds the VM's lease may send its copy, and only while that lease, read from
   the storage for this, names this host, its present term and this very move.
2. The guard admits a copy, not a start; what libvirt does past that is refused by the emulator
   wrapper. The copy stands still until the pool core sees the lease given away.
3. The way leads to libvirt's socket and carries the calls of a migration only (rpc_frames.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from outlast.agent.service import Service
from outlast.errors import Conflict, HypervisorTrouble, OutlastError, Refused
from outlast.hypervisor.rpc_frames import Frames, StreamBroken, may_pass
from outlast.pool.facts import Facts
from outlast.pool.moving import receiving
from outlast.storage.names import check_name
from outlast.wire.websocket import HEARTBEAT_S, MESSAGE_MAX

CHUNK = 1 << 16
REST_S, LOOK_S = 3.0, 0.05
SOCKETS = (Path("/run/libvirt/virtqemud-sock"), Path("/run/libvirt/libvirt-sock"))


def admit(service: Service, vm: str, id_: str, caller: str) -> None:
    """Let the copy in, or say why not. Blocks. Raises Refused, Conflict, StorageTrouble.

    A VM that has just left this host is listed by libvirt for a moment longer: that is waited for.
    """
    until = time.monotonic() + REST_S
    while _rest_is_here(service, vm) and time.monotonic() < until:
        time.sleep(LOOK_S)
    check(service, vm, id_, caller)
    service.admit_copy(vm)


def check(service: Service, vm: str, id_: str, caller: str) -> None:
    """Why the copy may not come, raised as Refused or Conflict. Changes nothing."""
    check_name(vm, "VM name")
    facts = service.picture.facts
    if facts is None or not facts.registers_ready:
        raise Conflict("this host does not know the pool's VMs yet", hint="try again in a moment")
    held = service.read_lease(vm)
    if held is None:
        raise Conflict(f"'{vm}' has no lease")
    lease = held.value
    holder = facts.slots.get(lease.slot)
    if holder is None or holder.host != caller:
        raise Refused(f"host {caller} may not send '{vm}': it does not hold its lease")
    why = receiving(facts.me.slot, facts.term, lease, id_) or _unfit(facts, vm)
    if why:
        raise Conflict(f"'{vm}' cannot come to {facts.me.host}: {why}")


def _rest_is_here(service: Service, vm: str) -> bool:
    facts = service.picture.facts
    return facts is not None and (vm in facts.local or vm in facts.guard.populated)


def _unfit(facts: Facts, vm: str) -> str:
    record = facts.vms.get(vm)
    if not facts.local_ready:
        return "its hypervisor does not answer"
    if vm in facts.local or vm in facts.guard.populated:
        return "something of it is here already"
    if record is not None and facts.resources.free_mib < record.value.spec.memory_mib:
        need = record.value.spec.memory_mib
        return f"{facts.resources.free_mib} MiB are free of the {need} MiB needed"
    if facts.block_state.value != "member":
        return f"it is {facts.block_state.value}"
    return ""


async def serve_way(
    blocking: Callable[[Callable[[], Any]], Awaitable[Any]], service: Service,
    request: web.Request, vm: str, id_: str, caller: str,
) -> web.WebSocketResponse:  # fmt: skip
    """Carry libvirt's words between the two daemons until one ends. Raises OutlastError before."""
    if not web.WebSocketResponse().can_prepare(request).ok:  # only the reason is asked for
        await blocking(lambda: check(service, vm, id_, caller))
        raise Conflict(f"the way to libvirt for '{vm}' broke", hint="it may be tried again")
    await blocking(lambda: admit(service, vm, id_, caller))
    reader, writer = await _libvirt()
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_MAX)
    try:
        await socket.prepare(request)
        back = asyncio.create_task(_back(reader, socket))
        try:
            await _out(socket, writer)
        finally:
            back.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await back
    finally:
        writer.close()
    return socket


async def _libvirt() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    path = next((p for p in SOCKETS if p.exists()), SOCKETS[-1])
    try:
        return await asyncio.open_unix_connection(str(path))
    except OSError as trouble:
        raise HypervisorTrouble(
            f"libvirt does not answer at {path}: {trouble.strerror}", hint="does libvirtd run?"
        ) from trouble


async def _out(socket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    """From the other daemon to this one; rule 3."""
    frames = Frames()
    try:
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                break
            for frame in frames.feed(message.data):
                if not may_pass(frame):
                    raise StreamBroken(f"call {frame.procedure} is no part of a migration")
                writer.write(frame.raw)
            await writer.drain()
    except (ConnectionError, OutlastError) as trouble:
        why = trouble.sentence if isinstance(trouble, OutlastError) else str(trouble)
        with contextlib.suppress(ConnectionError):
            await socket.send_str(why)
    await socket.close()


async def _back(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            await socket.send_bytes(data)
    await socket.close()
