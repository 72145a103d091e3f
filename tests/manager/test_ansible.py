"""The role for Ansible, played by Ansible against a manager that runs, and played twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from calling import wait
from pretend import RealPool
from process import Process

from outlast.manager.ports import Grant

ROLES = Path(__file__).parents[2] / "packaging/ansible/roles"
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"


class Playing:
    """A manager that follows a real pool, and plays of the role against it."""

    def __init__(self, root: Path, pool: RealPool) -> None:
        self.root, self.manager = root, Process(root / "manager", real=pool)
        self.token = self.manager.user("robot", Grant("admin"))
        self.manager.command("manager", "add-pool", pool.url("a"), "--pki", str(pool.pki))
        self.manager.start()
        wait(lambda: self.vms() == [])

    def vms(self) -> list[dict[str, Any]] | None:
        status, found = self.manager.call("GET", "/api/v1/vms?pool=lab", token=self.token)
        return found["items"] if status == 200 else None

    def __call__(self, *wanted: dict[str, object], check: bool = False) -> tuple[str, int]:
        """What Ansible said, and how many tasks changed something; -1 = it failed."""
        plays = [
            {
                "hosts": "localhost", "gather_facts": False, "roles": ["outlast_vm"],
                "vars": {
                    "outlast_url": f"https://127.0.0.1:{self.manager.port}", "outlast_pool": "lab",
                    "outlast_ca": str(self.manager.root / "var/manager/tls/cert.pem"),
                    "outlast_vm_state": state,
                    "outlast_vm": {"name": "web"} | {k: v for k, v in vm.items() if k != "state"},
                },
            }
            for vm in wanted for state in (vm.get("state", "running"),)
        ]  # fmt: skip
        book = self.root / "play.yml"
        book.write_text(yaml.safe_dump(plays))
        done = subprocess.run(
            [ANSIBLE, "-i", "localhost,", "-c", "local", *["--check"] * check, book], text=True,
            capture_output=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
            env=os.environ | {
                "OUTLAST_TOKEN": self.token, "ANSIBLE_ROLES_PATH": str(ROLES),
                "ANSIBLE_HOME": str(self.root / "ansible"), "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable, "ANSIBLE_LOCALHOST_WARNING": "0",
                "LC_ALL": "C.UTF-8",
            },
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert self.token not in said
        counted = re.search(r"^localhost .* changed=(\d+) ", done.stdout, re.MULTILINE)
        return said, -1 if done.returncode or counted is None else int(counted[1])


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playing]:
    root = tmp_path_factory.mktemp("ansible")
    pool = RealPool(root)
    made = Playing(root, pool)
    yield made
    made.manager.kill()
    pool.close()


def test_a_vm_is_made_changed_and_removed_and_nothing_is_done_twice(play: Playing) -> None:
    web = {"memory_mib": 512, "vcpus": 2, "disks": [{"size": "1MiB"}]}
    said, changed = play(web, check=True)
    assert (changed, play.vms()) == (0, []), said
    said, changed = play(web, web, web | {"priority": "high"})
    assert changed == len(["made", "started", "changed"]), said
    seen = [(vm["name"], vm["state"], vm["priority"]) for vm in play.vms() or ()]
    assert seen == [("web", "running", "high")]
    said, changed = play({"state": "absent"}, {"state": "absent"})
    assert changed == len(["shut down", "removed"]), said
    assert play.vms() == []


@pytest.mark.parametrize(
    ("vm", "words"),
    [
        (
            {"memory_mib": 512, "disks": [{"path": "../../etc/passwd"}]},
            "is not on the pool's storage",
        ),
        ({"vcpus": 1}, "with name and memory_mib"),
    ],
)
def test_what_cannot_be_is_told_in_words(play: Playing, vm: dict[str, object], words: str) -> None:
    said, changed = play(vm)
    assert changed == -1
    assert words in said
