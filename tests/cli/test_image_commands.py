"""`outlast image` and `outlast template`, on a pool of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Outlast
from memory_service import MemoryService

from outlast.agent.server import Server
from outlast.agent.server_thread import ServerThread
from outlast.errors import OutlastError
from outlast.images import clones
from outlast.images.work import Stay, workplace
from outlast.model import Disk, VmRecord, VmSpec
from outlast.storage.posix import PosixRegister


def test_an_images_whole_life(outlast: Outlast, pool: Path, tmp_path: Path) -> None:
    there = ("--pool", str(pool))
    (tmp_path / "disk.img").write_bytes(b"x" * (1 << 20))
    assert "no images yet" in outlast("image", "list", *there).out
    source = str(tmp_path / "disk.img")
    said = outlast("image", "import", "web", source, "--limit", "none", *there)
    assert said.out.startswith("web is imported: 1 disk, 1 MiB; SHA-256 of its source: ")
    assert "converting 100 %" in said.err
    again = outlast("image", "import", "web", source, *there)
    assert (again.code, "hint: take another name, or: outlast image remove web" in again.err) == (
        4, True,
    )  # fmt: skip
    assert outlast("image", "list", *there).out.splitlines()[1].split()[:2] == ["web", "1"]
    assert outlast("image", "list", "--json", *there).json["images"][0]["virtual_bytes"] == 1 << 20
    shown = outlast("image", "show", "web", "--json", *there).json
    assert (shown["source"], len(shown["files"])) == (source, 1)
    assert f"from {source} (raw)" in outlast("image", "show", "web", *there).out
    out = tmp_path / "out.raw"
    said = outlast("image", "export", "web", str(out), "--format", "raw", *there)
    assert (said.code, out.read_bytes() == (tmp_path / "disk.img").read_bytes()) == (0, True)
    assert outlast("image", "remove", "web", *there).out == "the image web is deleted\n"
    assert outlast("image", "show", "web", *there).code == 3
    assert outlast("image", "clean", *there).out == "nothing is left over\n"


def test_without_a_pool_it_says_so(outlast: Outlast) -> None:
    said = outlast("image", "list")
    assert (said.code, "outlast host join DIR" in said.err) == (3, True)


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 me@home"


@pytest.fixture
def small(outlast: Outlast, pool: Path, tmp_path: Path) -> Iterator[MemoryService]:
    """A pool with a template `small`, and an agent whose VMs stand in the pool's registers."""
    (tmp_path / "disk.img").write_bytes(b"x" * (1 << 20))
    at = ("--pool", str(pool))
    said = outlast("image", "import", "deb", str(tmp_path / "disk.img"), "--limit", "none", *at)
    assert said.code == 0
    said = outlast("template", "create", "small", "--image", "deb", "--memory", "64MiB", *at)
    assert said.out.startswith("the template small is made")
    service = MemoryService(pool)
    service.register = PosixRegister(pool, "1")  # type: ignore[assignment]
    thread = ServerThread(Server(service, tmp_path / "run/agent.sock"))
    thread.start()
    yield service
    thread.stop()


