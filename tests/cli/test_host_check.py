"""`outlast host check` and `host prepare`: each light from both sides, on machines of files."""

from __future__ import annotations

import socket
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Outlast

from outlast.cli import host_facts, machine, preparing
from outlast.cli.host_lights import HostFacts, StorageFacts, WatchdogFacts, judge
from outlast.errors import HypervisorTrouble, NotFound
from outlast.model import SlotRecord
from outlast.readiness.lights import GREEN, RED, YELLOW
from outlast.storage.format import slot_to
from outlast.storage.posix import PosixRegister

NFS_OPTIONS = ("hard", "lookupcache=none", "acdirmin=0", "acdirmax=0")
SOUND = HostFacts(
    joined="a",
    python=(3, 11),
    kernel=(6, 1),
    qemu=(7, 2),
    libvirt=(9, 0),
    watchdog=WatchdogFacts(there=True, driver="iTCO_wdt", armed=True),
    cgroup="/sys/fs/cgroup",
    clock_source="tsc",
    clock_synced=True,
    certificate_days=300,
    storage=StorageFacts("/srv/pool", "", "nfs4", NFS_OPTIONS, False, "", 9000),
    memory_mib=64000,
    var_free_mib=9000,
    services=dict.fromkeys(machine.SERVICES, "active"),
    peers={"b": ""},
)
STORED = SOUND.storage
assert STORED is not None


