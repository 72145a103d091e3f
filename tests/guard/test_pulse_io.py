"""The pulse's hands: registers by exact name, cycles with trouble, and its sockets."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_process import until
from pulse_world import MS, peer_block

from outlast.errors import Conflict, InvalidInput, StorageTrouble
from outlast.guard.pulse_client import PulseClient
from outlast.guard.pulse_io import CycleJob, LoadJob, RefreshJob, Registers, StorageThread, Store
from outlast.guard.pulse_net import Networks, parse_address
from outlast.guard.pulse_server import AgentServer, lock, read_publication
from outlast.model import SlotRecord, View
from outlast.settings import preset
from outlast.storage.format import encode_block, record_bytes, slot_to, view_to
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.layout import PoolDir, create_pool


@pytest.fixture
def pool(tmp_path: Path) -> PoolDir:
    (tmp_path / "pool").mkdir()
    return create_pool(tmp_path / "pool", "test", preset("lab"), lab=True)


def put(root: Path, name: str, version: int, value: dict[str, object]) -> Path:
    path = root / name / f"{version:020d}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(record_bytes(name, version, "ab", "1", value))
    return path


# registers ------------------------------------------------------------------------------------


def test_newest_lists_once_and_then_probes_forward(tmp_path: Path) -> None:
    registers = Registers(tmp_path)
    assert registers.newest("slot/1") == (0, None)
    for version in (7, 8):
        put(tmp_path, "slot/1", version, {"v": version})
    (tmp_path / "slot/1/foreign").touch()
    assert registers.newest("slot/1") == (8, {"v": 8})
    put(tmp_path, "slot/1", 9, {"v": 9})
    assert registers.newest("slot/1") == (9, {"v": 9})
    assert registers.newest("slot/1") == (9, {"v": 9})


def test_newest_lists_again_when_the_known_one_was_collected(tmp_path: Path) -> None:
    registers = Registers(tmp_path)
    old = put(tmp_path, "slot/1", 1, {})
    registers.newest("slot/1")
    old.unlink()
    put(tmp_path, "slot/1", 20, {"v": 20})
    assert registers.newest("slot/1") == (20, {"v": 20})


def test_newer_gives_all_versions_in_order_and_jumps_only_to_named_ones(tmp_path: Path) -> None:
    registers = Registers(tmp_path)
    for version in (1, 2, 3, 9, 10):
        put(tmp_path, "view", version, {"v": version})

    def found(known: int, *named: int) -> list[int]:
        return [version for version, _ in registers.newer("view", known, named)]

    assert found(1) == [2, 3]
    assert found(1, 9, 99) == [2, 3, 9, 10]
    assert found(3, 2, 3) == []
    assert found(10) == []


def test_newer_without_a_known_version_begins_with_the_newest(tmp_path: Path) -> None:
    registers = Registers(tmp_path)
    assert list(registers.newer("view", 0, [5])) == []
    put(tmp_path, "view", 4, {"v": 4})
    assert list(registers.newer("view", 0, [])) == [(4, {"v": 4})]


def test_a_late_link_above_a_hole_is_not_taken_for_the_next_version(tmp_path: Path) -> None:
    """This process followed version 2, slept, and 1..10 were collected; then a hanging link of
    version 3 was executed."""
    registers = Registers(tmp_path)
    for version in (3, 11, 12):
        put(tmp_path, "view", version, {"v": version})
    assert [version for version, _ in registers.newer("view", 2, [])] == [12]


def test_going_back_in_time_is_trouble(tmp_path: Path) -> None:
    registers = Registers(tmp_path)
    put(tmp_path, "view", 1, {})
    with pytest.raises(StorageTrouble, match="went back in time"):
        list(registers.newer("view", 2, []))
    with pytest.raises(StorageTrouble, match="went back in time"):
        list(Registers(tmp_path / "not mounted").newer("view", 2, []))


def test_a_damaged_version_is_never_passed_over(tmp_path: Path) -> None:
    registers = Registers(tmp_path)
    put(tmp_path, "view", 1, {})
    path = put(tmp_path, "view", 2, {})
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StorageTrouble, match="version 2 of register view is damaged"):
        list(registers.newer("view", 1, []))
    with pytest.raises(StorageTrouble, match="damaged"):
        registers.newest("view")


# the store ------------------------------------------------------------------------------------


def test_load_and_refresh(pool: PoolDir) -> None:
    store = Store(pool.root, HeartbeatFile)
    basics = store.do(LoadJob()).basics
    assert basics is not None and basics.pool_uuid == pool.uuid
    assert basics.secret == pool.secret() and pool.secret().hex() not in repr(basics)
    record = SlotRecord(1, "a", "u", 1, True)
    put(pool.reg, "slot/1", 1, slot_to(record))
    damaged = put(pool.reg, "slot/3", 1, slot_to(record))
    damaged.write_bytes(b"x")
    done = store.do(RefreshJob(frozenset({1, 2, 3})))
    assert done.settings is not None and done.settings.timing == preset("lab")
    assert done.slots == {1: record, 2: None} and "slot/3 is damaged" in done.error


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"uuid": 5}', "\xff"])
def test_a_damaged_pool_file_is_trouble(pool: PoolDir, content: str) -> None:
    (pool.root / "pool.json").chmod(0o600)
    (pool.root / "pool.json").write_text(content, "latin-1")
    (pool.root / "secret").write_text("abc" if content == '{"uuid": 5}' else pool.secret().hex())
    done = Store(pool.root, HeartbeatFile).do(LoadJob())
    assert done.basics is None and "damaged" in done.error


def test_a_cycle_reads_after_it_wrote(pool: PoolDir) -> None:
    store = Store(pool.root, HeartbeatFile)
    raw = encode_block(peer_block(slot=1))
    view = View(1, {}, 0, "form", "test", 1)
    put(pool.reg, "view", 1, view_to(view))
    sample = store.do(CycleJob(1, raw, 0, frozenset())).sample
    assert sample is not None and sample.area is not None and sample.acked is not None
    assert sample.area[1] == raw and sample.before == bytes(4096) and sample.views == (view,)
    assert sample.started <= sample.acked <= sample.read_start <= sample.read_end
    assert not sample.error and not sample.view_error
    store.close()


class FullArea(HeartbeatFile):
    def write_block(self, raw: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_write_that_fails_is_not_acknowledged(pool: PoolDir) -> None:
    sample = Store(pool.root, FullArea).do(CycleJob(1, bytes(4096), 0, frozenset())).sample
    assert sample is not None and sample.acked is None and sample.area is None
    assert "No space left" in sample.error


def test_a_missing_area_is_opened_again_when_it_is_back(pool: PoolDir) -> None:
    store = Store(pool.root, HeartbeatFile)
    pool.hb.rename(pool.root / "away")
    sample = store.do(CycleJob(1, None, 0, frozenset())).sample
    assert sample is not None and sample.area is None and "No such file" in sample.error
    (pool.root / "away").rename(pool.hb)
    sample = store.do(CycleJob(1, None, 0, frozenset())).sample
    assert sample is not None and sample.area is not None and sample.written is None
    store.close()


def test_the_thread_tells_how_long_and_hands_mistakes_to_the_caller(tmp_path: Path) -> None:
    gate = threading.Event()

    class Slow(Store):
        def do(self, job: object) -> None:  # type: ignore[override]
            gate.wait(10)
            raise ZeroDivisionError

    woken = threading.Event()
    thread = StorageThread(Slow(tmp_path, HeartbeatFile), woken.set)
    thread.give(LoadJob())
    until(lambda: thread.pending_ns() > 20 * MS, "it is pending")
    assert thread.take() is None and not thread.stop(0)
    with pytest.raises(RuntimeError, match="busy"):
        thread.give(LoadJob())
    gate.set()
    assert woken.wait(10)
    with pytest.raises(ZeroDivisionError):
        thread.take()
    assert thread.stop(10)


# network and agents ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0:1", "host:1", ":1",
    "[::1]", "[::1:7", "10.0.0.1:x",
])  # fmt: skip
def test_bad_addresses(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_address(text)


def test_good_addresses_and_networks() -> None:
    assert parse_address("10.0.0.1:7790") == ("10.0.0.1", 7790)
    assert parse_address("[fd00::1]:7790") == ("fd00::1", 7790)
    networks = Networks(["127.0.0.1:7", "203.0.113.7:7790"])
    networks.open_missing()
    assert "203.0.113.7:7790" in networks.trouble[1]  # not an address of this host: told, no more
    networks.close()
    with pytest.raises(InvalidInput, match="at most"):
        Networks(["127.0.0.1:1"] * 17)


def test_a_peer_that_cannot_be_reached_is_counted() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        networks = Networks(["127.0.0.1:0"[:-1] + str(_free())])
        ((network, _),) = networks.open_missing()
        good = f"127.0.0.1:{peer.getsockname()[1]}"
        networks.send(iter([("nonsense",), (good, good), (), ("255.255.255.255:9",)]), _packet)
        assert peer.recv(10) == b"beat" and network == 0
        assert networks.unsent["bad address"] == 1 and sum(networks.unsent.values()) == 2
        networks.close()


def _packet(_network: int) -> bytes:
    return b"beat"


def _free() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("value", [
    None, [], {"vm_count": -1}, {"vm_count": True}, {"free_mib": "1"}, {"work_seq": 1 << 63},
    {"hints": {}}, {"hints": [["a"]]}, {"hints": [["a", "b"]]}, {"hints": [["a", -1]]},
    {"hints": [["", 1]]}, {"hints": [["x" * 73, 1]]}, {"hints": [["ä", 1]]},
    {"hints": [["a", True]]},
])  # fmt: skip
def test_bad_publications(value: object) -> None:
    with pytest.raises(InvalidInput):
        read_publication(value)


def test_only_one_pulse(tmp_path: Path) -> None:
    held = lock(tmp_path)
    with pytest.raises(Conflict):
        lock(tmp_path)
    held.close()
    lock(tmp_path).close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[AgentServer, list[dict[str, object]], Path]]:
    import selectors

    said: list[dict[str, object]] = []
    selector, path = selectors.DefaultSelector(), tmp_path / "pulse.sock"

    def take(message: dict[str, object]) -> None:
        read_publication(message.get("publish", {}))
        said.append(message)

    serving, ended = AgentServer(path, selector, take), threading.Event()

    def loop() -> None:
        while not ended.is_set():
            for key, events in selector.select(0.02):
                key.data(events)
            serving.broadcast({"now_ns": 1})

    thread = threading.Thread(target=loop)
    thread.start()
    yield serving, said, path
    ended.set()
    thread.join(10)
    serving.close()
    assert not path.exists()


def test_bad_lines_are_answered_and_the_connection_stays(
    server: tuple[AgentServer, list[dict[str, object]], Path],
) -> None:
    _, said, path = server
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b'no json\n[]\n{"x":1}\n{"publish":{"vm_count":-1}}\n{"publish":{}}\n')
        until(lambda: said == [{"publish": {}}], "the good one is taken")
        answers = b""
        while answers.count(b"error") < 2:  # only the newest waits behind one under way
            answers += sock.recv(65536)
        assert b"not JSON" in answers


def test_a_line_without_end_ends_the_connection(
    server: tuple[AgentServer, list[dict[str, object]], Path],
) -> None:
    serving, _, path = server
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        until(lambda: serving.connected, "it is connected")
        with pytest.raises(OSError):  # reset or broken pipe
            for _ in range(100):
                sock.sendall(b"x" * 65536)
    until(lambda: not serving.connected, "it is dropped")


def test_the_client_reconnects_and_publishes_again(
    server: tuple[AgentServer, list[dict[str, object]], Path], tmp_path: Path
) -> None:
    _, said, path = server
    with PulseClient(path) as client:
        snapshots = client.snapshots()
        assert next(snapshots) == {"now_ns": 1}
        assert client.publish(vm_count=1, free_mib=2, free_vcpus=3, work_seq=4, hints=[("a", 5)])
        until(lambda: len(said) == 1, "it arrived")
        with client._lock:
            assert client._sock is not None
            client._sock.shutdown(socket.SHUT_RDWR)
        while next(snapshots) is not None:
            pass
        assert next(snapshots) == {"now_ns": 1}
        until(lambda: len(said) == 2, "it was said again")
        wanted = '{"vm_count":1,"free_mib":2,"free_vcpus":3,"work_seq":4,"hints":[["a",5]]}'
        wish = {**json.loads(wanted), "tells_views": True, "witness": None}
        assert said[0] == said[1] == {"publish": wish}
    assert list(snapshots) == []
    away = PulseClient(tmp_path / "nobody")
    assert not away.leave()
    away.close()
    assert list(away.snapshots()) == []
