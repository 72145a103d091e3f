"""What few VMs need, wished at the command line, on a pool of real hosts.

A TPM and firmware find on the next host what the last one left; a hung system is a failed VM that
the pool starts again. About 50 seconds.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from evidence import Story

sys.path.insert(0, str(Path(__file__).parents[2] / "hypervisor"))

from tiny_guest import write_hanging_disk

from outlast.rack.lab import Lab

pytestmark = [pytest.mark.rack, pytest.mark.slow]
LIMIT_S = 120.0
LIKE = 0.9  # of the bytes of a TPM's state that was used on; of another TPM's it is less than half


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, pycache: Path) -> Iterator[Lab]:
    if not (Path("/usr/share/OVMF").is_dir() and shutil.which("swtpm")):
        pytest.skip("needs ovmf and swtpm")
    with Lab(tmp_path_factory.mktemp("hardware")) as lab:
        lab.begin(hosts=3, preset="quick", leashed=True)
        yield lab


def begin(lab: Lab, name: str, *options: str) -> None:
    lab.outlast(lab.hosts[0], "vm", "create", name, *options, timeout_s=LIMIT_S)
    lab.outlast(lab.hosts[0], "vm", "start", name, "--no-wait", timeout_s=LIMIT_S)


def test_a_hung_system_is_a_failed_vm(lab: Lab) -> None:
    write_hanging_disk(lab.pool_dir / "images/hung.raw")
    story = Story(lab)
    begin(lab, "hung", "--memory", "8MiB", "--disk", "images/hung.raw", "--use-existing",
          "--watchdog", "restart")  # fmt: skip
    lab.wait(lambda: len(story.codes().get("vm-runs", [])) >= 2, LIMIT_S, "it is not started again")
    assert "hung died on" in story.codes()["vm-crashed"][0]
    lab.outlast(lab.hosts[0], "vm", "kill", "hung", "--no-wait", timeout_s=LIMIT_S)


def test_firmware_and_tpm_are_on_the_next_host_what_they_were(lab: Lab) -> None:
    begin(lab, "win", "--memory", "128MiB", "--disk", "4MiB", "--firmware", "uefi-secure", "--tpm")
    lab.wait_running(["win"], LIMIT_S)
    (tpm,) = (lab.pool_dir / "firmware").glob("win-*.tpm/tpm2/tpm2-00.permall")
    (variables,) = (lab.pool_dir / "firmware").glob("win-*.fd")
    kept, size_bytes = tpm.read_bytes(), variables.stat().st_size
    victim = lab.where("win")
    lab.rack.power(victim, "off")
    lab.wait(lambda: lab.where("win") not in ("", victim), LIMIT_S, "it does not come back")
    lab.wait_running(["win"], LIMIT_S)
    now = tpm.read_bytes()
    assert sum(a == b for a, b in zip(kept, now, strict=True)) > LIKE * len(kept)
    assert variables.stat().st_size == size_bytes
