"""A real pulse and a real guard with their heartbeat on a real etcd of three members."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_process import why_not
from pulse_process import TIMING, Host, write_view

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))

from etcd_process import EtcdProcess

from outlast.model import Block, BlockState
from outlast.storage.etcd_pool import create_on_etcd
from outlast.storage.format import decode_block
from outlast.storage.layout import PoolDir, new_settings
from outlast.wire import seal

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdProcess]:
    # a leader is elected well within the fence window of these tests
    quick = ("--heartbeat-interval", "50", "--election-timeout", "500")
    with EtcdProcess(tmp_path / "etcd", 3, *quick) as cluster:
        yield cluster


@pytest.fixture
def pool(etcd: EtcdProcess, tmp_path: Path) -> PoolDir:
    def furnish(root: Path) -> None:
        (root / "pki").mkdir()
        seal.create_authority(root / "pki")

    settings = new_settings("test", TIMING, lab=True)
    return create_on_etcd(tmp_path / "pool", etcd.access(""), settings, furnish)


@pytest.fixture
def a(pool: PoolDir, tmp_path: Path) -> Iterator[Host]:
    host = Host(pool, tmp_path / "a", 1)
    yield host
    host.clean()


def block_of(pool: PoolDir) -> Block:
    with pool.area() as area:
        return decode_block(area.read_all(1)[1], pool.uuid, 1)


def test_a_term_outlives_members_of_etcd_but_not_their_majority(
    etcd: EtcdProcess, pool: PoolDir, a: Host
) -> None:
    a.register()
    a.launch()
    a.until_state("joining")
    write_view(pool, a)
    a.until_state("member")
    term = a.said("term")
    a.until(
        lambda: (block_of(pool).term, block_of(pool).state) == (term, BlockState.MEMBER),
        "others see it on etcd",
    )

    leader = etcd.leader()
    etcd.pause(leader)  # it holds its connections and says nothing
    confirmed = a.said("guard", "deadline_ns")
    a.until(
        lambda: a.said("guard", "deadline_ns") > confirmed + TIMING.fence_ns,
        "the deadline moves on although the leader is stuck",
    )
    assert a.said("term") == term
    etcd.resume(leader)

    first, second = (n for n in range(3) if n != leader)
    etcd.kill(first)
    etcd.pause(second)
    a.until(lambda: a.said("guard", "state") == "closed", "the guard closes without a majority")
    assert a.said("guard", "reason").startswith("the deadline passed")
    assert "etcd does not answer" in a.said("storage", "error")
    assert not a.said("storage", "ok")
    etcd.resume(second)
    a.until(lambda: a.said("state") == "joining" and a.said("term") != term, "a new term")
    assert a.said("prev_term") == term
