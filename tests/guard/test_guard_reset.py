"""The guard and what resets its host when it is frozen, too late, or stopped."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))
from guard_kit import T1, T2, confirm, open_term
from guard_process import MS, FakeWatchdog, ProcessGuard, until, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
S = 1000 * MS


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[ProcessGuard]:
    bench = ProcessGuard(tmp_path)
    yield bench
    bench.clean()


@pytest.fixture
def dog(tmp_path: Path) -> Iterator[FakeWatchdog]:
    dog = FakeWatchdog(tmp_path / "dog")
    yield dog
    dog.close()


@pytest.fixture
def guarded(tmp_path: Path, dog: FakeWatchdog) -> Iterator[ProcessGuard]:
    """A host that the fake watchdog can reset."""
    bench = ProcessGuard(tmp_path, reset="watchdog", watchdog_device=dog.device)
    dog.bench = bench
    yield bench
    bench.clean()


def test_sigterm_kills_no_vm_and_the_next_guard_goes_on(
    guarded: ProcessGuard, dog: FakeWatchdog
) -> None:
    open_term(guarded, T1, fence_ns=20 * S, kill_ns=4 * S, watchdog_s=3)
    guarded.boot("web")
    assert guarded.stop() == 0
    assert guarded.alive("web") == 1
    assert dog.running and "disarm" not in dog.heard
    guarded.launch()
    said = guarded.ask("status")
    assert (said["state"], said["term"]) == ("open", T1)
    until(lambda: dog.heard.count("arm 3") == 2, "the new guard takes the watchdog over")
    before = len(dog.heard)
    until(lambda: len(dog.heard) > before, "and pets it")
    assert dog.fired_ns == 0 and guarded.alive("web") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_with_nothing_running_disarms(
    guarded: ProcessGuard, dog: FakeWatchdog, number: int
) -> None:
    open_term(guarded, T1, fence_ns=20 * S)
    assert guarded.ask("status")["watchdog"]["armed"]  # type: ignore[index]
    assert guarded.stop(number) == 0
    until(lambda: dog.heard[-1:] == ["disarm"] and not dog.running, "the watchdog is off")
    assert not guarded.socket.exists()


@pytest.mark.parametrize("before_ms", [1100, 400, 30])
def test_a_frozen_guard_is_reset_before_d_plus_k(
    guarded: ProcessGuard, dog: FakeWatchdog, before_ms: int
) -> None:
    kill_ns = 1300 * MS
    open_term(guarded, T1, fence_ns=1200 * MS, kill_ns=kill_ns, watchdog_s=1)
    guarded.boot("web")
    deadline_ns = int(str(confirm(guarded, T1)["deadline_ns"]))
    until(lambda: guarded.reading().boot_ns > deadline_ns - before_ms * MS, "the moment")
    guarded.guard.send_signal(signal.SIGSTOP)
    until(lambda: dog.fired_ns, "the watchdog fires")
    until(lambda: guarded.alive("web") == 0, "the host is reset")
    early_ms = (deadline_ns + kill_ns - dog.fired_ns) / MS
    print(f"\nfrozen {before_ms} ms before D: reset {early_ms:.0f} ms before D + K")
    assert early_ms > 0


def test_expiry_with_a_vm_stops_petting_and_the_host_is_reset(
    guarded: ProcessGuard, dog: FakeWatchdog
) -> None:
    kill_ns = 1300 * MS
    open_term(guarded, T1, fence_ns=1200 * MS, kill_ns=kill_ns, watchdog_s=1)
    guarded.boot("web")
    deadline_ns = int(str(confirm(guarded, T1)["deadline_ns"]))
    until(lambda: guarded.ask("status")["state"] == "resetting", "resetting")
    assert guarded.alive("web") == 0
    until(lambda: dog.fired_ns, "the watchdog fires")
    print(f"\nexpiry: reset {(deadline_ns + kill_ns - dog.fired_ns) / MS:.0f} ms before D + K")
    assert dog.fired_ns < deadline_ns + kill_ns


def test_a_quiet_close_keeps_petting(guarded: ProcessGuard, dog: FakeWatchdog) -> None:
    open_term(guarded, T1, fence_ns=20 * S, kill_ns=1300 * MS, watchdog_s=1)
    guarded.boot("web")
    guarded.ask("close", term=T1, reason="excluded")
    until(lambda: guarded.ask("status")["state"] == "closed", "closed")
    heard = len(dog.heard)
    until(lambda: len(dog.heard) > heard + 12, "it is petted for more than two time-outs")
    assert dog.fired_ns == 0
    assert open_term(guarded, T2)["ok"]


def test_a_required_watchdog_that_is_missing_opens_nothing(bench: ProcessGuard) -> None:
    bench.configure(reset="watchdog", watchdog_device=str(bench.run / "none"))
    said = open_term(bench, T1, watchdog="required")
    assert not said["ok"]
    assert "requires a watchdog" in str(said["error"])
    assert open_term(bench, T1, watchdog="automatic")["ok"]
    assert bench.ask("status")["reset"] == "none"


def test_a_host_that_nothing_may_reset_is_refused_by_a_strict_pool(bench: ProcessGuard) -> None:
    assert "nothing may reset" in str(open_term(bench, T1, watchdog="required")["error"])


def test_a_broken_host_file_opens_nothing(bench: ProcessGuard) -> None:
    (bench.etc / "host.json").write_text('{"reset": "maybe"}')
    assert "reset must be one of" in str(open_term(bench, T1)["error"])


def test_sysrq_resets_where_it_is_configured(tmp_path: Path) -> None:
    """With a plain file in the place of the kernel's trigger: the real one is never named here."""
    trigger = tmp_path / "trigger"
    trigger.write_text("")
    program = (
        "import sys; from pathlib import Path; from outlast.guard import __main__ as g, host;"
        "g.sysrq_problem = lambda: '';"
        "sys.exit(g.main(host.Places(*map(Path, sys.argv[1:]))))"
    )
    bench = ProcessGuard(
        tmp_path, ["-c", program, "{run}", "{etc}/host.json", str(trigger)], reset="sysrq"
    )
    try:
        open_term(bench, T1, fence_ns=1000 * MS)
        bench.boot("web")
        assert bench.ask("status")["reset"] == "sysrq"
        until(lambda: bench.ask("status")["state"] == "resetting", "resetting")
        until(lambda: trigger.read_text().startswith("b"), "the trigger is pulled")
        assert bench.alive("web") == 0
    finally:
        bench.clean()
