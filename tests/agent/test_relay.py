"""The relay between two libvirt daemons: real sockets, real TLS; the test plays the daemons."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_service import SETTINGS, TERMS, MemoryService

from outlast.agent import arrivals
from outlast.agent.api import Place
from outlast.agent.departures import LAST_PORT, Departures
from outlast.agent.relay import Relay
from outlast.agent.server import Server
from outlast.agent.server_thread import ServerThread
from outlast.errors import Conflict, HypervisorTrouble, OutlastError, PoolTrouble, Refused
from outlast.hypervisor.mover import Progress, Way
from outlast.hypervisor.rpc_frames import CALL, FINISH3, HEAD, KEEPALIVE, PREPARE3, REMOTE, REPLY
from outlast.model import Handover
from outlast.pool.decision import Depart
from outlast.wire import seal

WAY = Handover("1" * 16, 1, 2, TERMS[2])


def message(procedure: int, kind: int, status: int = 0, program: int = REMOTE) -> bytes:
    return HEAD.pack(HEAD.size, program, 1, procedure, kind, 7, status)


class Daemon:
    """The target's libvirtd, as far as the way to it goes."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(5)
        self.connection: socket.socket | None = None

    def accept(self) -> socket.socket:
        self.connection, _ = self._listener.accept()
        self.connection.settimeout(5)
        return self.connection

    def close(self) -> None:
        self._listener.close()
        if self.connection:
            self.connection.close()


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    pool = tmp_path / "pki"
    pool.mkdir()
    seal.create_authority(pool)
    for name in "abc":
        key, cert = seal.issue_host(pool, name, f"uuid-{name}", ["127.0.0.1"])
        seal.install(tmp_path / name, pool, key, cert)
    return pool


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "libvirt-sock")
    monkeypatch.setattr(arrivals, "SOCKETS", (tmp_path / "libvirt-sock",))
    yield made
    made.close()


@pytest.fixture
def target(tmp_path: Path, pki: Path, daemon: Daemon) -> Iterator[tuple[MemoryService, Place]]:
    service = MemoryService(tmp_path, slot=2)
    service.hold("web", 1, move=WAY)
    server = Server(service, tmp_path / "b.sock", address="127.0.0.1:0", pki=tmp_path / "b")
    thread = ServerThread(server)
    thread.start()
    yield service, Place("b", f"127.0.0.1:{server.port}")
    thread.stop()


def relay_of(tmp_path: Path, place: Place, host: str = "a", id_: str = WAY.id) -> Relay:
    return Relay(tmp_path / "way.sock", place, "web", id_, seal.client_context(tmp_path / host))


def libvirt_of(tmp_path: Path) -> socket.socket:
    """The source's libvirtd connects."""
    near = socket.socket(socket.AF_UNIX)
    near.settimeout(5)
    near.connect(str(tmp_path / "way.sock"))
    return near


def silent(near: socket.socket, seconds: float = 0.2) -> bool:
    near.settimeout(seconds)
    try:
        near.recv(1)
    except TimeoutError:
        return True
    finally:
        near.settimeout(5)
    return False


@pytest.fixture
def way(
    tmp_path: Path, target: tuple[MemoryService, Place], daemon: Daemon
) -> Iterator[tuple[Relay, socket.socket, socket.socket]]:
    relay = relay_of(tmp_path, target[1])
    relay.start()
    far = daemon.accept()
    near = libvirt_of(tmp_path)
    near.sendall(message(PREPARE3, CALL))
    assert far.recv(100) == message(PREPARE3, CALL)
    yield relay, near, far
    near.close()
    relay.close()


Ends = tuple[Relay, socket.socket, socket.socket]


def test_the_word_of_success_is_held_until_it_is_released(way: Ends) -> None:
    relay, near, far = way
    far.sendall(message(PREPARE3, REPLY))
    assert near.recv(100) == message(PREPARE3, REPLY)
    assert not relay.intact(), "nothing is held yet"
    far.sendall(message(FINISH3, REPLY))
    assert relay.held.wait(5)
    assert silent(near)
    assert relay.intact()
    far.sendall(message(1, 2, program=KEEPALIVE))
    assert near.recv(100) == message(1, 2, program=KEEPALIVE), (
        "the daemons may still see each other"
    )
    relay.release()
    assert near.recv(100) == message(FINISH3, REPLY)
    assert not relay.intact(), "it was delivered"


def test_a_word_of_failure_passes_at_once(way: Ends) -> None:
    relay, near, far = way
    far.sendall(message(FINISH3, REPLY, 1))
    assert near.recv(100) == message(FINISH3, REPLY, 1)
    assert not relay.held.is_set()


