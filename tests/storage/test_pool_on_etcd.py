"""A pool on etcd: its birth, a host's own directory of it, the files that all hosts share."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from etcd_process import EtcdProcess

from outlast.agent.etcd_keeper import KEEP_S, EtcdKeeper
from outlast.errors import Conflict, InvalidInput, NotFound, OutlastError, StorageTrouble
from outlast.settings import preset
from outlast.storage import dump as dumps
from outlast.storage.etcd import Etcd, remove_all
from outlast.storage.etcd_access import Access, read_access
from outlast.storage.etcd_folder import JOURNAL_MAX, EtcdFolder, shared
from outlast.storage.etcd_pool import attach, create_on_etcd
from outlast.storage.format import decode_header, pool_from
from outlast.storage.layout import PoolDir, new_settings, open_pool
from outlast.wire import seal
from outlast.wire.revocation import issued


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    with EtcdProcess(tmp_path_factory.mktemp("etcd"), 1) as cluster:
        yield cluster


@pytest.fixture
def pool(cluster: EtcdProcess, tmp_path: Path, request: pytest.FixtureRequest) -> PoolDir:
    return born(cluster, tmp_path / "a", name_of(request))


def name_of(request: pytest.FixtureRequest) -> str:
    return request.node.name.split("[")[0].replace("_", "-")[:60]


def furnish(root: Path) -> None:
    (root / "pki").mkdir()
    seal.create_authority(root / "pki")


def born(cluster: EtcdProcess, root: Path, name: str, timing: str = "standard") -> PoolDir:
    settings = new_settings(name, preset(timing), lab=timing == "lab")
    return create_on_etcd(root, cluster.access(""), settings, furnish)


def test_a_pool_is_born_whole(cluster: EtcdProcess, pool: PoolDir, tmp_path: Path) -> None:
    other = attach(tmp_path / "b", cluster.access(pool.name))
    assert (other.uuid, other.secret()) == (pool.uuid, pool.secret())
    for host in (pool, other):
        assert not host.shared
        assert host.root.stat().st_mode & 0o777 == 0o700
        for path in (path for path in host.root.rglob("*") if path.is_file()):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        _, value = host.register(1).read("pool")
        assert pool_from(value).uuid == pool.uuid
        with host.area() as area:
            assert decode_header(area.read_all(0)[0]) == pool.uuid
        assert seal.fingerprint(host.pki / "ca.pem") == seal.fingerprint(pool.pki / "ca.pem")
    assert open_pool(other.root, pool.uuid) == other


def test_one_name_is_one_pool(cluster: EtcdProcess, pool: PoolDir, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="already holds a pool"):
        born(cluster, tmp_path / "again", pool.name)
    assert not (tmp_path / "again").exists()
    assert open_pool(pool.root).uuid == pool.uuid


def test_of_many_births_at_once_one_is_it(cluster: EtcdProcess, tmp_path: Path) -> None:
    made, refused = [], []

    def make(number: int) -> None:
        try:
            made.append(born(cluster, tmp_path / str(number), "at-once"))
        except OutlastError as trouble:
            refused.append(trouble)

    threads = [threading.Thread(target=make, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 1
    assert [type(trouble) for trouble in refused] == [Conflict] * 3
    assert attach(tmp_path / "x", cluster.access("at-once")).uuid == made[0].uuid


def test_joining_needs_no_name_where_there_is_one_pool(tmp_path: Path) -> None:
    with EtcdProcess(tmp_path / "etcd", 1) as cluster:
        with pytest.raises(NotFound, match="no pool on this etcd"):
            attach(tmp_path / "b", cluster.access(""))
        made = born(cluster, tmp_path / "a", "first")
        assert attach(tmp_path / "b", cluster.access("")).uuid == made.uuid
        born(cluster, tmp_path / "a2", "second")
        with pytest.raises(InvalidInput, match="several pools: first, second"):
            attach(tmp_path / "c", cluster.access(""))
        with pytest.raises(NotFound, match="no pool 'third'"):
            attach(tmp_path / "c", cluster.access("third"))
        assert not (tmp_path / "c").exists()


def test_an_address_is_waited_for_as_long_as_the_timing_allows(
    cluster: EtcdProcess, tmp_path: Path
) -> None:
    for timing, answer_s in (("lab", 0.3), ("quick", 2.0), ("patient", 2.0)):
        made = born(cluster, tmp_path / timing, f"answers-{timing}", timing)
        access = read_access(made.root)
        assert access is not None
        assert access.answer_s == pytest.approx(answer_s)


def test_without_tls_there_are_only_pools_of_a_lab(tmp_path: Path) -> None:
    plain = Access(("http://127.0.0.1:1",))
    with pytest.raises(InvalidInput, match="without TLS"):
        create_on_etcd(tmp_path / "a", plain, new_settings("x", preset("quick")), furnish)


def test_what_is_there_already_is_not_touched(cluster: EtcdProcess, tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    (root / "pool.json").write_text("{}")
    with pytest.raises(Conflict, match="shared file system"):
        born(cluster, root, "not-here")
    assert [path.name for path in root.iterdir()] == ["pool.json"]


def test_damage_of_the_access_is_told(pool: PoolDir) -> None:
    for junk in ("{", "{}", '{"urls": ["x"], "pki": "", "pool": "p", "answer_s": 1}'):
        (pool.root / "etcd.json").write_text(junk)
        with pytest.raises(StorageTrouble, match=r"etcd\.json is damaged"):
            open_pool(pool.root)


# ---- files that all share


def test_a_revocation_reaches_the_other_hosts(
    cluster: EtcdProcess, pool: PoolDir, tmp_path: Path
) -> None:
    other = attach(tmp_path / "b", cluster.access(pool.name))
    with shared(pool.root):
        seal.issue_host(pool.pki, "c", "uuid-c", ())
    with shared(other.root):
        assert [one.name for one in issued(other.pki)] == ["c"]
        seal.revoke(other.pki, {"c"})
    EtcdKeeper(pool.root, 1, cluster.etcd(pool.name)).look()
    assert [one.revoked for one in issued(pool.pki)] == [True]


def test_two_changes_of_one_file_at_once(
    cluster: EtcdProcess, pool: PoolDir, tmp_path: Path
) -> None:
    other = attach(tmp_path / "b", cluster.access(pool.name))
    with pytest.raises(Conflict, match="somebody else changed"), shared(pool.root):
        (pool.pki / "crl.pem").write_bytes(b"mine")
        with shared(other.root):
            (other.pki / "crl.pem").write_bytes(b"theirs")
    EtcdFolder(pool.root, cluster.etcd(pool.name)).pull()
    assert (pool.pki / "crl.pem").read_bytes() == b"theirs"


def test_what_failed_is_not_sent_and_goes_again(cluster: EtcdProcess, pool: PoolDir) -> None:
    with pytest.raises(KeyboardInterrupt), shared(pool.root):
        (pool.pki / "half").write_bytes(b"half")
        raise KeyboardInterrupt
    etcd = cluster.etcd(pool.name)
    assert not etcd.get("file/pki/half").revision
    EtcdFolder(pool.root, etcd).pull()
    assert not (pool.pki / "half").exists()


def test_nobody_pulls_while_files_are_changed(cluster: EtcdProcess, pool: PoolDir) -> None:
    """Else what a command makes would be gone before it was sent, and nobody would know."""
    keeper = EtcdKeeper(pool.root, 1, cluster.etcd(pool.name))
    with shared(pool.root):
        thread = threading.Thread(target=keeper.look)
        thread.start()
        (pool.pki / "new").write_bytes(b"new")
        thread.join(0.5)
        assert thread.is_alive(), "it waits"
    thread.join(10)
    assert cluster.etcd(pool.name).get("file/pki/new").data == b"new"
    assert (pool.pki / "new").read_bytes() == b"new"


def test_copies_outlive_their_original(cluster: EtcdProcess, pool: PoolDir) -> None:
    remove_all(cluster.etcd(pool.name))
    with pytest.raises(StorageTrouble, match="no pool"):
        EtcdKeeper(pool.root, 1, cluster.etcd(pool.name)).look()
    seal.authority(pool.pki)
    assert pool.secret()


def test_files_that_go_go_everywhere(cluster: EtcdProcess, pool: PoolDir, tmp_path: Path) -> None:
    other = attach(tmp_path / "b", cluster.access(pool.name))
    with shared(pool.root):
        (pool.root / "power").mkdir()
        (pool.root / "power" / "1-00000000.json").write_text("{}")
    keeper = EtcdFolder(other.root, cluster.etcd(pool.name))
    keeper.pull()
    assert (other.root / "power" / "1-00000000.json").read_text() == "{}"
    with shared(pool.root):
        (pool.root / "power" / "1-00000000.json").unlink()
    keeper.pull()
    assert not list((other.root / "power").iterdir())


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "pki/../../evil", "hb", "etcd.json",
                                  "pki/.hidden", "journal/1.jsonl", "pki/issued/../x"])  # fmt: skip
def test_no_key_writes_elsewhere(
    cluster: EtcdProcess, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    root, etcd = tmp_path / "root", cluster.etcd("keys")
    etcd.transaction([], {f"file/{name}": b"evil", "file/pool.json": b"{}"})
    EtcdFolder(root, etcd).pull()
    assert not any(path.read_bytes() == b"evil" for path in tmp_path.rglob("*") if path.is_file())


def test_notes_of_all_hosts_are_read_on_each(
    cluster: EtcdProcess, pool: PoolDir, tmp_path: Path
) -> None:
    other = attach(tmp_path / "b", cluster.access(pool.name))
    lines = [json.dumps({"n": n, "text": "x" * 100}) for n in range(3000)]
    pool.journal(1).write_text("\n".join(lines) + "\nhalf a li")
    other.journal(2).write_text('{"n": "b"}\n')
    a, b = (EtcdFolder(root, cluster.etcd(pool.name)) for root in (pool.root, other.root))
    a.swap_notes(1)
    b.swap_notes(2)
    a.swap_notes(1)
    assert pool.journal(2).read_text() == '{"n": "b"}\n'
    there = other.journal(1).read_text()
    assert there.splitlines() == lines[-len(there.splitlines()) :], "whole lines, the newest"
    assert JOURNAL_MAX * 0.9 < len(there) <= JOURNAL_MAX
    assert pool.journal(1).read_text().endswith("half a li"), "the own file stays as it is"


def test_the_past_is_forgotten_in_time(cluster: EtcdProcess, pool: PoolDir) -> None:
    """Without it etcd would be full some day."""
    clock = [0.0]
    etcd = cluster.etcd(pool.name)
    keeper = EtcdKeeper(pool.root, 1, etcd, lambda: clock[0])
    register = pool.register(1)
    assert register.swap("vm/a", 0, {"n": 0}).ok
    keeper.look()
    first = etcd.revision
    for number in range(1, 5):
        assert register.swap("vm/a", number, {"n": number}).ok
    clock[0] = KEEP_S - 1
    keeper.look()
    assert at_revision(etcd, first)
    clock[0] = KEEP_S
    keeper.look()
    with pytest.raises(StorageTrouble, match="compacted"):
        at_revision(etcd, first - 1)
    assert at_revision(etcd, first)
    assert register.read("vm/a") == (5, {"n": 4})


def at_revision(etcd: Etcd, revision: int) -> bool:
    return bool(etcd.call("/v3/kv/range", {"key": "AA==", "revision": str(revision)}))


def test_the_dump_shows_a_pool_on_etcd(cluster: EtcdProcess, pool: PoolDir) -> None:
    register = pool.register(3)
    assert register.swap("lease/web", 0, {"slot": 3}).ok
    report = dumps.dump(pool.root)
    assert report.sound
    found = {line.name: (line.version, line.writer, line.value) for line in report.registers}
    assert found["lease/web"] == (1, "3", {"slot": 3})
    assert set(found) == {"pool", "lease/web"}
    cluster.etcd(pool.name).transaction([], {"reg/lease/db": b"junk", "hb/02": b"junk"})
    report = dumps.dump(pool.root)
    assert not report.sound
    assert "BAD" in dumps.dump_text(report)
    assert [line.slot for line in report.blocks if line.trouble] == [2]
