"""A real etcd of three members that die, pause and lose their majority, below real registers."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator

import pytest
from etcd_process import EtcdProcess, wait
from register_kit import Open, RegisterKit

from outlast.errors import StorageTrouble
from outlast.storage.etcd import NoAnswer
from outlast.storage.etcd_heartbeat import EtcdArea, header_of
from outlast.storage.etcd_register import EtcdRegister
from outlast.storage.format import decode_header
from outlast.storage.register import Outcome

POOL = "00112233-4455-6677-8899-aabbccddeeff"
numbers = itertools.count()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    with EtcdProcess(tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


@pytest.fixture
def pool() -> str:
    return f"p{next(numbers)}"


class TestEtcdOfThree(RegisterKit):
    """The same with every host at another member."""

    @pytest.fixture
    def open_register(self, three: EtcdProcess, pool: str) -> Open:
        turns = itertools.count()

        def open_at_another(writer: str) -> EtcdRegister:
            turn = next(turns)
            order = [(turn + n) % 3 for n in range(3)]
            return EtcdRegister(three.etcd(pool, *order), writer)

        return open_at_another


def test_each_host_writes_its_own_block_and_reads_all(three: EtcdProcess, pool: str) -> None:
    three.etcd(pool).transaction([], header_of(POOL))
    hosts = [EtcdArea(three.etcd(pool, n), slot) for n, slot in enumerate((1, 64, 0))]
    hosts[0].write_block(b"a" * 4096)
    hosts[1].write_block(b"b" * 4096)
    hosts[0].write_block(b"c" * 4096)
    for host in hosts:
        pieces = host.read_all()
        assert len(pieces) == 65
        assert decode_header(pieces[0]) == POOL
        assert pieces[1] == b"c" * 4096
        assert pieces[64] == b"b" * 4096
        assert not any(b"".join(pieces[2:64]))
    assert hosts[2].read_all(2) == pieces[:3]


def write(register: EtcdRegister, number: int) -> None:
    """Version number + 1 of the view, in whatever time etcd needs for it."""

    def written() -> bool:
        return register.read("view")[0] > number or register.swap("view", number, {"n": number}).ok

    wait(written, f"version {number + 1} is not written")


def test_a_member_dies_and_another_leads(three: EtcdProcess, pool: str) -> None:
    leader = three.leader()
    register = EtcdRegister(three.etcd(pool, leader, (leader + 1) % 3, (leader + 2) % 3), "1")
    write(register, 0)
    three.kill(leader)
    try:
        for number in range(1, 20):
            write(register, number)
        assert EtcdRegister(three.etcd(pool, (leader + 1) % 3), "2").read("view")[0] == 20
    finally:
        three.start(leader)
    last = EtcdRegister(three.etcd(pool, leader), "3")
    wait(lambda: last.read("view") == (20, {"n": 19}), "who was dead reads no new value")


def test_a_paused_member_gives_no_old_answer(three: EtcdProcess, pool: str) -> None:
    """What it is asked while it stands still, it answers from the present or not at all."""
    leader = three.leader()
    others = [n for n in range(3) if n != leader]
    writer = EtcdRegister(three.etcd(pool, *others, answer_s=5), "1")
    write(writer, 0)
    reader = EtcdRegister(three.etcd(pool, leader, answer_s=20), "2")
    wait(lambda: reader.read("view")[0] == 1, "nothing is read")
    three.pause(leader)
    read: list[tuple[int, object]] = []

    def ask() -> None:
        with contextlib.suppress(StorageTrouble):  # "leader changed" is an answer as well
            read.append(reader.read("view"))

    thread = threading.Thread(target=ask)
    thread.start()  # the former leader has this question in its socket all the while
    try:
        begun = time.monotonic()
        with pytest.raises(StorageTrouble, match="no answer in time"):
            EtcdRegister(three.etcd(pool, leader, answer_s=0.3), "3").read("view")
        assert time.monotonic() - begun < 5
        for number in range(1, 6):
            write(writer, number)
    finally:
        three.resume(leader)
    thread.join(20)
    assert read in ([], [(6, {"n": 5})])
    wait(lambda: reader.read("view") == (6, {"n": 5}), "the former leader reads no new value")


def test_one_stuck_member_costs_its_time_once(three: EtcdProcess, pool: str) -> None:
    follower = next(n for n in range(3) if n != three.leader())
    rest = [n for n in range(3) if n != follower]
    area = EtcdArea(three.etcd(pool, follower, *rest, answer_s=1), 1)
    three.pause(follower)
    try:
        begun = time.monotonic()
        area.write_block(b"1" * 4096)
        assert 1 <= time.monotonic() - begun < 10
        begun = time.monotonic()
        area.write_block(b"2" * 4096)
        assert area.read_all(1)[1] == b"2" * 4096
        assert time.monotonic() - begun < 1
    finally:
        three.resume(follower)


def test_without_a_majority_nothing_is_answered(three: EtcdProcess, pool: str) -> None:
    register = EtcdRegister(three.etcd(pool, 0, answer_s=0.5), "1", settle_s=0.5)
    area = EtcdArea(three.etcd(pool, 0, answer_s=0.5), 1)
    write(register, 0)
    wait(lambda: area.write_block(b"1" * 4096) is None, "no block is written")
    three.kill(1)
    three.kill(2)
    try:
        begun = time.monotonic()
        with pytest.raises(NoAnswer):
            register.read("view")
        with pytest.raises(NoAnswer):
            area.write_block(b"2" * 4096)
        with pytest.raises(NoAnswer):
            area.read_all()
        assert time.monotonic() - begun < 10, "bounded, like everything that is asked"
    finally:
        three.start(1, 2)
    wait(lambda: register.read("view") == (1, {"n": 0}), "nothing is read again")
    wait(lambda: area.write_block(b"3" * 4096) is None, "no block is written again")


def test_nothing_acknowledged_is_lost_while_members_come_and_go(
    three: EtcdProcess, pool: str
) -> None:
    """Each swap appends its name to all before it: the last value is the whole history."""
    stop, over = threading.Event(), threading.Barrier(4)
    acked: list[str] = []
    refused: list[str] = []

    def append(writer: int) -> None:
        order = [(writer + n) % 3 for n in range(3)]
        register = EtcdRegister(three.etcd(pool, *order, answer_s=0.4), str(writer), settle_s=1)
        count = 0
        while not stop.is_set():
            name, count = f"{writer}-{count}", count + 1
            with contextlib.suppress(StorageTrouble):  # not now: nothing was sent
                version, value = register.read("view")
                log = value["log"] if value else []
                assert isinstance(log, list)
                answer = register.swap("view", version, {"log": [*log, name]})
                if answer.ok:
                    assert answer.version == version + 1
                    acked.append(name)
                elif answer.outcome is Outcome.CONFLICT:
                    refused.append(name)
        over.wait(30)

    threads = [threading.Thread(target=append, args=(n,), daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()

    def goes_on() -> None:
        before = len(acked)
        wait(lambda: len(acked) >= before + 5, "nothing is written")

    goes_on()
    leader = three.leader()
    three.pause(leader)
    goes_on()
    three.resume(leader)
    leader = three.leader()
    three.kill(leader)
    goes_on()
    three.start(leader)
    goes_on()
    stop.set()
    over.wait(30)
    for thread in threads:
        thread.join(10)
    version, value = EtcdRegister(three.etcd(pool), "9").read("view")
    log = value["log"] if value else []
    assert isinstance(log, list)
    assert len(log) == version == len(set(log)), "each version is one swap, done once"
    assert set(acked) <= set(log), "an acknowledged swap was lost"
    assert not set(refused) & set(log), "a swap that was refused was done"
