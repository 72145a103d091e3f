"""The API over real sockets: unix and mutual TLS, roles, errors, consoles across hosts."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent import workers
from outlast.agent.server import Server
from outlast.agent.server_thread import ServerThread
from outlast.errors import Conflict, InvalidInput, NotFound, Refused, StorageTrouble, Unreachable
from outlast.wire import console, seal
from outlast.wire.client import AgentClient
from outlast.wire.drills import DrillWish
from outlast.wire.shapes import VmCreate, make
from outlast.wire.target import parse_target


class Host:
    """One host's service and server, with its certificates."""

    def __init__(self, root: Path, pool: Path, name: str, service: MemoryService) -> None:
        self.etc, self.socket = root / name / "etc", root / name / "run/agent.sock"
        key, cert = seal.issue_host(pool, name, f"uuid-{name}", ["127.0.0.1"])
        seal.install(self.etc / "pki", pool, key, cert)
        self.service = service
        self.server = Server(service, self.socket, address="127.0.0.1:0", pki=self.etc / "pki")
        self.thread = ServerThread(self.server)
        self.thread.start()
        self.client = AgentClient(f"unix:{self.socket}")

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.port}"


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    folder = tmp_path / "pki"
    folder.mkdir()
    seal.create_authority(folder)
    (tmp_path / "images").mkdir()
    return folder


@pytest.fixture
def hosts(tmp_path: Path, pool: Path) -> Iterator[dict[str, Host]]:
    """Hosts a and b of one pool; wishes made at a are carried out on b."""
    a = MemoryService(tmp_path, slot=1, home=2)
    b = MemoryService(tmp_path, slot=2)
    b.register, b.leases = a.register, a.leases
    made = {"a": Host(tmp_path, pool, "a", a), "b": Host(tmp_path, pool, "b", b)}
    a.slots[2] = replace(a.slots[2], api=f"127.0.0.1:{made['b'].server.port}")
    yield made
    for host in made.values():
        host.thread.stop()


@pytest.fixture
def a(hosts: dict[str, Host]) -> Host:
    return hosts["a"]


