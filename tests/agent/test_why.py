"""Why a VM or a host is as it is, through the API's own door and in words."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent.api import Api
from outlast.agent.notebook import linked
from outlast.agent.server import Server
from outlast.agent.server_thread import ServerThread
from outlast.cli.render import why_lines
from outlast.errors import InvalidInput, NotFound
from outlast.pool.journal import note
from outlast.wire.client import AgentClient

TOLD = (
    ("a", note("host-silent", host="c", still_s=61.0, limit_s=60.0)),
    ("a", note("order-given", vm="web", host="b", why="c lost it, proof: silent")),
    ("b", note("lease-taken", vm="web", over="", epoch=2)),
    ("b", note("vm-starts", vm="web", host="b", why="w")),
    ("a", note("vm-stopped", vm="db")),
    ("b", note("vm-runs", vm="web", host="b")),
)


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    service, now_s = MemoryService(tmp_path), time.time() - 100
    service.notes = linked(
        [
            {"wall_s": now_s + n, "host": host, "code": one.code, "sentence": one.sentence,
             "fields": dict(one.fields)}
            for n, (host, one) in enumerate(TOLD)
        ]
    )  # type: ignore[assignment]  # fmt: skip
    return service


def test_a_vm_that_was_taken_over(service: MemoryService) -> None:
    why = Api(service).why_vm("web")
    assert why.sentence.startswith("web runs on b, because c is silent: its block is unchanged")
    assert [s.code for s in why.steps] == [
        "host-silent", "order-given", "lease-taken", "vm-starts", "vm-runs",
    ]  # fmt: skip
    lines = why_lines(why)
    assert lines[0] == why.sentence
    assert lines[2].endswith("(after 1)")
    assert "db" not in "\n".join(lines)


def test_a_host_and_what_is_not_known(service: MemoryService) -> None:
    api = Api(service)
    assert api.why_host("c").sentence.startswith("c is silent")
    for ask in (api.why_vm, api.why_host):
        with pytest.raises(NotFound, match="no note tells"):
            ask("nobody")
        with pytest.raises(InvalidInput):
            ask("../etc")


def test_over_the_socket(service: MemoryService, tmp_path: Path) -> None:
    server = ServerThread(Server(service, tmp_path / "agent.sock"))
    server.start()
    try:
        client = AgentClient(f"unix:{tmp_path / 'agent.sock'}")
        assert client.why_vm("web").subject == "web"
        assert client.why_host("c").steps[0].fields["host"] == "c"
        with pytest.raises(NotFound):
            client.why_vm("nobody")
    finally:
        server.stop()