def test_from_afar_it_is_the_same(
    outlast: Outlast, pool: Path, small: MemoryService, tmp_path: Path
) -> None:
    """`--agent`, on a machine that is no host: same commands, same output, same files."""
    here, afar = ("--pool", str(pool)), ("--agent", f"unix:{tmp_path}/run/agent.sock")

    def both(*words: str) -> str:
        one, other = outlast(*words, *here), outlast(*afar, *words)
        assert (one.code, one.out, one.err) == (other.code, other.out, other.err)
        return one.out or one.err

    assert "small" in both("template", "list")
    for words in (("image", "list"), ("image", "show", "deb"), ("template", "list")):
        both(*words)
        both(*words, "--json")
    assert "there is no image 'web'" in both("image", "show", "web")
    assert "there is no template 'web'" in both("template", "remove", "web")
    assert "there is no template 'no'" in both("template", "deploy", "no", "web")
    assert "there is no image 'no'" in both("template", "create", "t", "--image", "no", "--memory",
                                            "64MiB")  # fmt: skip
    made = outlast(*afar, "template", "create", "big", "--image", "deb", "--memory", "1GiB")
    assert made.out.startswith("the template big is made")
    fixed = ("--address", "10.0.0.[11-12]/24", "--gateway", "10.0.0.1", "--ssh-key", KEY)
    said = outlast(*afar, "template", "deploy", "big", "web-[1-2]", "--disk", "3MiB", *fixed)
    assert (said.code, said.out) == (0, "2 VMs are made of big\n")
    held = small.read_vm("web-2")
    assert held is not None
    disk, seed = held.value.spec.disks
    size = int.from_bytes(Path(disk.path).read_bytes()[24:32], "big")  # of its qcow2 header
    assert (held.value.spec.memory_mib, size) == (1024, 3 << 20)
    assert held.value.spec.agent_channel
    assert b"10.0.0.12/24" in Path(seed.path).read_bytes()
    assert outlast(*afar, "template", "deploy", "big", "bare", "--no-cloud-init").code == 0
    assert len(small.read_vm("bare").value.spec.disks) == 1  # type: ignore[union-attr]
    both("template", "list", "--json")
    assert "big' stays: bare, web-1" in outlast(*afar, "template", "remove", "big").err
    assert outlast(*afar, "template", "remove", "small").out == "the template small is deleted\n"
    assert outlast(*afar, "image", "remove", "deb").out == "the image deb is deleted\n"
    assert "no images yet" in both("image", "list")


def test_what_is_not_for_afar_says_so(
    outlast: Outlast, small: MemoryService, tmp_path: Path
) -> None:
    for words, code, sentence in (
        ("template deploy small web --full", 2, "made on a host of the pool"),
        ("template deploy small web --full --on fast", 2, "made on a host of the pool"),
        ("image import web /mnt/web.ova", 2, "is to look for /mnt/web.ova"),
        ("image import web web.ova", 3, "there is no file"),
    ):
        said = outlast("--agent", f"unix:{tmp_path}/run/agent.sock", *words.split())
        assert (said.code, sentence in said.err) == (code, True), said.err
    assert small.register.names("vm") == []


def test_an_import_from_afar_is_followed_to_its_end(
    outlast: Outlast, pool: Path, small: MemoryService, tmp_path: Path
) -> None:
    (pool / "import").mkdir()
    (pool / "import/web.img").write_bytes(b"y" * (1 << 20))
    afar = ("--agent", f"unix:{tmp_path}/run/agent.sock")
    said = outlast(*afar, "image", "import", "web", "web.img", "--limit", "none")
    assert said.out.startswith("web is imported: 1 disk, 1 MiB; SHA-256 of its source: ")
    assert outlast(*afar, "image", "show", "web", "--json").json["source"] == "web.img"


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