def test_a_libvirt_that_hung_up_is_not_intact(way: Ends) -> None:
    relay, near, far = way
    far.sendall(message(FINISH3, REPLY))
    assert relay.held.wait(5)
    near.close()
    until = time.monotonic() + 5
    while relay.intact() and time.monotonic() < until:
        time.sleep(0.01)
    assert not relay.intact()


def test_what_is_no_part_of_a_migration_ends_the_way(way: Ends) -> None:
    _, near, far = way
    near.sendall(message(10, CALL))  # create a domain
    assert far.recv(100) == b"", "it was let through"
    assert near.recv(100) == b""


def test_the_targets_end_is_the_sources(way: Ends) -> None:
    relay, near, far = way
    far.close()
    assert near.recv(100) == b""
    assert not relay.intact()


def test_refusals_come_back_as_they_were_said(
    tmp_path: Path, target: tuple[MemoryService, Place]
) -> None:
    service, place = target
    with pytest.raises(Refused, match="host c may not send 'web'"):
        relay_of(tmp_path, place, "c").start()
    with pytest.raises(Conflict, match="names no such move"):
        relay_of(tmp_path, place, id_="2" * 16).start()
    assert service.admitted == []
    with pytest.raises(OutlastError, match="no way to"):
        relay_of(tmp_path, Place("b", "127.0.0.1:1")).start()
    assert not (tmp_path / "way.sock").exists()


def test_asking_for_the_reason_lets_nothing_in(
    tmp_path: Path, target: tuple[MemoryService, Place]
) -> None:
    """As the client does after a web socket was refused, when the cause has gone meanwhile."""
    service, place = target
    context = seal.client_context(tmp_path / "a")
    address = place.api.rpartition(":")
    raw = socket.create_connection((address[0], int(address[2])))
    with context.wrap_socket(raw, server_hostname="b") as tls:
        tls.sendall(f"GET /v1/moves/web/way?id={WAY.id} HTTP/1.0\r\n\r\n".encode())
        said = b"".join(iter(lambda: tls.recv(4096), b""))
    assert b"409" in said.split(b"\r\n")[0]
    assert b"may be tried again" in said
    assert service.admitted == []


# ---- the hand


class Leaving:
    """A Departure that the test plays: still as long as it says so."""

    def __init__(self) -> None:
        self.over, self.trouble, self.still = threading.Event(), "", True

    def wait(self, limit_s: float) -> bool:
        return self.over.wait(limit_s)

    def progress(self) -> Progress:
        return Progress()

    def abort(self) -> None:
        self.trouble = "aborted"
        self.over.set()


class Hypervisor:
    """Begins the move the test plays: connects to the way and asks for Finish."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon, self.leaving = daemon, Leaving()
        self.hangs_up = False

    def depart(self, name: str, way: Way) -> Leaving:
        far = self.daemon.accept()
        near = socket.socket(socket.AF_UNIX)
        near.connect(way.socket)
        near.sendall(message(FINISH3, CALL))
        assert far.recv(100)
        far.sendall(message(FINISH3, REPLY))
        self.near = near
        if self.hangs_up:
            threading.Timer(0.1, near.close).start()
        return self.leaving


class Guard:
    def __init__(self, populated: bool = False) -> None:
        self.killed: list[str] = []
        self.populated = populated

    def kill(self, vm: str) -> dict[str, object]:
        self.killed.append(vm)
        time.sleep(0.2)
        return {"ok": True, "populated": self.populated}


class Machine:
    def look_at_guard(self) -> None:
        """Nothing to look at."""


def hand(
    tmp_path: Path, place: Place, hypervisor: Hypervisor, guard: Guard, address: str = "127.0.0.1"
) -> Departures:
    return Departures(
        hypervisor, lambda: guard, Machine(), tmp_path,  # type: ignore[arg-type,return-value]
        lambda slot: (place, address), lambda: seal.client_context(tmp_path / "a"),
            lambda: SETTINGS,
    )  # fmt: skip


def test_it_has_left_when_the_guard_ended_it_while_libvirt_waited(
    tmp_path: Path, target: tuple[MemoryService, Place], daemon: Daemon
) -> None:
    hypervisor, guard = Hypervisor(daemon), Guard()
    result = hand(tmp_path, target[1], hypervisor, guard).go(Depart("web", WAY.id, 2))
    assert (result.kind, result.subject, result.ok) == ("move", "web", True)
    assert guard.killed == ["web"]
    hypervisor.near.settimeout(5)
    assert hypervisor.near.recv(100) == message(FINISH3, REPLY), "libvirt may tidy up now"
    hypervisor.leaving.over.set()


def test_libvirt_is_not_asked_to_go_where_packets_vanish(
    tmp_path: Path, target: tuple[MemoryService, Place], daemon: Daemon,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It would hold the VM for minutes."""
    monkeypatch.setattr("outlast.agent.departures.REACH_S", 0.5)
    hypervisor, address = Hypervisor(daemon), "127.0.77.1"
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind((address, LAST_PORT))
        full.listen(0)  # takes in one, and lets all others wait
        waiting.enter_context(socket.create_connection((address, LAST_PORT)))
        with pytest.raises(PoolTrouble, match=f"b does not answer at {address}, its address for m"):
            hand(tmp_path, target[1], hypervisor, Guard(), address).go(Depart("web", WAY.id, 2))
    assert not hasattr(hypervisor, "near"), "it was asked"