def person(tmp_path: Path, pool: Path, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process calls with a certificate of that role."""
    etc = tmp_path / f"etc-{role}"
    key, cert = seal.issue_host(pool, role, "u", [], role)
    seal.install(etc / "pki", pool, key, cert)
    monkeypatch.setenv("OUTLAST_ETC", str(etc))


SPEC = make(VmCreate, name="web", memory="512MiB", disks=[{"size": "1M"}])


def test_a_vms_whole_life_over_the_unix_socket(a: Host) -> None:
    client = a.client
    assert client.create(SPEC).version == 1
    assert [v.state for v in client.vms()] == ["stopped"]
    assert client.start("web").sentence == "web shall run"
    assert client.vm("web").host == "b"
    with pytest.raises(Conflict, match="holds its lease") as caught:
        client.delete("web")
    assert caught.value.hint == "outlast vm stop web"
    assert client.stop("web").changed
    assert client.kill("web").changed
    assert client.delete("web", with_disks=True).changed
    assert client.vms() == []
    with pytest.raises(NotFound):
        client.vm("web")


def test_the_socket_is_for_root_only(a: Host) -> None:
    assert stat.S_IMODE(a.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(a.socket.parent.stat().st_mode) == 0o700


def test_only_the_hypervisor_of_the_other_host_says_running(hosts: dict[str, Host]) -> None:
    a, b = hosts["a"], hosts["b"]
    a.client.create(SPEC)
    a.client.start("web")
    assert a.client.status().vms[0].state == "starting"
    b.service.run("web")
    until = time.monotonic() + 5
    while a.client.status().vms[0].state != "running":
        assert time.monotonic() < until
    assert a.client.vm("web").since_wall_s is not None
    b.thread.stop()
    until = time.monotonic() + 5
    while a.client.status().vms[0].state != "unconfirmed":
        assert time.monotonic() < until
    b.thread = ServerThread(b.server)
    b.thread.start()


def test_roles_over_tls(
    a: Host, tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person(tmp_path, pool, "manager", monkeypatch)
    manager = AgentClient(a.url)
    manager.create(SPEC)
    assert manager.status().answered_by == "a"
    person(tmp_path, pool, "host", monkeypatch)
    host = AgentClient(a.url)
    assert host.status().vms[0].name == "web"
    refused = [
        lambda: host.start("web"), lambda: host.stop("web"), lambda: host.kill("web"),
        lambda: host.delete("web"), lambda: host.create(SPEC), host.timeline, host.vms,
        lambda: host.vm("web"), host.last_drill,
        lambda: host.drill(DrillWish(kind="agent", host="a")),
    ]  # fmt: skip
    for call in refused:
        with pytest.raises(Refused, match="may not"):
            call()
    assert a.client.status().refused_calls == len(refused)
    told = [note.sentence for note in a.service.told]
    assert len(told) == len(refused)
    assert "a refused host the call POST /v1/vms/web/start: host host may not" in told[0]
    assert a.client.vm("web").definition == 1


def test_strangers_do_not_get_in(a: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    seal.create_authority(other)
    person(tmp_path, other, "admin", monkeypatch)
    with pytest.raises(Refused, match="no certificate of this pool"):
        AgentClient(a.url).status()
    # the same stranger, not caring who answers
    (tmp_path / "etc-admin/pki/ca.pem").write_bytes((tmp_path / "pki/ca.pem").read_bytes())
    with pytest.raises((Refused, Unreachable)):
        AgentClient(a.url).status()
    monkeypatch.setenv("OUTLAST_ETC", str(tmp_path / "none"))
    with pytest.raises(NotFound, match="no certificate"):
        AgentClient(a.url).status()
    bare = ssl.create_default_context(cafile=str(tmp_path / "pki/ca.pem"))
    raw = http.client.HTTPSConnection("127.0.0.1", a.server.port, context=bare, timeout=5)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        raw.request("GET", "/v1/status")
        raw.getresponse()


def ask(host: Host, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict]:
    raw = http.client.HTTPConnection("x", timeout=10)
    raw.sock = socket.socket(socket.AF_UNIX)
    raw.sock.connect(str(host.socket))
    raw.request(method, path, body, headers)
    answer = raw.getresponse()
    assert answer.getheader("Content-Type", "").startswith("application/json")
    return answer.status, json.loads(answer.read())["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v2/status", b"", 404, "not-found"),
        ("PUT", "/v1/vms", b"", 404, "not-found"),
        ("POST", "/v1/vms", b"{", 422, "invalid-input"),
        ("POST", "/v1/vms", b"\xff\xfe", 422, "invalid-input"),
        ("POST", "/v1/vms", b'{"name":"web","memory":"1G","x":1}', 422, "invalid-input"),
        ("POST", "/v1/vms", b'{"name":"W","memory":"1G"}', 422, "invalid-input"),
        ("POST", "/v1/vms", b" " * (2 << 20), 413, "invalid-input"),
        ("POST", "/v1/vms/none/start", b"", 404, "not-found"),
        ("POST", "/v1/vms/..%2Fview/start", b"", 422, "invalid-input"),
        ("GET", "/v1/vms/W_/console", b"", 422, "invalid-input"),
        ("GET", "/v1/vms/none/console", b"", 404, "not-found"),
        ("GET", "/v1/timeline?since=nan", b"", 422, "invalid-input"),
        ("GET", "/v1/timeline?limit=-1", b"", 422, "invalid-input"),
        ("DELETE", "/v1/vms/web", b'{"force":"yes"}', 422, "invalid-input"),
    ],
)
def test_every_failure_is_json(
    a: Host, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    got, error = ask(a, method, path, body)
    assert (got, error["code"]) == (status, code)
    assert error["sentence"]


def test_the_field_of_a_bad_request_is_named(a: Host) -> None:
    _, error = ask(a, "POST", "/v1/vms", b'{"name":"web","memory":"1GB"}')
    assert (error["field"], error["hint"]) == ("memory", "write 1GiB")


def test_calls_out_of_web_pages_are_refused(a: Host) -> None:
    status, error = ask(a, "POST", "/v1/vms/web/start", Origin="https://evil.example")
    assert (status, error["code"]) == (403, "refused")


def test_a_bug_is_internal_and_tells_no_secrets(a: Host) -> None:
    def broken(_since: float, _limit: int, _until: float) -> None:
        raise RuntimeError("secret detail")

    a.service.timeline = broken  # type: ignore[method-assign,assignment]
    status, error = ask(a, "GET", "/v1/timeline")
    assert (status, error["code"]) == (500, "internal")
    assert "secret" not in json.dumps(error)


def test_a_hanging_storage_never_hangs_the_server(a: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CALLS_MAX", 3)
    gate = threading.Event()

    def hang(_since: float, _limit: int, _until: float) -> list[dict[str, object]]:
        gate.wait(20)
        return []

    a.service.timeline = hang  # type: ignore[method-assign,assignment]

    def call() -> None:
        with contextlib.suppress(StorageTrouble):  # the impatient one below may take a place
            a.client.timeline()

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    until = time.monotonic() + 5
    while True:
        try:
            AgentClient(f"unix:{a.socket}", timeout_s=0.3).timeline()
        except StorageTrouble as trouble:
            assert "3 calls are waiting" in trouble.sentence
            break
        except Unreachable:  # it got in before the three
            pass
        assert time.monotonic() < until
    assert a.client.status().answered_by == "a"
    gate.set()
    for caller in callers:
        caller.join(5)
        assert not caller.is_alive()


def test_a_new_agent_takes_the_socket_of_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "run/agent.sock"
    path.parent.mkdir()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    thread = ServerThread(Server(MemoryService(tmp_path), path))
    thread.start()
    assert AgentClient(f"unix:{path}").status().answered_by == "a"
    thread.stop()
    with pytest.raises(Unreachable, match="no agent answers"):
        AgentClient(f"unix:{path}").status()


def test_a_taken_port_is_a_sentence(a: Host, tmp_path: Path) -> None:
    address = f"127.0.0.1:{a.server.port}"
    again = Server(a.service, tmp_path / "again.sock", address=address, pki=a.etc / "pki")
    with pytest.raises(Conflict, match="cannot listen"):
        ServerThread(again).start()


# ---- the client's own troubles


def test_no_agent_is_a_sentence_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        AgentClient(f"unix:{tmp_path}/none.sock").status()
    assert "outlast host join" in caught.value.hint
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises((Unreachable, NotFound)):
        AgentClient(f"https://127.0.0.1:{port}").status()


@pytest.mark.parametrize("text", ["http://a:1", "agent.sock", "https://", "https://a:x", "ftp:/"])
def test_bad_targets(text: str) -> None:
    with pytest.raises(InvalidInput, match="names no agent"):
        AgentClient(text)


def test_a_server_that_hangs_up_or_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def hang_up() -> None:
            peer, _ = listener.accept()
            peer.recv(1000)
            peer.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(Unreachable, match="broke") as caught:
            AgentClient(f"unix:{path}").start("web")
        assert "whether the wish was taken is not known" in caught.value.hint
        thread.join()
        with pytest.raises(Unreachable, match=r"no answer within 0\.2 s"):
            AgentClient(f"unix:{path}", timeout_s=0.2).status()


# ---- consoles


async def converse(target: str, vm: str, say: bytes, want: bytes) -> str:
    """Say something, wait for the answer, hang up."""
    heard = bytearray()
    outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()

    def incoming(data: bytes) -> None:
        heard.extend(data)
        if want in heard:
            outgoing.put_nowait(None)

    async with asyncio.timeout(10), console.connect(parse_target(target), vm) as socket_:
        outgoing.put_nowait(say)
        return await console.pump(socket_, outgoing, incoming)


def run_vm_on_b(hosts: dict[str, Host]) -> None:
    hosts["a"].client.create(SPEC)
    hosts["a"].client.start("web")
    hosts["b"].service.run("web")


def test_a_console_here_and_through_another_host(hosts: dict[str, Host]) -> None:
    run_vm_on_b(hosts)
    for host in ("b", "a"):
        said = asyncio.run(converse(f"unix:{hosts[host].socket}", "web", b"ping\r", b"PING\r"))
        assert said == ""
    until = time.monotonic() + 5
    while not all(c.closed for c in hosts["b"].service.consoles):
        assert time.monotonic() < until, "a console was left open"
    assert len(hosts["b"].service.consoles) == 2


def test_a_console_that_ends_says_why(hosts: dict[str, Host]) -> None:
    run_vm_on_b(hosts)

    async def end_it() -> str:
        outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()

        def incoming(_data: bytes) -> None:
            hosts["b"].service.consoles[-1].close()

        target = parse_target(f"unix:{hosts['a'].socket}")
        async with asyncio.timeout(10), console.connect(target, "web") as socket_:
            return await console.pump(socket_, outgoing, incoming)

    assert "the console has ended" in asyncio.run(end_it())


def test_a_console_that_cannot_be_had(hosts: dict[str, Host]) -> None:
    target = f"unix:{hosts['a'].socket}"
    with pytest.raises(NotFound, match="no VM 'web'"):
        asyncio.run(converse(target, "web", b"", b"x"))
    hosts["a"].client.create(SPEC)
    with pytest.raises(Conflict, match="does not run"):
        asyncio.run(converse(target, "web", b"", b"x"))
    hosts["a"].client.start("web")  # b holds it, but has not started it yet
    with pytest.raises(NotFound, match="does not run on b"):
        asyncio.run(converse(target, "web", b"", b"x"))
