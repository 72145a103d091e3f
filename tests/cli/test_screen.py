"""`outlast vm screen`: a socket for a viewer, private, and gone afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent.server import Server
from outlast.agent.server_thread import ServerThread
from outlast.cli import screen
from outlast.errors import Conflict, NotFound
from outlast.wire.client import AgentClient
from outlast.wire.shapes import VmCreate, make
from outlast.wire.target import Target, parse_target


async def vnc(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What QEMU would say first; then it repeats in capital letters what it hears."""
    writer.write(b"RFB 003.008\n")
    writer.write((await reader.read(64)).upper())
    writer.close()


async def look(target: Target, service: MemoryService, at: Path) -> bytes:
    async with asyncio.timeout(20):
        server = await asyncio.start_unix_server(vnc, service.screen)
        async with screen.offered(target, "web", at):
            assert at.stat().st_mode & 0o777 == 0o600
            reader, writer = await asyncio.open_unix_connection(at)
            writer.write(b"hello")
            said = await reader.read()
            writer.close()
            with pytest.raises(Conflict, match="cannot be made"):
                async with screen.offered(target, "web", at.parent / "none" / "viewer"):
                    pass
        server.close()
    return said


def test_a_screen_for_a_viewer_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    service = MemoryService(tmp_path)
    thread = ServerThread(Server(service, tmp_path / "run/agent.sock"))
    thread.start()
    try:
        address = f"unix:{tmp_path}/run/agent.sock"
        AgentClient(address).create(make(VmCreate, name="web", memory="64MiB"))
        AgentClient(address).start("web")
        target, at = parse_target(address), tmp_path / "viewer"
        assert asyncio.run(look(target, service, at)) == b"RFB 003.008\nHELLO"
        assert not at.exists()
        with pytest.raises(NotFound, match="no VM 'db'"):
            screen.run_screen(target, "db", at)
    finally:
        thread.stop()
