"""Joining a pool, and all that can be wrong with it; on real directories."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Outlast
from memory_service import SETTINGS, block

from outlast.agent.hostfile import load
from outlast.cli import joining, machine, this_host
from outlast.errors import Conflict, InvalidInput, PoolTrouble, StorageTrouble
from outlast.guard import host as guard_host
from outlast.model import BlockState
from outlast.storage.format import encode_block, slot_from
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.layout import open_pool
from outlast.storage.posix import PosixRegister
from outlast.wire.seal import client_context, server_context

JOIN = ("--address", "127.0.0.1", "--no-wait")


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str], this_host.Places]:
    """Each name is another machine."""

    def make(name: str) -> this_host.Places:
        return this_host.Places(tmp_path / name / "etc", tmp_path / name / "var")

    return make


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Give this machine another machine id."""

    def become(name: str) -> str:
        uuid = f"00000000-0000-4000-8000-{name.encode().hex():0>12}"
        monkeypatch.setattr(machine, "host_uuid", lambda _var: uuid)
        return uuid

    return become


def wish(pool: Path, name: str, port: int = 7790, **more: object) -> joining.Wish:
    base = joining.Wish(pool, name, (f"127.0.0.1:{port}",), f"127.0.0.1:{port + 1}")
    return replace(base, **more)  # type: ignore[arg-type]


def quiet(_: str) -> None:
    pass


# ---- join


def test_join_makes_a_host(outlast: Outlast, pool: Path, tmp_path: Path) -> None:
    said = outlast("host", "join", str(pool), "--name", "a", *JOIN)
    assert said.code == 0, said.err
    assert said.out == "a has joined pool lab1 as slot 1\n"
    host = load(tmp_path / "etc/host.json")
    assert (host.host, host.slot, host.generation) == ("a", 1, 1)
    assert guard_host.read(tmp_path / "etc/host.json").reset == "none"
    raw = json.loads((tmp_path / "etc/host.json").read_bytes())
    assert raw["beat_addresses"] == ["127.0.0.1:7790"]
    assert (host.memory_mib, host.vcpus) == (0, 0)
    assert (host.api_address, host.pool_dir) == ("127.0.0.1:7791", str(pool))
    assert host.pool_uuid == open_pool(pool).uuid
    _, value = PosixRegister(pool, "test").read("slot/1")
    record = slot_from(value)
    assert (record.host, record.uuid, record.active) == ("a", host.uuid, True)
    assert (record.addresses, record.api) == (("127.0.0.1:7790",), "127.0.0.1:7791")
    server_context(tmp_path / "etc/pki")
    client_context(tmp_path / "etc/pki")
    assert (tmp_path / "etc/pki/cert.key").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "etc/pki/ca.key").exists()


def test_what_vms_may_use_of_a_host(outlast: Outlast, pool: Path, tmp_path: Path) -> None:
    limits = ("--memory", "2GiB", "--vcpus", "3")
    assert outlast("host", "join", str(pool), "--name", "a", *JOIN, *limits).code == 0
    host = load(tmp_path / "etc/host.json")
    assert (host.memory_mib, host.vcpus) == (2048, 3)


def test_as_many_heartbeat_networks_as_the_others(
    pool: Path, place: Callable[[str], this_host.Places], identity: Callable[[str], str]
) -> None:
    identity("a")
    two = ("127.0.0.1:7010", "127.0.0.2:7010")
    assert not joining.join(wish(pool, "a", addresses=two), place("a"), quiet)[2]
    identity("b")
    _, _, warnings = joining.join(wish(pool, "b", 7020), place("b"), quiet)
    assert "other hosts have 2 addresses for heartbeats, this one 1" in warnings[0]
    identity("c")
    with pytest.raises(InvalidInput, match="not an address"):
        joining.join(wish(pool, "c", 7030, migration_address="eth1"), place("c"), quiet)


def test_joining_twice(outlast: Outlast, pool: Path, tmp_path: Path) -> None:
    outlast("host", "join", str(pool), "--name", "a", *JOIN)
    said = outlast("host", "join", str(pool), "--name", "a", *JOIN)
    assert said.code == 4
    assert "already joined as host 'a', slot 1" in said.err
    (tmp_path / "etc/host.json").write_text("{")
    assert "is damaged" in outlast("host", "join", str(pool), *JOIN).err


def test_hosts_get_the_lowest_free_slots(
    pool: Path, place: Callable[[str], this_host.Places], identity: Callable[[str], str]
) -> None:
    for slot, name in enumerate(["a", "b", "c"], 1):
        identity(name)
        made, _, _ = joining.join(wish(pool, name, 7000 + 10 * slot), place(name), quiet)
        assert made.slot == slot
    register = PosixRegister(pool, "test")
    version, value = register.read("slot/2")
    assert value is not None
    register.swap("slot/2", version, value | {"active": False})
    identity("d")
    made, _, _ = joining.join(wish(pool, "d", 7100), place("d"), quiet)
    assert (made.slot, made.generation) == (2, 2)


