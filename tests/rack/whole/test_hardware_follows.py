"""What few VMs need, wished at the command line, on a pool of real hosts.

A TPM and firmware find on the next host what the last one left; a hung system is a failed VM that
the pool starts again; a VM grows while it runs, and is as large on the next host. About 70 seconds.
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

from outlast.errors import OutlastError
from outlast.rack.lab import Lab

pytestmark = [pytest.mark.rack, pytest.mark.slow]
LIMIT_S = 120.0
LIKE = 0.9  # of the bytes of a TPM's state that was used on; of another TPM's it is less than half


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
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


def test_a_vm_grows_while_it_runs(lab: Lab) -> None:
    begin(lab, "big", "--memory", "128MiB", "--memory-max", "512MiB", "--vcpus-max", "2",
          "--disk", "4MiB")  # fmt: skip
    lab.wait_running(["big"], LIMIT_S)
    lab.outlast(lab.hosts[0], "vm", "migrate", "big", timeout_s=LIMIT_S)
    here = lab.where("big")

    def has(vcpus: str, memory: str) -> bool:
        said = lab.rack.exec(lab.where("big"), ["virsh", "dominfo", "big"]).stdout
        words = {line.partition(":")[0]: line.split()[-2:] for line in said.splitlines() if line}
        return words["CPU(s)"][-1] == vcpus and words["Used memory"] == [memory, "KiB"]

    assert has("1", "131072")
    lab.outlast(here, "vm", "set", "big", "--vcpus", "2", "--memory", "256MiB", timeout_s=LIMIT_S)
    lab.wait(lambda: has("2", "262144"), LIMIT_S, "it does not grow")
    with pytest.raises(OutlastError, match="only a host with KVM can move"):
        lab.outlast(here, "vm", "migrate", "big", timeout_s=LIMIT_S)
    assert lab.where("big") == here
    lab.rack.power(here, "off")
    lab.wait(lambda: lab.where("big") not in ("", here), LIMIT_S, "it does not come back")
    lab.wait_running(["big"], LIMIT_S)
    assert has("2", "262144")
    lab.rack.power(here, "on")
    lab.wait_members(lab.hosts, LIMIT_S)


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
