"""Pools on etcd from the command line, on a real etcd of three members."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))

from command_line import Outlast
from etcd_process import EtcdProcess

from outlast.cli import joining as joins
from outlast.cli import machine
from outlast.cli.host_facts import storage
from outlast.cli.host_lights import HostFacts, judge
from outlast.equipment import PowerSwitch
from outlast.power import switches
from outlast.readiness.lights import GREEN, RED, YELLOW
from outlast.storage.etcd_folder import EtcdFolder
from outlast.storage.etcd_probe import LOSING
from outlast.storage.format import slot_from
from outlast.storage.layout import open_pool
from outlast.wire import seal

JOIN = ("--address", "127.0.0.1", "--no-wait")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    with EtcdProcess(tmp_path_factory.mktemp("etcd"), 3) as cluster:
        yield cluster


@pytest.fixture
def there(etcd: EtcdProcess) -> list[str]:
    """The options that name it."""
    words = [word for url in etcd.clients for word in ("--etcd", url)]
    return [*words, "--etcd-pki", str(etcd.pki)]


@pytest.fixture
def machine_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], Path]:  # fmt: skip
    """Be another machine; its directory of the pool."""

    def become(name: str) -> Path:
        uuid = f"00000000-0000-4000-8000-{name.encode().hex():0>12}"
        monkeypatch.setattr(machine, "host_uuid", lambda _var: uuid)
        monkeypatch.setattr(seal, "qemu_folder", lambda: tmp_path / name / "qemu")
        for place in ("RUN", "ETC", "VAR"):
            monkeypatch.setenv(f"OUTLAST_{place}", str(tmp_path / name / place.lower()))
        return tmp_path / name / "pool"

    return become


def test_a_pool_is_made_and_joined(
    outlast: Outlast, there: list[str], machine_of: Callable[[str], Path], etcd: EtcdProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = machine_of("a")
    said = outlast("pool", "init", str(first), "--name", "prod", *there)
    assert said.code == 0, said.err
    assert f"now, on every host: outlast host join {first} --etcd {etcd.clients[0]}" in said.out
    said = outlast("host", "join", str(first), "--name", "a", *JOIN)
    assert said.out == "a has joined pool prod as slot 1\n", "its directory is there already"
    token = outlast("--json", "host", "token").json["token"]

    second = machine_of("b")
    (second.parent).mkdir()
    (second.parent / "token").write_text(token)
    address = ("--address", "127.0.0.1:7800", "--api-address", "127.0.0.1:7801", "--no-wait")
    joining = ("host", "join", str(second), "--name", "b", *address)
    with monkeypatch.context() as wrong:
        wrong.setattr(joins, "time", SimpleNamespace(time=lambda: time.time() + 3600))
        assert "s ahead of the storage's" in outlast(*joining, *there, "--pool", "prod").err
    assert "asks for a token" in outlast(*joining, *there, "--pool", "prod").err
    said = outlast(*joining, "--token-file", str(second.parent / "token"))
    assert said.out == "b has joined pool prod as slot 2\n", said.err
    host = json.loads((second.parent / "etc/host.json").read_bytes())
    assert host["pool_dir"] == str(second)
    _, value = open_pool(first).register("test").read("slot/2")
    assert slot_from(value).host == "b"

    said = outlast("--json", "pool", "certificates", "--pool", str(first))
    names = [one["name"] for one in said.json["certificates"]]
    assert sorted(names) == ["a", "a", "b", "b"], "two each, QEMU's among them"
    assert outlast("pool", "revoke", "b", "--pool", str(first)).code == 0
    EtcdFolder(second, etcd.etcd("prod")).pull()
    assert (second / "pki/crl.pem").read_bytes() == (first / "pki/crl.pem").read_bytes()
    said = outlast("storage", "dump", str(second))
    assert said.code == 0
    assert "slot/2" in said.out


def test_a_second_pool_needs_another_name(
    outlast: Outlast, there: list[str], tmp_path: Path
) -> None:
    assert outlast("pool", "init", str(tmp_path / "a"), "--name", "twice", *there).code == 0
    said = outlast("pool", "init", str(tmp_path / "b"), "--name", "twice", *there)
    assert said.code == 4
    assert "already holds a pool 'twice'" in said.err


def test_secrets_of_power_switches_reach_all(
    outlast: Outlast, there: list[str], tmp_path: Path, etcd: EtcdProcess
) -> None:
    from outlast.storage.etcd_folder import shared
    from outlast.storage.etcd_pool import attach

    assert outlast("pool", "init", str(tmp_path / "a"), "--name", "power", *there).code == 0
    a = open_pool(tmp_path / "a")
    b = attach(tmp_path / "b", etcd.access("power"))
    with shared(a.root):
        record = PowerSwitch(1, "uuid", "fence_redfish", ("ip=10.0.0.9",))
        switches.store(a.register("x"), a.root, record, {"password": "geheim"})
    EtcdFolder(b.root, etcd.etcd("power")).pull()
    found = switches.load(b.register("x"), b.root, 1)
    assert found is not None
    assert found.secrets == {"password": "geheim"}


def test_plain_http_is_for_labs(outlast: Outlast, tmp_path: Path) -> None:
    plain = ("--etcd", "http://127.0.0.1:1")
    said = outlast("pool", "init", str(tmp_path / "a"), "--name", "x", *plain)
    assert said.code == 2
    assert "without TLS" in said.err
    said = outlast("pool", "init", str(tmp_path / "a"), "--name", "x", "--lab", *plain)
    assert said.code == 5
    assert "etcd does not answer" in said.err
    assert not (tmp_path / "a").exists()


def test_the_probe_says_what_it_may_carry(
    outlast: Outlast, there: list[str], etcd: EtcdProcess
) -> None:
    said = outlast("storage", "probe", "--rounds", "30", *there)
    assert said.code == 0, said.out
    assert "of 3 members 1 may be lost" in said.out
    assert "Usable for a pool; the shortest timing it can hold is 'quick'." in said.out
    assert "FAIL" not in said.out
    left = etcd.etcd("").call("/v3/kv/range", {"key": "AA==", "range_end": "AA==",
                                               "keys_only": True}).get("kvs", [])  # fmt: skip
    assert not [one for one in left if b".probe" in str(one).encode()]
    said = outlast("--json", "storage", "probe", "--rounds", "10", *there[:2], *there[-2:])
    notes = [c["sentence"] for c in said.json["checks"] if not c["good"]]
    assert notes == ["it has 3 members, but only 1 were named here: name all"]
    assert said.json["usable"]


def test_versions_that_lose_data_are_known() -> None:
    assert [v for v in ("3.4.23", "3.5.0", "3.5.2", "3.5.3", "3.5.21", "3.6.0", "3.5.2-rc.1")
            if LOSING.match(v)] == ["3.5.0", "3.5.2", "3.5.2-rc.1"]  # fmt: skip


def test_what_needs_shared_files_is_not_there(
    outlast: Outlast, there: list[str], tmp_path: Path
) -> None:
    pool = str(tmp_path / "a")
    assert outlast("pool", "init", pool, "--name", "files", *there).code == 0
    said = outlast("image", "list", "--pool", pool)
    assert said.code == 2
    assert "this pool has no shared file system" in said.err
    said = outlast("storage", "probe", pool, "--hosts", "2")
    assert said.code == 2
    assert "no hosts need to meet" in said.err


def test_nothing_to_probe(outlast: Outlast) -> None:
    said = outlast("storage", "probe")
    assert said.code == 2
    assert "what is to be probed?" in said.err


def test_the_check_of_a_host_looks_at_etcd(
    outlast: Outlast, there: list[str], tmp_path: Path, etcd: EtcdProcess
) -> None:
    def lights(what: str = "storage") -> list[tuple[object, str]]:
        facts = replace(HostFacts(), storage=storage(tmp_path / "a"))
        return [(one.colour, one.sentence) for one in judge(facts) if one.what == what]

    assert outlast("pool", "init", str(tmp_path / "a"), "--name", "check", *there).code == 0
    assert lights()[0] == (GREEN, "every address of the pool's etcd answers")
    assert lights("certificate") == [(YELLOW, "this host's for etcd ends in 1 day")]
    off_s = storage(tmp_path / "a").clock_off_s
    assert off_s is not None and abs(off_s) < 30, "the cluster has this machine's clock"
    # not the leader: while another is elected nobody is answered
    first, second = [n for n in range(3) if n != etcd.leader()]
    etcd.kill(first)
    try:
        colour, sentence = lights()[0]
        assert colour == YELLOW
        assert etcd.clients[first] in sentence
        etcd.kill(second)
        colour, sentence = lights()[0]
        assert colour == RED
    finally:
        etcd.start(*etcd.lost)
