"""Two neighbouring versions in one pool: hosts are upgraded under running VMs, and mix meanwhile.

The newer version is this one with another number, a newer protocol, and a field more in each record
of the registers; on its hosts it lies where the older one does on the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from evidence import BACK_S, Lives, boots, command, victims, wait_back

import outlast
from outlast.rack.lab import Lab

pytestmark = [pytest.mark.rack, pytest.mark.slow]
SOURCE = Path(outlast.__file__).parent
SERVICES = ("outlast-guard", "outlast-pulse", "outlast-agent")
NEWER = "0.2.0"


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the next version."""
    folder = tmp_path_factory.mktemp("newer") / "outlast"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    _edit(folder / "__init__.py", r'__version__ = "[^"]+"', f'__version__ = "{NEWER}"')
    _edit(
        folder / "settings.py",
        r"PROTOCOL, PROTOCOL_OLDEST = 1, 1",
        "PROTOCOL, PROTOCOL_OLDEST = 2, 1",
    )
    model = folder / "model.py"
    for name in ("SlotRecord", "VmRecord", "Lease", "VmSpec", "Move"):
        text = model.read_text()
        at = text.index("\n\n\n", text.index(f"class {name}:"))
        fields = re.search(r"\n    def |\n    @property", text[text.index(f"class {name}:") : at])
        where = text.index(f"class {name}:") + fields.start() if fields else at
        model.write_text(text[:where].rstrip() + "\n    later: str = 'later'\n" + text[where:])
    return folder


def _edit(path: Path, old: str, new: str) -> None:
    text, count = re.subn(old, new, path.read_text())
    assert count == 1, path
    path.write_text(text)


def upgrade(lab: Lab, host: str, source: Path) -> None:
    """Put the newer version where the older one is and restart the services, one by one."""
    seen_there = shutil.copytree(source, lab.folder / host / "log/newer", dirs_exist_ok=True)
    here = f"/var/log/outlast/{seen_there.name}"
    done = lab.rack.exec(host, ["mount", "--bind", here, str(SOURCE)])
    assert done.returncode == 0, done.stderr
    for service in SERVICES:
        with contextlib.suppress(ProcessLookupError):
            os.kill(lab.rack.service_pid(host, service), signal.SIGKILL)
        lab.wait_members(lab.hosts, BACK_S)
    lab.wait(lambda: _versions(lab)[host] == (NEWER, NEWER), BACK_S, f"{host} is old still")


def _versions(lab: Lab) -> dict[str, tuple[str, str]]:
    return {h.name: (h.version, h.guard_version) for h in lab.client().status().hosts}


def _record(lab: Lab, name: str) -> dict[str, object]:
    newest = max((lab.pool_dir / "reg" / name).iterdir())
    return dict(json.loads(newest.read_text().split("\n")[1])["value"])


def test_hosts_of_two_versions_mix(lab: Lab, newer: Path) -> None:
    old, new = lab.where("vm1"), next(h for h in lab.hosts if h != lab.where("vm1"))
    before, view = boots(lab), lab.client().status().view
    with Lives(lab) as lives:
        upgrade(lab, new, newer)
        assert boots(lab) == before, "a VM noticed the upgrade"
        assert lab.client().status().view == view, "the host lost its term"
        said = command(lab, old, "pool", "upgrade-check").stdout
        assert f"version {NEWER}: {new}" in said
        done = command(lab, new, "pool", "upgrade").stdout
        assert "speaks protocol 1" in done, "the older hosts cannot speak more"

        # the newer one writes, the older one writes after it: nothing is lost
        lab.client(new).stop("vm2")
        lab.wait(lambda: lab.statuses()["vm2"].state == "stopped", BACK_S, "vm2 runs still")
        assert _record(lab, "vm/vm2")["later"] == "later"
        lab.client(old).start("vm2")
        wait_back(lab, {"vm2": before["vm2"]})
        assert _record(lab, "vm/vm2")["later"] == "later", "an older host threw it away"
        before |= boots(lab, ["vm2"])

        # a VM goes there and back again
        for host in (new, old):
            lab.client().migrate("vm1", host)
            lab.wait(lambda h=host: _rests(lab, "vm1", h), BACK_S, f"vm1 does not move to {host}")
        assert boots(lab) == before, "a VM has started anew"
    assert not lives.overlaps()


def test_a_host_of_the_other_version_is_taken_over(lab: Lab, newer: Path) -> None:
    """Older take over from newer; after that the host comes back with the older version."""
    host = next((h for h, v in _versions(lab).items() if v[0] == NEWER), lab.hosts[1])
    if _versions(lab)[host][0] != NEWER:
        upgrade(lab, host, newer)
    lost = victims(lab, host)
    if not lost:
        lab.client().migrate("vm3", host)
        lab.wait(lambda: _rests(lab, "vm3", host), BACK_S, f"vm3 does not move to {host}")
        lost = victims(lab, host)
    before = boots(lab, lost)
    lab.rack.power(host, "off")
    wait_back(lab, before)
    lab.rack.power(host, "on")
    lab.wait_members(lab.hosts, BACK_S)
    lab.wait(lambda: _versions(lab)[host][0] == outlast.__version__, BACK_S, "it says the newer")


def _rests(lab: Lab, vm: str, host: str) -> bool:
    found = lab.statuses()[vm]
    assert found.move is None or not found.move.failed, found.move
    return found.host == host and found.state == "running" and found.move is None