def test_many_machines_join_at_once(
    pool: Path, tmp_path: Path, place: Callable[[str], this_host.Places]
) -> None:
    """Each from a process of its own; every one gets a slot of its own."""
    code = (
        "import sys; from pathlib import Path; "
        "from outlast.cli import joining, machine, this_host\n"
        "pool, root, n = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])\n"
        "machine.host_uuid = lambda var: f'00000000-0000-4000-8000-{n:012}'\n"
        "wish = joining.Wish(pool, f'h{n}', (f'127.0.0.1:{7000 + n}',), f'127.0.0.1:{8000 + n}')\n"
        "joining.join(wish, this_host.Places(root / f'{n}/etc', root / f'{n}/var'), lambda _: None)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, pool, tmp_path, str(n)]) for n in range(6)
    ]
    assert [process.wait(60) for process in running] == [0] * 6
    slots = {load(tmp_path / f"{n}/etc/host.json").slot for n in range(6)}
    assert slots == {1, 2, 3, 4, 5, 6}


def test_names_ids_and_addresses_are_unique(
    pool: Path, place: Callable[[str], this_host.Places], identity: Callable[[str], str]
) -> None:
    identity("a")
    joining.join(wish(pool, "a", 7000), place("a"), quiet)
    with pytest.raises(Conflict, match="already host 'a', slot 1") as caught:
        joining.join(wish(pool, "z", 7100), place("z"), quiet)
    assert "clone" in caught.value.hint
    identity("b")
    with pytest.raises(Conflict, match="another machine is host 'a'"):
        joining.join(wish(pool, "a", 7100), place("b"), quiet)
    with pytest.raises(Conflict, match=r"has the address 127\.0\.0\.1:7000"):
        joining.join(wish(pool, "b", 7000), place("b"), quiet)
    assert PosixRegister(pool, "test").names("slot") == ["slot/1"]


def test_a_lost_host_file_is_made_again(
    pool: Path, place: Callable[[str], this_host.Places], identity: Callable[[str], str]
) -> None:
    uuid = identity("a")
    where = place("a")
    joining.join(wish(pool, "a"), where, quiet)
    (where.etc / "host.json").unlink()
    again, _, _ = joining.join(wish(pool, "a"), where, quiet)  # never wrote a block
    assert (again.slot, again.generation) == (1, 2)
    (where.etc / "host.json").unlink()
    write(pool, BlockState.CLOSED, uuid)
    assert joining.join(wish(pool, "a"), where, quiet)[0].generation == 3


def write(pool: Path, state: BlockState, uuid: str, seq: int = 1) -> None:
    made = replace(
        block(1, state), pool_uuid=open_pool(pool).uuid, host_uuid=uuid, boot_id="0" * 32, seq=seq,
        dead_after_ms=2600,
    )  # fmt: skip
    with HeartbeatFile(pool / "hb", 1) as area:
        area.write_block(encode_block(made))


def test_a_living_host_is_not_resumed(
    pool: Path, place: Callable[[str], this_host.Places], identity: Callable[[str], str]
) -> None:
    uuid, where = identity("a"), place("a")
    joining.join(wish(pool, "a"), where, quiet)
    (where.etc / "host.json").unlink()
    write(pool, BlockState.MEMBER, uuid)
    ended = threading.Event()

    def beat() -> None:
        seq = 1
        while not ended.wait(0.2):
            seq += 1
            write(pool, BlockState.MEMBER, uuid, seq)

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(Conflict, match="is alive"):
        joining.join(wish(pool, "a"), where, quiet)
    ended.set()
    thread.join()
    assert not (where.etc / "host.json").exists()
    said: list[str] = []
    began = time.monotonic()
    assert joining.join(wish(pool, "a"), where, said.append)[0].generation == 2
    assert time.monotonic() - began >= 3.0  # T_dead of the lab preset
    assert "former life of a (slot 1)" in said[0]


def test_a_slot_that_was_given_up_but_not_closed_is_not_reused(
    pool: Path, place: Callable[[str], this_host.Places], identity: Callable[[str], str]
) -> None:
    uuid = identity("a")
    joining.join(wish(pool, "a"), place("a"), quiet)
    write(pool, BlockState.MEMBER, uuid)
    register = PosixRegister(pool, "test")
    version, value = register.read("slot/1")
    assert value is not None
    register.swap("slot/1", version, value | {"active": False})
    identity("b")
    assert joining.join(wish(pool, "b", 7100), place("b"), quiet)[0].slot == 2