def test_twenty_vms_of_one_template(outlast: Outlast, pool: Path, small: MemoryService) -> None:
    at = ("--pool", str(pool))
    network = ("--address", "10.0.0.[11-30]/24", "--gateway", "10.0.0.1", "--ssh-key", KEY)
    said = outlast("template", "deploy", "small", "web-[01-20]", *network, *at)
    assert (said.code, said.out) == (0, "20 VMs are made of small\n")
    held = small.read_vm("web-07")
    assert held is not None
    disk, seed = held.value.spec.disks
    assert (disk.path, disk.format) == (f"{pool}/images/web-07.qcow2", "qcow2")
    assert (seed.path, seed.format) == (f"{pool}/images/web-07-seed.iso", "raw")
    told = subprocess.run(
        ["qemu-img", "info", "--backing-chain", "-f", "qcow2", disk.path],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "backing file: templates/small/disk-0.qcow2" in told
    assert b"10.0.0.17/24" in Path(seed.path).read_bytes()
    assert hidden(pool / "images") == []
    row = outlast("template", "list", *at).out.splitlines()[1].split()
    assert row[:7] == ["small", "deb", "64", "MiB", "1", "1", "20"]
    kept = outlast("template", "remove", "small", *at)
    assert kept.code == 4
    assert "the template 'small' stays: web-01, web-02" in kept.err
    assert "web-08 and 12 more are linked clones of it" in kept.err
    assert outlast("image", "remove", "deb", *at).code == 0  # the template has its own names
    again = outlast("template", "deploy", "small", "web", "--count", "21", *network[4:], *at)
    assert (again.code, "20 of these VMs exist already: web-01" in again.err) == (4, True)
    more = outlast("template", "deploy", "small", "web", "--count", "21", "--missing", *at)
    assert more.out == "1 VM is made of small\n"
    for number in range(1, 22):
        assert outlast("vm", "delete", f"web-{number:02d}", "--with-disks").code == 0
    assert outlast("template", "remove", "small", *at).code == 0
    assert sorted(p.name for p in (pool / "images").iterdir()) == ["library", "templates"]


def test_a_whole_copy_needs_no_template(
    outlast: Outlast, pool: Path, small: MemoryService, tmp_path: Path
) -> None:
    at = ("--pool", str(pool), "--limit", "none")
    (tmp_path / "u.yaml").write_text("#cloud-config\npackages: [nginx]\n")
    how = ("--full", "--disk", "3MiB", "--memory", "1GiB", "--user-data", str(tmp_path / "u.yaml"))
    said = outlast("template", "deploy", "small", "db", *how, "--start", *at)
    assert (said.code, said.out) == (0, "db: it runs on a\n")
    held = small.read_vm("db")
    assert held is not None
    assert (held.value.spec.memory_mib, held.value.spec.agent_channel) == (1024, True)
    info = json.loads(
        subprocess.run(
            ["qemu-img", "info", "--output", "json", "-U", held.value.spec.disks[0].path],
            capture_output=True, check=True,
        ).stdout
    )  # fmt: skip
    assert (info["virtual-size"], "backing-filename" in info) == (3 << 20, False)
    assert outlast("template", "remove", "small", "--pool", str(pool)).code == 0


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        (["web-[1-3]", "--address", "10.0.0.[1-2]/24"], 2, "stands for 2, there are 3 VMs"),
        (["web", "--disk", "512KiB"], 2, "it cannot become smaller"),
        (["Web"], 2, "is not a usable VM name"),
        (["web", "--ssh-key", KEY, "--no-cloud-init"], 2, "leaves nobody to read keys"),
        (["web", "--address", "10.0.0.1"], 2, "has no prefix length"),
        (["old"], 4, "images/old.qcow2 exists already"),
    ],
)
def test_what_is_not_deployed_leaves_nothing(
    outlast: Outlast, pool: Path, small: MemoryService, how: list[str], code: int, words: str
) -> None:
    (pool / "images/old.qcow2").write_bytes(b"somebody's")
    said = outlast("template", "deploy", "small", *how, "--pool", str(pool))
    assert (said.code, words in said.err) == (code, True), said.err
    assert small.register.names("vm") == []
    assert sorted(p.name for p in (pool / "images").iterdir()) == [
        "library", "old.qcow2", "templates",
    ]  # fmt: skip
    assert (pool / "images/old.qcow2").read_bytes() == b"somebody's"


def test_a_shared_disk_is_no_disk_of_a_vm(
    outlast: Outlast, pool: Path, small: MemoryService
) -> None:
    path = "images/templates/small/disk-0.qcow2"
    said = outlast("vm", "create", "x", "--memory", "64MiB", "--disk", path, "--use-existing")
    assert (said.code, "no VM may write to it" in said.err) == (2, True)