def test_it_may_have_gone_on_when_libvirt_hung_up(
    tmp_path: Path, target: tuple[MemoryService, Place], daemon: Daemon
) -> None:
    hypervisor, guard = Hypervisor(daemon), Guard()
    hypervisor.hangs_up = True
    with pytest.raises(HypervisorTrouble, match="may have gone on"):
        hand(tmp_path, target[1], hypervisor, guard).go(Depart("web", WAY.id, 2))
    hypervisor.leaving.over.set()


def test_a_process_that_does_not_die_has_not_left(
    tmp_path: Path, target: tuple[MemoryService, Place], daemon: Daemon
) -> None:
    hypervisor = Hypervisor(daemon)
    with pytest.raises(HypervisorTrouble, match="does not die"):
        hand(tmp_path, target[1], hypervisor, Guard(populated=True)).go(Depart("web", WAY.id, 2))
    hypervisor.leaving.over.set()


def test_without_the_sign_that_it_stopped_libvirt_decides(
    tmp_path: Path, target: tuple[MemoryService, Place], daemon: Daemon
) -> None:
    hypervisor, guard = Hypervisor(daemon), Guard()
    hypervisor.leaving.still = False
    threading.Timer(0.6, hypervisor.leaving.over.set).start()
    result = hand(tmp_path, target[1], hypervisor, guard).go(Depart("web", WAY.id, 2))
    assert result.ok, "libvirt said that it worked"
    hypervisor = Hypervisor(daemon)
    hypervisor.leaving.still, hypervisor.leaving.trouble = False, "it went on"
    threading.Timer(0.6, hypervisor.leaving.over.set).start()
    with pytest.raises(HypervisorTrouble, match="it went on"):
        hand(tmp_path, target[1], hypervisor, guard).go(Depart("web", WAY.id, 2))


def test_what_was_given_up_is_cut_and_nothing_comes_back_before_libvirt_is_done(
    tmp_path: Path, target: tuple[MemoryService, Place], daemon: Daemon
) -> None:
    hypervisor, guard = Hypervisor(daemon), Guard()
    hypervisor.leaving.still = False  # it waits for libvirt's own word, which does not come
    hypervisor.leaving.abort = lambda: None  # type: ignore[method-assign]
    departures = hand(tmp_path, target[1], hypervisor, guard)
    ended: list[str] = []

    def go() -> None:
        try:
            departures.go(Depart("web", WAY.id, 2))
        except HypervisorTrouble as trouble:
            ended.append(trouble.sentence)

    thread = threading.Thread(target=go)
    thread.start()
    until = time.monotonic() + 5
    while not departures.any:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not departures.settled("web", 0.05)
    departures.abort("web")
    hypervisor.near.settimeout(5)
    while hypervisor.near.recv(100):
        pass  # libvirt's end of the way is closed
    hypervisor.leaving.trouble = "client socket is closed"
    hypervisor.leaving.over.set()
    thread.join(10)
    assert ended == ["client socket is closed"]
    assert departures.settled("web", 0)
    assert departures.settled("other", 0)


def test_a_move_that_does_not_end_when_it_is_given_up_ends_the_process(
    tmp_path: Path, target: tuple[MemoryService, Place], daemon: Daemon,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("outlast.agent.departures.GIVE_UP_S", 0.3)
    hypervisor, guard, hangs = Hypervisor(daemon), Guard(), threading.Event()
    hypervisor.leaving.still = False
    hypervisor.leaving.abort = lambda: hangs.wait(20)  # type: ignore[assignment,method-assign]
    departures = hand(tmp_path, target[1], hypervisor, guard)

    def give_up() -> None:
        while not departures.any:
            time.sleep(0.01)
        departures.abort("web")

    thread = threading.Thread(target=give_up)
    thread.start()
    with pytest.raises(HypervisorTrouble, match="did not end its move"):
        departures.go(Depart("web", WAY.id, 2))
    assert guard.killed == ["web"]
    assert not departures.settled("web", 0), "it starts again only when libvirt is done"
    hangs.set()
    hypervisor.leaving.over.set()
    thread.join(10)
