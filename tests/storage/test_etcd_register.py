"""Register and heartbeat area on a real etcd: the kit of every register, and all its troubles."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from etcd_process import HOST, EtcdProcess, renew
from register_kit import Open, RegisterKit

from outlast.errors import InvalidInput, StorageTrouble
from outlast.storage.etcd import Etcd, NoAnswer, _Unsent, compact, remove_all
from outlast.storage.etcd_access import Access, check_access
from outlast.storage.etcd_heartbeat import EtcdArea
from outlast.storage.etcd_register import EtcdRegister
from outlast.storage.register import Outcome

POOL = "00112233-4455-6677-8899-aabbccddeeff"
numbers = itertools.count()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    with EtcdProcess(tmp_path_factory.mktemp("etcd"), 1) as cluster:
        yield cluster


@pytest.fixture
def pool() -> str:
    return f"p{next(numbers)}"


class TestEtcd(RegisterKit):
    @pytest.fixture
    def open_register(self, one: EtcdProcess, pool: str) -> Open:
        return lambda writer: EtcdRegister(one.etcd(pool), writer)


# ---- answers that are lost, requests that are late


class Lossy(Etcd):
    """Loses the answers of the next swaps; or holds the requests themselves back, to send later."""

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self.lose = 0
        self.hold = 0
        self.late: list[tuple[str, int, bytes]] = []

    def swap_key(self, name, revision, data):  # type: ignore[no-untyped-def]
        if self.hold:
            self.hold -= 1
            self.late.append((name, revision, data))
            raise NoAnswer("held back")
        answer = super().swap_key(name, revision, data)
        if self.lose:
            self.lose -= 1
            raise NoAnswer("lost")
        return answer


def test_a_swap_whose_answer_was_lost_is_known_again(one: EtcdProcess, pool: str) -> None:
    etcd = Lossy(one.access(pool))
    register = EtcdRegister(etcd, "1")
    etcd.lose = 1
    assert register.swap("view", 0, {"n": 1}).outcome is Outcome.OK
    etcd.lose = 1000
    register = EtcdRegister(etcd, "1", settle_s=0.3)
    assert register.swap("view", 1, {"n": 2}).outcome is Outcome.UNKNOWN
    etcd.lose = 0
    assert register.read("view") == (2, {"n": 2})


def test_a_connection_that_broke_after_the_request(one: EtcdProcess, pool: str) -> None:
    """It may have arrived, whatever becomes of the second try."""

    class Breaking(Etcd):
        broken = gone = ends = False

        def _exchange(self, index, connection, path, body, until):  # type: ignore[no-untyped-def]
            if self.gone:
                raise _Unsent("connection refused")
            answer = super()._exchange(index, connection, path, body, until)
            if self.broken:
                self.broken, self.gone = False, self.ends
                raise ConnectionResetError
            return answer

    etcd = Breaking(one.access(pool))
    assert etcd.get("key").revision == 0
    etcd.broken = True
    swapped = etcd.swap_key("key", 0, b"1")
    assert (swapped.done, swapped.asked_before, swapped.stands.data) == (False, True, b"1")
    register = EtcdRegister(etcd, "1")
    register.read("view")
    etcd.broken = True
    assert register.swap("view", 0, {"n": 1}).ok
    etcd.get("key")
    etcd.broken = etcd.ends = True
    with pytest.raises(NoAnswer):  # and not "certainly not written"
        etcd.swap_key("other", 0, b"1")
    assert one.etcd(pool).get("other").data == b"1"


def test_a_successor_tells_that_a_lost_swap_was_done(one: EtcdProcess, pool: str) -> None:
    etcd, other = Lossy(one.access(pool)), EtcdRegister(one.etcd(pool), "2")
    etcd.lose = 1
    register = EtcdRegister(etcd, "1")
    asked = threading.Event()

    def between() -> None:
        while other.read("view")[0] == 0:
            time.sleep(0.001)
        assert other.swap("view", 1, {"n": "other"}).ok
        asked.set()

    thread = threading.Thread(target=between)
    thread.start()
    answer = register.swap("view", 0, {"n": 1})
    thread.join(10)
    assert asked.is_set()
    assert (answer.outcome, answer.version) == (Outcome.OK, 1)
    assert other.read("view") == (2, {"n": "other"})


def test_a_late_request_does_nothing_once_another_was_done(one: EtcdProcess, pool: str) -> None:
    etcd, other = Lossy(one.access(pool)), EtcdRegister(one.etcd(pool), "2")
    register = EtcdRegister(etcd, "1", settle_s=0)
    etcd.hold = 1
    assert register.swap("lease/web", 0, {"slot": 1}).outcome is Outcome.UNKNOWN
    assert register.read("lease/web") == (0, None)
    assert other.swap("lease/web", 0, {"slot": 2}).ok
    assert not etcd.swap_key(*etcd.late[0]).done
    assert register.read("lease/web") == (1, {"slot": 2})


def test_a_late_block_lands_on_no_newer_one(one: EtcdProcess, pool: str) -> None:
    etcd = Lossy(one.access(pool))
    area = EtcdArea(etcd, 1)
    area.write_block(b"1" * 4096)
    etcd.hold = 1
    with pytest.raises(NoAnswer):
        area.write_block(b"2" * 4096)
    area.write_block(b"3" * 4096)
    assert not etcd.swap_key(*etcd.late[0]).done
    assert area.read_all(1)[1] == b"3" * 4096
    etcd.hold = 1
    with pytest.raises(NoAnswer):
        area.write_block(b"4" * 4096)
    assert etcd.swap_key(*etcd.late[1]).done, "nothing newer was written: as on a disk"
    assert area.read_all(1)[1] == b"4" * 4096


def test_who_lost_a_race_by_far_knows_it(one: EtcdProcess, pool: str) -> None:
    """Others may write several versions between the look and the swap: a conflict all the same."""
    other = EtcdRegister(one.etcd(pool), "2")

    class Slow(Etcd):
        def swap_key(self, name, revision, data):  # type: ignore[no-untyped-def]
            for number in range(4):
                assert other.swap("view", number, {"n": number}).ok
            return super().swap_key(name, revision, data)

    answer = EtcdRegister(Slow(one.access(pool)), "1").swap("view", 0, {"n": "late"})
    assert (answer.outcome, answer.version) == (Outcome.CONFLICT, 4)


# ---- the heartbeat area


def test_who_else_wrote_the_own_block_is_seen_before_it_is_overwritten(
    one: EtcdProcess, pool: str
) -> None:
    a, stranger = EtcdArea(one.etcd(pool), 1), EtcdArea(one.etcd(pool), 1)
    a.write_block(b"a" * 4096)
    stranger.write_block(b"s" * 4096)
    with pytest.raises(StorageTrouble, match="changed by somebody else"):
        a.write_block(b"b" * 4096)
    assert a.read_all(1)[1] == b"s" * 4096
    a.write_block(b"b" * 4096)
    assert stranger.read_all(1)[1] == b"b" * 4096


def test_a_damaged_block_is_no_block(one: EtcdProcess, pool: str) -> None:
    for junk in (b"", b"no zlib", b"x\x9c"):
        one.etcd(pool).transaction([], {"hb/01": junk})
        piece = EtcdArea(one.etcd(pool)).read_all(1)[1]
        assert len(piece) == 4096
        assert any(piece), "never written it is not"


# ---- what can never be


def test_etcd_that_went_back_in_time_is_refused(one: EtcdProcess, pool: str) -> None:
    etcd = one.etcd(pool)
    register = EtcdRegister(etcd, "1")
    for number in range(3):
        assert register.swap("view", number, {"n": number}).ok
    first = one.etcd(pool).get("reg/view")
    other = EtcdRegister(one.etcd(pool), "2")
    assert other.swap("view", 3, {"n": 3}).ok
    assert register.read("view")[0] == 4
    one.etcd(pool).transaction([], {"reg/view": first.data})
    for call in (lambda: register.read("view"), lambda: register.swap("view", 3, {})):
        with pytest.raises(StorageTrouble, match="back in time"):
            call()
    with pytest.raises(StorageTrouble, match="back in time"):
        list(EtcdRegister(one.etcd(pool), "3").newer("view", 4, ()))
    whole, etcd._cluster = etcd._cluster, "another"
    with pytest.raises(StorageTrouble, match="another etcd cluster"):
        etcd.get("reg/view")
    etcd._cluster = whole
    etcd._revision += 1000
    with pytest.raises(StorageTrouble, match="went back in time: it is at revision"):
        etcd.get("reg/view")


def test_a_damaged_value_is_told(one: EtcdProcess, pool: str) -> None:
    for junk in (b"", b"OUTLAST1 view 1 2 x\n{}", b"x y 3 z"):
        one.etcd(pool).transaction([], {"reg/view": junk})
        with pytest.raises(StorageTrouble, match="damaged"):
            EtcdRegister(one.etcd(pool), "1").read("view")


def test_too_large_is_refused_before_it_is_sent(one: EtcdProcess, pool: str) -> None:
    register = EtcdRegister(one.etcd(pool), "1")
    with pytest.raises(InvalidInput, match="too much for etcd"):
        register.swap("vm/web", 0, {"text": "x" * (1 << 20)})
    assert register.swap("vm/web", 0, {"text": "x" * ((1 << 20) - 1000)}).ok


def test_nobody_without_a_certificate_gets_in(one: EtcdProcess, pool: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="asks for a certificate"):
        Etcd(Access(tuple(one.clients), "", pool))
    with pytest.raises(StorageTrouble, match="no certificate for etcd"):
        Etcd(Access(tuple(one.clients), str(tmp_path), pool)).get("x")
    plain = one.clients[0].replace("https", "http")
    with pytest.raises(StorageTrouble):
        Etcd(Access((plain,), "", pool)).get("x")


def test_certificates_end_and_are_renewed_under_running_services(
    one: EtcdProcess, pool: str, tmp_path: Path
) -> None:
    """Of a host, then of etcd: it says so, and goes on by itself with the new one."""
    mine = tmp_path / "pki"
    shutil.copytree(one.pki, mine)
    register = EtcdRegister(etcd := Etcd(Access(tuple(one.clients), str(mine), pool)), "1")
    assert register.swap("view", 0, {"n": 1}).ok
    for folder in (mine, one.pki):
        renew(one.pki, folder, HOST, days=-1)
        etcd.close()  # connections that are open stay
        with pytest.raises(StorageTrouble, match="certificate") as said:
            register.read("view")
        assert "renew" in said.value.hint
        renew(one.pki, folder, HOST)
        assert register.read("view") == (1, {"n": 1})
    etcd.close()
    renew(one.pki, tmp_path, HOST)
    shutil.copy(tmp_path / "cert.pem", mine)  # its key is still to come
    assert register.read("view") == (1, {"n": 1}), "until it is there the former one goes on"


@pytest.mark.parametrize(
    "url",
    ["", "10.0.0.1:2379", "https://etcd.example:2379", "https://10.0.0.1", "ftp://10.0.0.1:1",
     "https://10.0.0.1:2379/x", "https://a:b@10.0.0.1:2379", "https://10.0.0.1:99999"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_access(Access((url,), "/pki", "p"))


def test_a_full_etcd_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    options = "--quota-backend-bytes", str(1 << 20)
    with EtcdProcess(tmp_path_factory.mktemp("full"), 1, *options) as cluster:
        register = EtcdRegister(cluster.etcd("p"), "1")
        with pytest.raises(StorageTrouble, match="its quota is used up"):
            for number in range(40):
                assert register.swap(f"vm/v{number}", 0, {"text": "x" * 100_000}).ok
        assert register.read("vm/v0")[0] == 1, "what was written is read on"
        etcd = cluster.etcd("p")
        remove_all(etcd)  # who filled it
        compact(etcd, etcd.revision)
        etcd.call("/v3/maintenance/defragment", {})
        for alarm in etcd.call("/v3/maintenance/alarm", {})["alarms"]:
            etcd.call("/v3/maintenance/alarm", {**alarm, "action": "DEACTIVATE"})
        assert register.swap("vm/new", 0, {"text": "again"}).ok, "as the documents say"