def test_a_full_pool(
    pool: Path, place: Callable[[str], this_host.Places], identity: Callable[[str], str]
) -> None:
    from outlast.model import SLOT_MAX, SlotRecord
    from outlast.storage.format import slot_to

    register = PosixRegister(pool, "test")
    for slot in range(1, SLOT_MAX + 1):
        register.swap(f"slot/{slot}", 0, slot_to(SlotRecord(slot, f"h{slot}", str(slot), 1, True)))
    identity("late")
    with pytest.raises(PoolTrouble, match="no free slot"):
        joining.join(wish(pool, "late"), place("late"), quiet)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--name", "A_"], 2, "not a usable host name"),
        (["--name", "a", "--address", "here"], 2, "is not an address"),
        (["--name", "a", "--address", "127.0.0.1:99999"], 2, "is not an address"),
        (["--name", "a", "--address", "0.0.0.0"], 2, "that others can reach"),
        (["--name", "a", "--address", "192.0.2.77"], 2, "not an address of this machine"),
        (["--name", "a", "--address", "127.0.0.1", "--memory", "5"], 2, "has no unit"),
        (["--name", "a", "--address", "127.0.0.1", "--reset", "hope"], 2, "no reset 'hope'"),
        (["--name", "a", "--address", "127.0.0.1", "--accelerator", "x"], 2, "no accelerator 'x'"),
        (["--name", "a", "--address", "127.0.0.1", "--reset", "watchdog",
          "--watchdog-device", "/nowhere/wd"], 2, "there is no watchdog"),
    ],
)  # fmt: skip
def test_join_refuses_in_words_and_takes_no_slot(
    outlast: Outlast, pool: Path, tmp_path: Path, args: list[str], code: int, words: str
) -> None:
    said = outlast("host", "join", str(pool), *args, "--no-wait")
    assert (said.code, said.out) == (code, "")
    assert words in said.err
    assert PosixRegister(pool, "test").names("slot") == []
    assert not (tmp_path / "etc/host.json").exists()


def test_joining_what_is_no_pool(outlast: Outlast, pool: Path, tmp_path: Path) -> None:
    said = outlast("host", "join", str(tmp_path / "none"), "--name", "a", *JOIN)
    assert (said.code, "is the pool's storage mounted?" in said.err) == (5, True)
    said = outlast("host", "join", str(tmp_path), "--name", "a", *JOIN)
    assert (said.code, "there is no pool in" in said.err) == (5, True)
    (pool / "pki/ca.key").unlink()
    said = outlast("host", "join", str(pool), "--name", "a", *JOIN)
    assert said.code == 5
    assert not (tmp_path / "etc/host.json").exists()


def test_joining_on_read_only_storage(
    outlast: Outlast, small: Callable[[str], Path], tmp_path: Path
) -> None:
    where = small("size=8M")
    outlast("pool", "init", str(where), "--name", "p", "--lab")
    subprocess.run(["mount", "-o", "remount,ro", where], check=True)
    said = outlast("host", "join", str(where), "--name", "a", *JOIN)
    assert said.code == 5 and "Read-only" in said.err
    assert not (tmp_path / "etc/host.json").exists()


def test_a_required_watchdog(pool: Path) -> None:
    strict = replace(SETTINGS, watchdog="required")
    with pytest.raises(InvalidInput, match="requires a watchdog"):
        joining._reset(joining.Wish(pool, watchdog_device="/nowhere"), strict)
    easy = joining._reset(joining.Wish(pool, watchdog_device="/nowhere"), SETTINGS)
    assert easy[0] == "none" and "cannot reset itself" in easy[1][0]
    assert joining._reset(joining.Wish(pool, watchdog_device="/dev/null"), SETTINGS)[0] == (
        "watchdog"
    )


def test_a_clock_that_is_off(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    assert abs(machine.check_clock(tmp_path, time.time())) < 5
    with pytest.raises(InvalidInput, match="45 s ahead of the storage's") as caught:
        machine.check_clock(tmp_path, time.time() + 45)
    assert "time synchronisation" in caught.value.hint
    with pytest.raises(InvalidInput, match="behind"):
        machine.check_clock(tmp_path, time.time() - 45)
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(StorageTrouble):
        machine.check_clock(tmp_path / "none", time.time())


def test_join_waits_until_the_agent_says_member(
    outlast: Outlast, pool: Path, tmp_path: Path
) -> None:
    said = outlast(
        "host", "join", str(pool), "--name", "a", "--address", "127.0.0.1", "--timeout", "0.4"
    )
    assert said.code == 8
    assert "a has joined, but is no member after 0.4 s: no agent answers" in said.err
    assert (tmp_path / "etc/host.json").exists()


@pytest.mark.usefixtures("agent")
def test_join_ends_when_it_is_a_member(outlast: Outlast, pool: Path) -> None:
    said = outlast("host", "join", str(pool), "--name", "a", "--address", "127.0.0.1", "--json")
    assert said.code == 0
    assert {k: said.json[k] for k in ("host", "slot", "pool", "member")} == {
        "host": "a", "slot": 1, "pool": "lab1", "member": True,
    }  # fmt: skip