def test_a_sound_host_is_green_all_over() -> None:
    lights = judge(SOUND)
    assert {light.colour for light in lights} == {GREEN}
    assert {"Python", "kernel", "cgroup v2", "KVM", "QEMU", "libvirt", "watchdog", "clock", "time",
            "storage", "disk", "memory", "network", "services", "certificate"} == {
        light.what for light in lights
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "colour", "what", "words"),
    [
        ({"python": (3, 10)}, RED, "Python", "older than 3.11"),
        ({"kernel": (5, 10)}, RED, "kernel", "older than 5.14"),
        ({"cgroup": ""}, RED, "cgroup v2", "not mounted"),
        ({"confined": "AppArmor says no"}, RED, "confinement", "AppArmor"),
        ({"kvm": "there is no /dev/kvm"}, YELLOW, "KVM", "emulated"),
        ({"qemu": None, "qemu_path": "/x/qemu"}, RED, "QEMU", "/x/qemu does not run"),
        ({"qemu": (6, 9)}, RED, "QEMU", "older than 7.2"),
        ({"libvirt": None, "libvirt_trouble": "no socket"}, RED, "libvirt", "no socket"),
        ({"libvirt_settings": ("set user",)}, RED, "libvirt", "set user"),
        ({"watchdog": WatchdogFacts(wanted=False)}, YELLOW, "watchdog", "joined without"),
        ({"watchdog": WatchdogFacts()}, YELLOW, "watchdog", "there is no /dev/watchdog"),
        ({"watchdog": WatchdogFacts(there=True, driver="Software Watchdog, softdog")}, YELLOW,
         "watchdog", "shares the kernel's fate"),
        ({"watchdog": WatchdogFacts(there=True, driver="x", stops=True)}, YELLOW, "watchdog",
         "would stop when the guard is killed"),
        ({"joined": ""}, RED, "watchdog", "in use by another program"),
        ({"clock_source": "hpet"}, YELLOW, "clock", "hpet"),
        ({"clock_source": ""}, YELLOW, "clock", "not known"),
        ({"clock_synced": False}, YELLOW, "time", "not kept"),
        ({"clock_synced": None}, YELLOW, "time", "may be wrong"),
        ({"storage": None}, YELLOW, "storage", "not looked at"),
        ({"storage": replace(STORED, trouble="gone")}, RED, "storage", "gone"),
        ({"storage": replace(STORED, own_disk=True)}, YELLOW, "storage", "own disk"),
        ({"storage": replace(STORED, fs_type="ext4")}, YELLOW, "storage", "is it shared"),
        ({"storage": replace(STORED, direct="no")}, RED, "storage", "O_DIRECT"),
        ({"repositories": {"fast": "nothing is mounted"}}, YELLOW, "storage", "fast: nothing"),
        ({"storage": replace(STORED, options=("soft",))}, YELLOW, "storage", "lookupcache=none"),
        ({"storage": replace(STORED, free_mib=500)}, YELLOW, "storage", "only 500 MiB"),
        ({"storage": replace(STORED, free_mib=5)}, RED, "storage", "only 5 MiB"),
        ({"storage": replace(STORED, clock_off_s=-90.0)}, RED, "time", "90 s behind"),
        ({"var_free_mib": 10}, RED, "disk", "only 10 MiB"),
        ({"memory_mib": 512}, YELLOW, "memory", "512 MiB"),
        ({"ports_taken": {"TCP 7791": "in use"}}, RED, "network", "TCP 7791"),
        ({"peers": {"b": "no answer"}}, YELLOW, "network", "agent of b was not reached"),
        ({"services": {"outlast-guard": "failed"}}, RED, "services", "outlast-guard is failed"),
        ({"certificate_days": None}, RED, "certificate", "none that can be read"),
        ({"certificate_days": 3}, YELLOW, "certificate", "ends in 3 days"),
        ({"certificate_days": -1}, RED, "certificate", "has ended"),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_said_with_what_to_do(
    changes: dict[str, object], colour: str, what: str, words: str
) -> None:
    wrong = [light for light in judge(replace(SOUND, **changes)) if light.colour != GREEN]  # type: ignore[arg-type]
    assert [(light.colour, light.what) for light in wrong] == [(colour, what)]
    assert words in wrong[0].sentence
    assert wrong[0].hint


# ---- finding out


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with everything."""
    made = tmp_path / "machine"
    files = {
        "dev/kvm": "",
        "dev/watchdog": "",
        "sys/class/watchdog/watchdog0/identity": "iTCO_wdt\n",
        "sys/class/watchdog/watchdog0/state": "active\n",
        "sys/class/watchdog/watchdog0/nowayout": "0\n",
        "proc/self/mounts": "x /sys/fs/cgroup cgroup2 rw 0 0\n",
        "proc/meminfo": "MemTotal:       65536 kB\n",
        "proc/cpuinfo": "flags : fpu vmx\n",
        "etc/libvirt/qemu.conf": '#user = "x"\nuser = "libvirt-qemu"\nmax_files = 9\n',
    }
    for name, text in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def test_the_machine_is_read(root: Path) -> None:
    assert host_facts.kvm_trouble(root) == ""
    assert host_facts.watchdog({}, root) == WatchdogFacts(
        "/dev/watchdog", True, True, "iTCO_wdt", True, False
    )
    assert host_facts.cgroup_mount(root) == "/sys/fs/cgroup"
    assert host_facts.memory_mib(root) == 64
    assert host_facts.services(root) == {}
    for options, nowayout, stops in (("0x8180", "0", False), ("0x8080", "0", True),
                                     ("0x8080", "1", False)):  # fmt: skip
        (root / "sys/class/watchdog/watchdog0/options").write_text(options)
        (root / "sys/class/watchdog/watchdog0/nowayout").write_text(nowayout)
        assert host_facts.watchdog({}, root).stops is stops
    (root / "dev/kvm").unlink()
    assert "no /dev/kvm" in host_facts.kvm_trouble(root)
    (root / "proc/cpuinfo").write_text("flags : fpu\n")
    assert "does not offer virtualisation" in host_facts.kvm_trouble(root)
    assert not host_facts.watchdog({"watchdog_device": "/dev/watchdog7"}, root).there
    assert not host_facts.watchdog({"reset": "none"}, root).wanted


def test_kvm_that_failed_at_this_boot_is_known(root: Path) -> None:
    for name, text in (
        ("proc/sys/kernel/random/boot_id", "abc"),
        ("var/lib/outlast/accelerator.json", '{"boot_id": "abc", "name": "tcg", "why": "slow"}'),
    ):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(text)
    assert host_facts.kvm_trouble(root) == "slow"
    (root / "proc/sys/kernel/random/boot_id").write_text("def")
    assert host_facts.kvm_trouble(root) == ""


def test_security_modules(root: Path) -> None:
    assert host_facts.confined(root) == ""
    for name, text in (
        ("sys/kernel/security/apparmor/profiles", "libvirtd (enforce)\nlibvirtd//x (enforce)\n"),
        ("sys/fs/selinux/enforce", "0"),
        ("etc/apparmor.d/local/usr.sbin.libvirtd", "# nothing\n"),
    ):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(text)
    assert "AppArmor" in host_facts.confined(root)
    (root / "etc/apparmor.d/local/usr.sbin.libvirtd").write_text(f"{preparing.RULE}\n")
    assert host_facts.confined(root) == ""
    (root / "sys/fs/selinux/enforce").write_text("1")
    assert "SELinux" in host_facts.confined(root)


def test_what_hangs_or_fails_is_not_waited_for() -> None:
    until = threading.Event()
    began = time.monotonic()
    assert host_facts.within(0.05, lambda: until.wait(20), None) is None
    assert time.monotonic() - began < 5
    until.set()

    def fails() -> int:
        raise OSError("no")

    assert host_facts.within(5, fails, 7) == 7
    version, said = host_facts.libvirt_version("qemu:///system?socket=/nowhere")
    assert version is None and "/nowhere" in said
    assert host_facts.qemu_version("/nowhere/qemu") is None


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening, socket.socket(type=socket.SOCK_DGRAM) as bound:
        for one, name in ((listening, "API_PORT"), (bound, "BEAT_PORT")):
            one.bind(("127.0.0.1", 0))
            monkeypatch.setattr(machine, name, one.getsockname()[1])
        listening.listen()
        assert len(host_facts.ports_taken()) == 2
    assert host_facts.ports_taken() == {}


def test_storage_and_peers(pool: Path) -> None:
    found = host_facts.storage(pool)
    assert (found.trouble, found.direct) == ("", "")
    assert found.free_mib > 0 and abs(found.clock_off_s or 0) < 30
    assert "no directory" in host_facts.storage(pool / "none").trouble
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        register = PosixRegister(pool, "test")
        for slot, host in ((1, "a"), (2, "b")):
            record = SlotRecord(slot, host, f"{slot:08}-0000-4000-8000-000000000000", 1, True, (),
                                f"127.0.0.1:{port}")  # fmt: skip
            register.swap(f"slot/{slot}", 0, slot_to(record))
        assert host_facts.reach(register, "a") == {"b": ""}
    assert "refused" in host_facts.reach(register, "a")["b"]


def test_the_command_sees_this_machine(outlast: Outlast, pool: Path) -> None:
    before = sorted(pool.rglob("*"))
    said = outlast("host", "check", "--pool", str(pool), "--json")
    assert said.code == (1 if said.json["light"] == RED else 0)
    known = {reason["what"]: reason for reason in said.json["reasons"]}
    assert known["Python"]["colour"] == GREEN
    assert sorted(pool.rglob("*")) == before, "it leaves nothing behind"
    text = outlast("host", "check")
    assert "say where it is mounted" in text.out


# ---- prepare


def test_prepare_changes_what_must_be_and_nothing_else(root: Path) -> None:
    conf = root / "etc/libvirt/qemu.conf"
    conf.chmod(0o600)
    before = conf.read_text()
    (edit,) = preparing.plan(root)
    preparing.carry_out([replace(edit, after=("true",))])
    assert machine.libvirt_settings(conf) == []
    assert 'user = "libvirt-qemu"' not in conf.read_text()
    assert "max_files = 9" in conf.read_text() and '#user = "x"' in conf.read_text()
    assert stat.S_IMODE(conf.stat().st_mode) == 0o600
    assert conf.with_name("qemu.conf.before-outlast").read_text() == before
    assert preparing.plan(root) == []


def test_prepare_opens_apparmor_where_it_confines_libvirtd(root: Path) -> None:
    profile = root / preparing.PROFILE
    profile.parent.mkdir(parents=True)
    profile.write_text("profile libvirtd\n")
    edit = preparing.plan(root)[1]
    assert preparing.carry_out([replace(edit, after=("true",))]) == []
    assert (root / preparing.LOCAL_RULES).read_text() == f"{preparing.RULE}\n"
    assert len(preparing.plan(root)) == 1


@pytest.mark.parametrize(
    "text",
    [
        'cgroup_controllers = [\n  "cpu",\n  "memory"\n]\nmax_files = 9\n',
        'user = "a"\nuser = "b"\n',
    ],
)
def test_prepare_understands_lists_and_repetitions(tmp_path: Path, text: str) -> None:
    conf = tmp_path / "qemu.conf"
    conf.write_text(preparing.with_settings(text))
    assert machine.libvirt_settings(conf) == []
    assert '"cpu"' not in conf.read_text() and conf.read_text().count("\nuser =") < 2
    assert ("max_files" in text) == ("max_files" in conf.read_text())
    assert preparing.with_settings(conf.read_text()) == conf.read_text()


def test_prepare_without_libvirt_and_with_one_that_refuses(root: Path) -> None:
    (edit,) = preparing.plan(root)
    with pytest.raises(HypervisorTrouble, match="'false' failed"):
        preparing.carry_out([replace(edit, after=("false",))])
    assert preparing.carry_out([replace(edit, after=("no-such-program-x",))])
    (root / "etc/libvirt/qemu.conf").unlink()
    with pytest.raises(NotFound, match="libvirt is not installed"):
        preparing.plan(root)