DEPLOY = """
import os, sys
from pathlib import Path
from outlast.images import clones, seed
from outlast.images.templates import Templates
pool = Path(sys.argv[1])
wanted = clones.Wanted(seed=seed.Seed("web", "i"))
source = clones.of_template(pool, Templates(pool).get("small"))
with clones.files_for(pool, "web", source, wanted):
    os.kill(os.getpid(), 9)
"""


def test_killed_before_the_vm_is_written_its_disks_are_left_over(
    outlast: Outlast, pool: Path, small: MemoryService
) -> None:
    at = ("--pool", str(pool))
    images = pool / "images"
    for by_cleaning in (True, False):
        subprocess.run([sys.executable, "-c", DEPLOY, pool], check=False)
        assert (images / "web.qcow2").exists()
        assert outlast("template", "remove", "small", *at).code == 4
        if by_cleaning:
            assert "(0 MiB): left over" in outlast("image", "clean", "--dry-run", *at).out
            assert outlast("image", "clean", *at).out.endswith("deleted\n")
            assert sorted(p.name for p in images.iterdir()) == ["library", "templates"]
        else:
            assert outlast("template", "deploy", "small", "web", *at).code == 0
    assert hidden(images) == []
    # a VM that was made has its disks, whatever is left beside them
    with pytest.raises(Stay), workplace(images, "web") as place:
        os.link(images / "web.qcow2", place / "web.qcow2")
        (place / "owner.json").write_text('{"host": "", "pid": 0, "life": ""}')
        long_ago = time.time() - 3600
        os.utime(place / "owner.json", (long_ago, long_ago))
        raise Stay(OutlastError("as if it was killed"))
    assert outlast("image", "clean", *at).code == 0
    assert (images / "web.qcow2").exists()
    assert hidden(images) == []


def test_a_new_disk_that_a_killed_agent_left_is_cleaned(outlast: Outlast, pool: Path) -> None:
    left, fresh = (pool / f"images/.web.raw.{digits * 12}.part" for digits in "ab")
    others = pool / "images/.mine.part"
    for path in (left, fresh, others):
        path.write_bytes(b"x")
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    assert outlast("image", "clean", "--pool", str(pool)).out == f"{left} (0 MiB): deleted\n"
    assert sorted((pool / "images").iterdir()) == sorted([fresh, others])


def test_a_removal_that_was_killed_is_mended(
    outlast: Outlast, pool: Path, small: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pool / "images/templates/small"
    (folder / "template.json").rename(folder / ".template.json")
    assert "no templates yet" in outlast("template", "list", "--pool", str(pool)).out
    assert outlast("image", "clean", "--pool", str(pool)).code == 0  # it may be under way
    assert "no templates yet" in outlast("template", "list", "--pool", str(pool)).out
    monkeypatch.setattr("outlast.images.work.STILL_S", -1.0)  # as if it was long ago
    assert outlast("image", "clean", "--pool", str(pool)).code == 0
    assert "small" in outlast("template", "list", "--pool", str(pool)).out


def test_what_becomes_a_vms_while_it_is_cleaned_comes_back(
    pool: Path, small: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who deployed was killed just after it had asked an agent for the VM."""
    subprocess.run([sys.executable, "-c", DEPLOY, pool], check=False)
    disk = pool / "images/web.qcow2"
    inode = disk.stat().st_ino

    def meanwhile(_: float) -> None:
        assert not disk.exists()
        spec = VmSpec("web", "u", 64, 1, (Disk(str(disk), "qcow2"),))
        assert small.write_vm(0, VmRecord(spec)).ok

    monkeypatch.setattr("outlast.images.clones.time.sleep", meanwhile)
    assert [left.name for left in clones.clean(pool, pool / clones.IMAGES)] == ["web"]
    assert disk.stat().st_ino == inode
    assert not (pool / "images/web-seed.iso").exists()
    assert hidden(pool / "images") == []
