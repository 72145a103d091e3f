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
from outlast.pool.journal import Note, note
from outlast.wire.client import AgentClient

BEGAN_S = round(time.time()) - 100
OFFERS = [{"host": h, "score": 0.9, "memory": 0.9} for h in "ba"]
CHOSEN = "c lost it, proof: silent; b has the most left: 90% of it (0.94); then a (0.88)"
TOLD = (
    ("a", note("host-silent", host="c", still_s=61.0, limit_s=60.0)),
    ("b", note("host-silent", host="c", still_s=62.0, limit_s=60.0)),
    ("a", note("order-given", vm="web", host="b", why=CHOSEN, candidates=OFFERS)),
    ("b", note("lease-taken", vm="web", over=" from its former holder, proof: silent", epoch=2)),
    ("b", note("vm-starts", vm="web", host="b", why="w")),
    ("a", note("view-changed", view=4, members="a b", master="a", reason="c is silent")),
    ("b", note("view-changed", view=4, members="a b", master="a", reason="c is silent")),
    ("a", note("vm-stopped", vm="db")),
    ("b", note("vm-runs", vm="web", host="b")),
    ("b", note("vm-alive", vm="web", host="b", sign="its guest agent answers", after_s=2.0)),
    ("b", note("order-refused", vm="web", why="of another moment")),
    ("a", note("view-changed", view=5, members="a b c", master="a", reason="c joins")),
    ("c", note("guard-ended", host="c", ago_s=70.0, why="nothing was amiss in its last word")),
    ("b", note("backup-failed", vm="web", host="b", said="no room")),
)
# the account of web, with the second behind each part
ACCOUNT = (
    ("c wrote its last block", -61),
    ("a and b saw it silent for 62.0 s", None),
    ("b was chosen of 2 candidates: b has the most left: 90% of it (0.94), then a (0.88)", 2),
    ("lease taken with proof 'silent'", 3),
    ("view 4 (a, b)", 5),
    ("QEMU running", 8),
    ("first sign of life from the guest (its guest agent answers)", 9),
    ("c itself says since: nothing was amiss in its last word", 12),
)


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    service = MemoryService(tmp_path)
    service.notes = linked(
        [
            {"wall_s": BEGAN_S + n, "host": host, "code": one.code, "sentence": one.sentence,
             "fields": dict(one.fields)}
            for n, (host, one) in enumerate(TOLD)
        ]
    )  # type: ignore[assignment]  # fmt: skip
    return service


def test_a_vm_that_was_taken_over(service: MemoryService) -> None:
    why = Api(service).why_vm("web")
    assert why.sentence.startswith("web runs on b, because c is silent: its block is unchanged")
    assert [s.code for s in why.steps] == [
        "host-silent", "order-given", "lease-taken", "vm-starts", "view-changed", "vm-runs",
        "vm-alive", "guard-ended",
    ]  # fmt: skip
    assert [
        (m.words, round(m.wall_s - BEGAN_S) if m.wall_s else None) for m in why.account
    ] == list(ACCOUNT)
    assert why.told(lambda s: f"{s - BEGAN_S:.0f}").startswith(
        "web runs on b since 8, because c fell silent: c wrote its last block at -61; a and b saw"
    )
    lines = why_lines(why)
    assert lines[0].startswith("web runs on b since ")
    assert lines[2].endswith("(after 1)")
    assert "db" not in "\n".join(lines)


def test_a_vm_that_was_started_for_the_first_time(service: MemoryService) -> None:
    first = note(
        "order-given", vm="new", host="b", why="it is wanted and runs nowhere; most is left"
    )
    runs = note("vm-runs", vm="new", host="b")
    service.notes += linked(
        [
            {"wall_s": BEGAN_S + 20 + n, "host": "b", "code": one.code, "sentence": one.sentence,
             "fields": dict(one.fields), "id": str(n), "causes": ["0"] * n}
            for n, one in enumerate((first, runs))
        ]
    )  # type: ignore[arg-type]  # fmt: skip
    told = Api(service).why_vm("new").told(lambda s: f"{s - BEGAN_S:.0f}")
    assert told == (
        "new runs on b since 21, because it is wanted and runs nowhere: "
        "b was chosen: most is left at 20; QEMU running at 21"
    )


def test_a_vm_that_a_drill_ended_and_one_that_died_later(service: MemoryService) -> None:
    drill = {"kind": "vm", "what": "ends new", "for_s": 15, "by": "anna", "foreseen": "new on b"}
    died, runs = note("vm-crashed", vm="new", host="b", why="its QEMU ended"), note(
        "vm-runs", vm="new", host="b")  # fmt: skip
    begins = note("drill-begins", host="b", vm="new", **drill)
    told = (runs, begins, died, note("vm-starts", vm="new", host="b", why="it died"), runs)
    later = (died, note("vm-starts", vm="new", host="b", why="it died"), runs)

    def answer(notes: tuple[Note, ...]) -> str:
        service.notes = linked(
            [{"wall_s": BEGAN_S + n, "host": "b", "code": one.code, "sentence": one.sentence,
              "fields": dict(one.fields)} for n, one in enumerate(notes)]
        )  # type: ignore[assignment]  # fmt: skip
        return Api(service).why_vm("new").told(lambda s: f"{s - BEGAN_S:.0f}")

    assert answer(told) == (
        "new runs on b since 4, because a drill of b began: drill 'vm', as anna wished at 1; "
        "its QEMU ended at 2; QEMU running at 4"
    )
    assert answer((*told, *later)) == (
        "new runs on b since 7, because new died on b: its QEMU ended at 5; QEMU running at 7"
    )


def test_a_host_that_is_back(service: MemoryService) -> None:
    service.notes += linked(
        [{"wall_s": BEGAN_S + 20.0, "host": "c", "code": "member", "sentence": "c is a member",
          "fields": {"host": "c", "view": 5, "slot": 3}, "causes": ["old-1"]}]
    )  # type: ignore[arg-type]  # fmt: skip
    assert "c is a member; it began with this: c is silent" in Api(service).why_host("c").sentence


def test_a_vm_that_nothing_happened_to(service: MemoryService) -> None:
    why = Api(service).why_vm("db")
    assert why.told(str) == f"db is stopped since {BEGAN_S + 7}.0: db is stopped at {BEGAN_S + 7}.0"


def test_a_host_and_what_is_not_known(service: MemoryService) -> None:
    api = Api(service)
    assert api.why_host("c").sentence.startswith("c went down 70 s before")
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
