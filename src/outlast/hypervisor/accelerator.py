"""Does KVM really work on this machine? Tried, never believed from a device node.

Promises:
1. KVM is chosen only if a tiny system (a boot sector) comes up through QEMU's firmware under it
   within LIMIT_S, and not much slower than the same system under emulation: a KVM whose processor
   has no real virtualisation passes simple checks and is slower than TCG by a factor of 30.
2. The answer carries a sentence that says why.
3. It is found once per boot when a file to keep it in is given; a damaged file counts as absent.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from outlast.errors import HypervisorTrouble, InvalidInput

LIMIT_S = 3.0
TRIES = 2  # the machine may be busy; the better of two counts
SLOWER_MAX = 4.0  # KVM may take this many times what emulation takes, plus SLACK_S
SLACK_S = 0.5
SIGN = b"outlast alive"
EXIT_PORT, EXIT_WORD = 0xF4, 0x31
EXIT_CODE = EXIT_WORD << 1 | 1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DEVICE = Path("/dev/kvm")


@dataclass(frozen=True, slots=True)
class Accelerator:
    name: str  # kvm | tcg
    why: str


def choose(
    wanted: str, emulator: str, cache: Path | None = None, device: Path = DEVICE
) -> Accelerator:
    """The accelerator of a host: as `wanted` (kvm | tcg), or for "auto" what the probe found.

    Raises InvalidInput for another word; HypervisorTrouble if QEMU itself does not work, or KVM is
    wanted and does not.
    """
    if wanted == "tcg":
        return Accelerator("tcg", "the host's settings ask for emulation")
    if wanted not in ("auto", "kvm"):
        raise InvalidInput(f"there is no accelerator '{wanted}'", hint="auto, kvm or tcg")
    found = probe(emulator, cache, device)
    if wanted == "kvm" and found.name != "kvm":
        raise HypervisorTrouble(
            f"this host is set to use KVM, but {found.why}",
            hint="enable virtualisation in the firmware, or set the accelerator to auto",
        )
    return found


def probe(emulator: str, cache: Path | None = None, device: Path = DEVICE) -> Accelerator:
    """Boot the test system, under emulation and under KVM, and compare.

    Takes 0.2 to 7 s, or nothing if `cache` holds this boot's answer.
    Raises HypervisorTrouble when the test system does not even boot under emulation.
    """
    key = {"boot_id": BOOT_ID.read_text().strip(), "emulator": emulator, "device": str(device)}
    if cache is not None and (kept := _kept(cache, key)):
        return kept
    found = _find(emulator, device)
    if cache is not None:
        fresh = cache.with_name(cache.name + ".new")
        with suppress(OSError):  # a full disk: the next start probes again
            fresh.write_text(json.dumps({**key, **asdict(found)}))
            fresh.replace(cache)
    return found


def boot_image() -> bytes:
    """A disk whose first sector writes SIGN to the first serial port and leaves with EXIT_CODE."""
    code = bytes.fromhex(
        "fa"  # cli
        "31c0 8ed8"  # xor ax,ax; mov ds,ax
        "be1a7c"  # mov si,text
        "baf803"  # mov dx,0x3f8
        "ac"  # again: lodsb
        "84c0"  # test al,al
        "7403"  # jz leave
        "ee"  # out dx,al
        "ebf8"  # jmp again
        f"b0{EXIT_WORD:02x}"  # leave: mov al,word
        f"e6{EXIT_PORT:02x}"  # out port,al
        "f4 ebfd"  # hlt; jmp hlt
    )
    assert len(code) == 0x1A
    return (code + SIGN + b"\n\0").ljust(510, b"\0") + b"\x55\xaa" + bytes(64 * 1024 - 512)


def _find(emulator: str, device: Path) -> Accelerator:
    with tempfile.TemporaryDirectory(prefix="outlast-probe-") as folder:
        image = Path(folder) / "boot.img"
        image.write_bytes(boot_image())
        emulated_s, trouble = _boot(emulator, "tcg", image, 10 * LIMIT_S)
        if trouble:
            raise HypervisorTrouble(
                f"QEMU cannot run even a tiny system: {trouble}", hint=f"is {emulator} installed?"
            )
        if not device.exists():
            return Accelerator("tcg", f"there is no {device}: VMs are emulated")
        if not os.access(device, os.R_OK | os.W_OK):
            return Accelerator("tcg", f"{device} may not be used: VMs are emulated")
        limit_s = min(LIMIT_S, SLOWER_MAX * emulated_s + SLACK_S)
        for _ in range(TRIES):
            kvm_s, trouble = _boot(emulator, "kvm", image, limit_s)
            if not trouble:
                return Accelerator(
                    "kvm",
                    f"a test system boots in {kvm_s:.2f} s under KVM, {emulated_s:.2f} s without",
                )
        return Accelerator(
            "tcg",
            f"{device} is there, but a test system under KVM {trouble} "
            f"({emulated_s:.2f} s without KVM)",
        )


def _boot(emulator: str, accelerator: str, image: Path, limit_s: float) -> tuple[float, str]:
    """Seconds until the test system has left, and what went wrong ("" = nothing)."""
    argv = [emulator, "-accel", accelerator, "-machine", "pc", "-m", "16", "-nodefaults"]
    argv += ["-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]
    argv += ["-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"]
    argv += ["-drive", f"file={image},format=raw,if=ide,readonly=off"]
    began = time.monotonic()
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return limit_s, f"does not boot within {limit_s:.2g} s"
    except OSError as error:
        return 0, f"{emulator}: {error.strerror}"
    took_s = time.monotonic() - began
    if done.returncode == EXIT_CODE and SIGN in done.stdout:
        return took_s, ""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return took_s, f"fails: {said[-1] if said else f'exit status {done.returncode}'}"


def _kept(cache: Path, key: dict[str, str]) -> Accelerator | None:
    try:
        kept = json.loads(cache.read_text())
        if {name: kept[name] for name in key} == key and kept["name"] in ("kvm", "tcg"):
            return Accelerator(kept["name"], str(kept["why"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None
