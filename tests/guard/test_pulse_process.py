"""Real pulses with real guards on one directory: seeing, joining, surviving, hanging."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_process import until, why_not
from pulse_process import TIMING, Host, block_on_disk, make_pool, write_view

from outlast.model import BlockState
from outlast.storage.layout import PoolDir

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture
def pool(tmp_path: Path) -> PoolDir:
    return make_pool(tmp_path / "pool")


@pytest.fixture
def a(pool: PoolDir, tmp_path: Path) -> Iterator[Host]:
    host = Host(pool, tmp_path / "a", 1)
    yield host
    host.clean()


@pytest.fixture
def b(pool: PoolDir, tmp_path: Path) -> Iterator[Host]:
    host = Host(pool, tmp_path / "b", 2)
    yield host
    host.clean()


def join(pool: PoolDir, *hosts: Host, hanging: bool = False) -> None:
    for host in hosts:
        host.register()
        host.launch(hanging=hanging)
    for host in hosts:
        host.until_state("joining")
    write_view(pool, *hosts)
    for host in hosts:
        host.until_state("member")


def test_two_hosts_see_each_other_and_an_exclusion(pool: PoolDir, a: Host, b: Host) -> None:
    join(pool, a, b)
    for host, other in ((a, "2"), (b, "1")):
        host.until(lambda h=host: h.said("guard", "state") == "open", "the guard is open")
        host.until(lambda h=host, o=other: h.said("links", o, "hears_me"), "they hear each other")
        host.until(
            lambda h=host, o=other: h.said("blocks", o, "block", "state") == "member",
            "the other's block is seen",
        )
        host.until(
            lambda h=host, o=other: (
                int(o) != h.slot
                and [int(x) for x in h.said("blocks", o, "block", "heard")] == [h.slot]
            ),
            "the block says who is heard",
        )
        assert host.said("storage", "ok") and host.said("announced", "for_ns") >= 0
    first = b.said("term")
    write_view(pool, a)
    b.until_state("closing")
    b.until(lambda: b.said("state") == "joining" and b.said("term") != first, "a new term")
    own = block_on_disk(pool, 2)
    assert own.prev_term == first and own.state is BlockState.JOINING
    assert b.said("guard", "state") == "closed"
    a.until(lambda: a.said("excluded", "2", "for_ns") > 0, "a announces the exclusion")
    assert a.said("excluded", "2", "term") == first
    write_view(pool, a, b)
    b.until_state("member")


def test_kill_9_keeps_the_term_and_the_seq_goes_on(pool: PoolDir, a: Host) -> None:
    join(pool, a)
    term, seq = a.said("term"), a.said("sample", "seq")
    for _ in range(3):
        a.kill9()
        a.snapshot = None
        a.launch()
        a.until_state("member")
        a.until(lambda: a.said("guard", "remaining_ns") > 2 * 10**9, "the deadline moves on")
    assert a.said("term") == term and a.said("sample", "seq") > seq
    assert a.guard.client.status()["term"] == term


def test_a_pulse_that_comes_back_too_late_ends_the_term(pool: PoolDir, a: Host) -> None:
    join(pool, a)
    term = a.said("term")
    a.kill9()
    a.snapshot = None
    a.until(lambda: a.guard.client.status()["state"] == "closed", "the guard closes by itself")
    a.launch()
    a.until(lambda: a.said("state") == "joining" and a.said("term") != term, "a new term")
    assert a.said("prev_term") == term


def test_hanging_storage_confirms_nothing_while_beats_go_on(
    pool: PoolDir, a: Host, b: Host
) -> None:
    join(pool, a, b, hanging=True)
    (a.run / "hang").touch()
    a.until(lambda: a.said("storage", "pending_ns") > TIMING.gap_ns, "a's storage hangs")
    seq, term = block_on_disk(pool, 1).seq, a.said("term")
    a.until(lambda: a.said("guard", "state") == "closed", "a's guard closes by itself")
    assert not a.said("storage", "ok") and block_on_disk(pool, 1).seq == seq
    for _ in range(5):
        before = b.snapshots
        b.until(lambda n=before: b.snapshots > n, "b goes on")
        assert b.said("links", "1", "heard_ns_ago") < TIMING.link_lost_ns
    before = a.snapshots
    a.until(lambda: a.snapshots > before + 3, "a goes on telling its agent")
    assert a.said("guard", "reason").startswith("the deadline passed")
    b.until(lambda: b.said("blocks", "1", "still_ns") > TIMING.fence_ns, "b sees it stand still")
    (a.run / "hang").unlink()
    a.until(lambda: a.said("state") == "joining" and a.said("term") != term, "a comes back")


def agent_speaks(host: Host) -> None:
    assert host.client.publish(vm_count=0, free_mib=0, free_vcpus=0, work_seq=0)
    host.until(
        lambda: host.said("blocks", str(host.slot), "block", "agent_away_ms") == 0, "it was heard"
    )


def test_while_nobody_has_storage_all_live_on(pool: PoolDir, a: Host, b: Host) -> None:
    join(pool, a, b, hanging=True)
    a.until(lambda: a.said("links", "2", "hears_me"), "they hear each other")
    terms = a.said("term"), b.said("term")
    for host in (a, b):
        agent_speaks(host)
        (host.run / "hang").touch()
    until_ns = time.monotonic_ns() + TIMING.fence_ns * 2
    while time.monotonic_ns() < until_ns:
        time.sleep(0.05)
        assert (a.said("guard", "state"), b.said("guard", "state")) == ("open", "open")
    assert a.said("extension", "given") >= 1 and a.said("guard", "extended") is True
    (a.run / "hang").unlink()
    b.until(lambda: b.said("extension", "refused") == {"1": "has storage"}, "a grants no more")
    b.until(lambda: b.said("guard", "state") == "closed", "b ends")
    assert (a.said("term"), a.said("guard", "state")) == (terms[0], "open")


def test_a_view_about_to_be_written_is_known_before(pool: PoolDir, a: Host) -> None:
    join(pool, a, hanging=True)
    agent_speaks(a)
    assert a.client.propose(2)
    assert a.said("proposed") == 2
    a.kill9()
    a.snapshot = None
    assert not a.client.propose(3)
    a.launch(hanging=True)
    a.until_state("member")
    assert a.said("proposed") == 2
    (a.run / "hang").touch()  # alone in its view, but there may be a newer one
    a.until(lambda: a.said("guard", "state") == "closed", "it asks for no time")


def test_beats_go_on_while_the_guard_hangs(pool: PoolDir, a: Host, b: Host) -> None:
    join(pool, a, b)
    b.until(lambda: b.said("links", "1", "hears_me"), "they hear each other")
    a.guard.guard.send_signal(signal.SIGSTOP)
    a.until(lambda: a.snapshot is not None and a.said("guard") is None, "the guard is missed")
    seq, worst_ns = block_on_disk(pool, 1).seq, 0
    end = time.monotonic() + 3
    while time.monotonic() < end:
        worst_ns = max(worst_ns, b.said("links", "1", "heard_ns_ago"))
        time.sleep(0.02)
    assert worst_ns < TIMING.link_lost_ns and block_on_disk(pool, 1).seq > seq
    a.guard.guard.send_signal(signal.SIGCONT)
    a.until_state("joining")  # the deadline had passed: that term is over


def test_work_is_told_at_once(pool: PoolDir, a: Host, b: Host) -> None:
    join(pool, a, b)
    b.until(lambda: b.said("links", "1", "hears_me"), "they hear each other")
    b.until(lambda: any(n["slot"] == 1 for n in b.nudges), "the first beat told where a stands")
    took = []
    for work in range(1, 6):
        b.nudges.clear()
        began = time.monotonic()
        assert a.client.publish(
            vm_count=3, free_mib=100, free_vcpus=2, work_seq=work, hints=[("lease/web", work)]
        )
        wanted = {"slot": 1, "work_seq": work, "hints": [["lease/web", work]]}
        b.until(lambda w=wanted: w in b.nudges, "b's agent hears of it")
        took.append(time.monotonic() - began)
    assert min(took) < TIMING.beat_ns / 4e9, took
    b.until(lambda: b.said("blocks", "1", "block", "work_seq") == 5, "it is on the disk too")
    block = b.said("blocks", "1", "block")
    assert (block["vm_count"], block["hints"]) == (3, [["lease/web", 5]])
    assert block["agent_away_ms"] == 0
    b.until(lambda: b.said("blocks", "1", "block", "agent_away_ms") > 600, "a's agent is silent")


def test_leaving_ends_the_term_for_good(pool: PoolDir, a: Host) -> None:
    join(pool, a)
    assert a.client.leave()
    a.until_state("closed")
    own = block_on_disk(pool, 1)
    a.until(lambda: block_on_disk(pool, 1).seq > own.seq + 3, "it goes on saying so")
    assert block_on_disk(pool, 1).state is BlockState.CLOSED
    assert a.client.leave(False)
    a.until_state("joining")


def test_a_slot_of_another_host_is_never_written(pool: PoolDir, a: Host) -> None:
    a.register(uuid="somebody-else", host="stranger")
    a.launch()
    a.until_state("denied")
    a.until(lambda: "belongs to host stranger" in a.said("alarm"), "it says why")
    seq = a.snapshots
    a.until(lambda: a.snapshots > seq + 5, "some beats pass")
    assert not any(pool.hb.read_bytes()[4096:])


def test_a_retired_slot_closes_the_guard(pool: PoolDir, a: Host) -> None:
    join(pool, a)
    a.register(active=False)
    a.until_state("denied")
    a.until(lambda: a.said("guard", "state") == "closed", "the guard is closed")
    assert "retired" in a.said("guard", "reason")


def test_a_damaged_view_confirms_nothing_and_is_told(pool: PoolDir, a: Host) -> None:
    join(pool, a)
    newest = pool.reg / "view" / f"{2:020d}"
    newest.write_text("OUTLAST1 view 2 ")
    a.until(lambda: "damaged" in a.said("storage", "error"), "it is told")
    a.until(lambda: a.said("guard", "state") == "closed", "nothing is confirmed")


def test_a_second_pulse_is_refused(pool: PoolDir, a: Host) -> None:
    join(pool, a)
    first = a.pulse
    a.launch()
    second, a.pulse = a.pulse, first
    assert second.wait(10) == 4
    assert "a pulse is running on this host already" in a.log.read_text()
    assert a.said("state") == "member"


def test_sigterm_ends_it_and_leaves_the_term_open(pool: PoolDir, a: Host) -> None:
    join(pool, a)
    a.pulse.send_signal(signal.SIGTERM)
    assert a.pulse.wait(10) == 0
    assert a.guard.client.status()["state"] == "open"
    assert not (a.run / "pulse.sock").exists()
    a.until(lambda: a.snapshot is None, "the client notices")


def test_without_a_guard_nothing_is_written(pool: PoolDir, a: Host) -> None:
    a.guard.kill9()
    a.register()
    a.launch()
    a.until(lambda: "guard does not answer" in (a.said("storage", "error") or ""), "it says so")
    assert not any(pool.hb.read_bytes()[4096:])
    a.guard.launch()
    a.until_state("joining")


@pytest.mark.parametrize(("changes", "code", "sentence"), [
    ({"slot": 65}, 2, "slot 65"), ({"uuid": "x"}, 2, "cannot be taken"),
    ({"beat_addresses": ["somewhere:1"]}, 2, "'somewhere:1' is not an address"),
])  # fmt: skip
def test_a_bad_host_file_is_told(
    pool: PoolDir, a: Host, changes: dict[str, object], code: int, sentence: str
) -> None:
    a.write_host_file(**changes)
    a.launch()
    assert a.pulse.wait(10) == code
    assert sentence in a.log.read_text()


def test_without_a_host_file_it_says_what_to_do(pool: PoolDir, a: Host) -> None:
    (a.etc / "host.json").unlink()
    a.launch()
    assert a.pulse.wait(10) == 3
    assert "belongs to no pool" in a.log.read_text()


def test_another_pool_on_the_storage_is_not_touched(pool: PoolDir, a: Host) -> None:
    a.write_host_file(pool_uuid="12345678-1234-1234-1234-123456789abc")
    a.register()
    a.launch()
    a.until(lambda: "holds pool" in (a.said("storage", "error") or ""), "it says so")
    assert not any(pool.hb.read_bytes()[4096:])


def test_missing_storage_is_waited_for(pool: PoolDir, a: Host) -> None:
    away = pool.root.with_name("away")
    a.register()
    pool.root.rename(away)
    a.launch()
    a.until(lambda: "pool.json" in (a.said("storage", "error") or ""), "it says what is missing")
    away.rename(pool.root)
    a.until_state("joining")


def test_a_frozen_agent_holds_nothing_up(pool: PoolDir, a: Host, tmp_path: Path) -> None:
    join(pool, a)
    program = (
        "import socket, sys, time\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)\n"
        "print('on', flush=True); time.sleep(600)\n"
    )
    words = ["python3", "-c", program, str(a.run / "pulse.sock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as mute:
        try:
            assert mute.stdout is not None and mute.stdout.readline() == b"on\n"
            for n in range(300):  # each one makes a beat and a snapshot: more than a socket holds
                a.client.publish(vm_count=0, free_mib=0, free_vcpus=0, work_seq=n)
            before = a.snapshots
            a.until(lambda: a.snapshots > before + 5, "the others are served")
            assert a.said("guard", "state") == "open"
        finally:
            mute.kill()
    until(lambda: a.pulse.poll() is None, "the pulse lives on")
