"""Asks the other agents, over mutual TLS, what really runs on their hosts, and hands calls on.

Rules:
1. An answer is at most `FRESH_S` old; an agent that does not answer within `WAIT_S` is left out:
   not knowing is an answer of its own (vm_status.py says "unconfirmed").
2. The certificate must name the host that the slot belongs to, whatever its address.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping

import aiohttp

from outlast.agent.api import Place
from outlast.errors import OutlastError, PoolTrouble, Unreachable
from outlast.model import SlotRecord
from outlast.network.roles import migration_address
from outlast.wire.shapes import LocalVms, parse

FRESH_S = 0.4
WAIT_S = 1.0
FORWARD_S = 120.0  # a snapshot may take its time
FOR = "Outlast-For"  # header of a call that was handed on: by which host


class AgentPeers:
    """Lives on one event loop. Without a TLS context nobody can be asked."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._session: aiohttp.ClientSession | None = None
        self._known: dict[int, tuple[float, LocalVms]] = {}

    async def look(self, places: Mapping[int, Place]) -> dict[int, LocalVms]:
        """What each of these hosts says, by slot; those that do not answer are missing."""
        if self._context is None or not places:
            return {}
        answers = await asyncio.gather(*(self._ask(n, place) for n, place in places.items()))
        return {n: said for n, said in zip(places, answers, strict=True) if said is not None}

    @property
    def able(self) -> bool:
        """Whether others can be asked at all."""
        return self._context is not None

    async def forward(self, place: Place, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Hand a call on to another agent: its status and its answer. Raises Unreachable."""
        limit = aiohttp.ClientTimeout(total=FORWARD_S, connect=WAIT_S)
        try:
            async with self._opened().request(
                method, base_url(place.api) + path, data=body, headers={FOR: "a host"},
                server_hostname=place.host, timeout=limit,
            ) as answer:  # fmt: skip
                return answer.status, await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(
                f"the agent of {place.host}, which has to do it, does not answer: {error}",
                hint="what was asked may still happen; try again in a moment",
            ) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=WAIT_S)
            connector = aiohttp.TCPConnector(ssl=self._context or True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self._session

    async def _ask(self, slot: int, place: Place) -> LocalVms | None:
        known = self._known.get(slot)
        if known is not None and time.monotonic() - known[0] < FRESH_S:
            return known[1]
        try:
            url = f"{base_url(place.api)}/v1/local"
            async with self._opened().get(url, server_hostname=place.host) as answer:
                if answer.status != 200:
                    return None
                said = parse(LocalVms, await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError, OutlastError):
            return None
        if said.host != place.host:
            return None
        self._known[slot] = (time.monotonic(), said)
        return said


def way_to(slot: int, record: SlotRecord | None) -> tuple[Place, str]:
    """The agent of a host, and the address at which its QEMUs take the memory of VMs in.

    Raises PoolTrouble.
    """
    if record is None or not record.api or not record.addresses:
        raise PoolTrouble(f"slot {slot} has no address for its agent or its beats")
    return Place(record.host, record.api), migration_address(record)


def base_url(api: str) -> str:
    """The https address of a slot record, which may be written with or without its scheme."""
    return api if api.startswith("https://") else f"https://{api}"
