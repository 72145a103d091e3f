"""Imports from files: formats, bad images, kills at any byte, limits."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import image_files as make
import pytest

from outlast.errors import Conflict, InvalidInput, NotFound, OutlastError
from outlast.images import qemu_img, work
from outlast.images.clean import clean, found
from outlast.images.library import Library
from outlast.images.pace import Pace

FAST = 0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("raw", []),
        ("qcow2", []),
        ("qcow2", ["-c"]),
        ("vmdk", []),
        ("vmdk", ["-o", "subformat=streamOptimized"]),
    ],
)
def test_an_image_of_each_format_becomes_the_same_disk(
    pool_dir: Path, tmp_path: Path, kind: str, options: list[str]
) -> None:
    disk = make.raw(tmp_path / "disk.img")
    source = disk if kind == "raw" else make.as_kind(disk, kind, *options)
    library = Library(pool_dir)
    seen: list[str] = []
    image = library.take(
        "web", str(source), rate_bytes_s=FAST, progress=lambda what, _done, _all: seen.append(what)
    )
    assert library.all() == [image] == [library.get("web")]
    assert image.kind == kind
    assert image.virtual_bytes == 1 << 20
    assert image.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    (file,) = library.files(image)
    assert make.same_disk(disk, "raw", file, "qcow2")
    assert file.stat().st_mode & 0o777 == 0o444
    assert make.hidden(pool_dir) == []
    assert {"checking", "converting"} <= set(seen)


def test_an_ova_brings_its_disks_in_the_order_of_its_description(
    pool_dir: Path, tmp_path: Path
) -> None:
    disks = [make.raw(tmp_path / f"d{n}.img", n + 1) for n in range(2)]
    vmdks = [make.as_kind(d, "vmdk", "-o", "subformat=streamOptimized") for d in disks]
    library = Library(pool_dir)
    image = library.take("pair", str(make.ova(tmp_path / "x.ova", vmdks)), rate_bytes_s=FAST)
    assert [d.virtual_bytes for d in image.disks] == [1 << 20, 2 << 20]
    for disk, file in zip(disks, library.files(image), strict=True):
        assert make.same_disk(disk, "raw", file, "qcow2")


def test_exported_it_is_the_same_disk_and_no_file_is_overwritten(
    pool_dir: Path, tmp_path: Path
) -> None:
    disk = make.raw(tmp_path / "disk.img")
    library = Library(pool_dir)
    library.take("web", str(disk), rate_bytes_s=FAST)
    (made,) = library.export("web", tmp_path / "out.vmdk", "vmdk", rate_bytes_s=FAST)
    assert make.same_disk(disk, "raw", made, "vmdk")
    with pytest.raises(Conflict, match="exists already"):
        library.export("web", tmp_path / "out.vmdk", "vmdk")
    library.remove("web")
    assert library.all() == []
    assert make.hidden(pool_dir) == []
    with pytest.raises(NotFound, match="no image 'web'"):
        library.remove("web")


# ---- what is not taken


def backing(folder: Path) -> Path:
    make.qemu_img(
        "create", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", folder / "b", 1024
    )
    return folder / "b"


def data_file(folder: Path) -> Path:
    make.qemu_img("create", "-f", "qcow2", "-o", f"data_file={folder}/out.raw", folder / "d", "1M")
    return folder / "d"


def json_backing(folder: Path) -> Path:
    name = 'json:{"driver":"file","filename":"/etc/shadow"}'
    make.qemu_img("create", "-f", "qcow2", "-u", "-b", name, "-F", "raw", folder / "j", 1024)
    return folder / "j"


def flat_vmdk(folder: Path) -> Path:
    make.qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", folder / "f.vmdk", "1M")
    return folder / "f.vmdk"


def vmdk_without_a_disk_of_its_own(folder: Path) -> Path:
    path = make.as_kind(make.raw(folder / "e.img"), "vmdk")
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 12, 0)
    path.write_bytes(data)
    return path


def vmdk_with_a_parent(folder: Path) -> Path:
    path = make.as_kind(make.raw(folder / "p.img"), "vmdk")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"parentCID=ffffffff", b"parentCID=12345678", 1))
    return path


def huge(folder: Path) -> Path:
    path = make.as_kind(make.raw(folder / "h.img"), "qcow2")
    data = bytearray(path.read_bytes())
    struct.pack_into(">Q", data, 24, 1 << 62)
    path.write_bytes(data)
    return path


def cut_off(folder: Path) -> Path:
    path = make.as_kind(make.raw(folder / "c.img"), "vmdk", "-o", "subformat=streamOptimized")
    os.truncate(path, path.stat().st_size // 2)
    return path


def written(name: str, data: bytes):  # type: ignore[no-untyped-def]
    def wrote(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return wrote


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def bomb(folder: Path) -> Path:
    text = '<!DOCTYPE x [<!ENTITY a "aaaa">]><Envelope>&a;</Envelope>'
    return make.ova(folder / "bomb.ova", [], text=text)


def ova_with_a_link(folder: Path) -> Path:
    import tarfile

    text = make.OVF.format(
        files='<File ovf:id="f" ovf:href="disk.vmdk"/>', disks='<Disk ovf:fileRef="f"/>'
    )
    path = make.ova(folder / "link.ova", [], text=text)
    with tarfile.open(path, "a") as tar:
        about = tarfile.TarInfo("disk.vmdk")
        about.type, about.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(about)
    return path


def damaged_ova(folder: Path) -> Path:
    path = make.ova(folder / "dam.ova", [make.as_kind(make.raw(folder / "m.img"), "vmdk")])
    data = bytearray(path.read_bytes())
    at = data.index(make.CONTENT[:64])
    data[at] ^= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (backing, "only what changed against another image"),
        (json_backing, "only what changed against another image"),
        (data_file, "its disk is in another file"),
        (flat_vmdk, "the disk itself is in other files"),
        (vmdk_without_a_disk_of_its_own, "its disk is in other files"),
        (vmdk_with_a_parent, "not taken|only what changed"),
        (huge, "cannot be|h.qcow2"),
        (cut_off, "c.vmdk"),
        (pipe, "no ordinary file"),
        (written("e", b""), "is empty"),
        (written("z", b"\x1f\x8b" + b"x" * 99), "is packed"),
        (written("w", b"<!DOCTYPE html><p>404"), "page of the web"),
        (written("v", b"vhdxfile" + b"x" * 99), "format that is not taken"),
        (written("q", b"QFI\xfb\0\0\0\3"), "is cut off"),
        (bomb, "could expand without end"),
        (ova_with_a_link, "'disk.vmdk' is not in it"),
        (damaged_ova, "checksum is another one"),
    ],
)
def test_a_bad_image_is_refused_in_words_and_leaves_nothing(
    pool_dir: Path,
    tmp_path: Path,
    bad,
    words: str,  # type: ignore[no-untyped-def]
) -> None:
    path = bad(tmp_path)
    with pytest.raises(InvalidInput, match=words):
        Library(pool_dir).take("bad", str(path), rate_bytes_s=FAST)
    assert Library(pool_dir).all() == []
    assert make.hidden(pool_dir) == []


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ('json:{"driver":"nbd","host":"h"}', InvalidInput),
        ("nbd:127.0.0.1:1", InvalidInput),
        ("/no/such/file", NotFound),
        ("http://h.example/x.qcow2", InvalidInput),
        ("https://user:secret@h.example/x", InvalidInput),
        ("https://", InvalidInput),
    ],
)
def test_a_source_that_is_none(pool_dir: Path, source: str, kind: type[OutlastError]) -> None:
    with pytest.raises(kind):
        Library(pool_dir).take("bad", source)


def test_a_checksum_that_is_another_one(pool_dir: Path, tmp_path: Path) -> None:
    disk = make.raw(tmp_path / "disk.img")
    with pytest.raises(InvalidInput, match="hex digits"):
        Library(pool_dir).take("web", str(disk), sha256="12")
    with pytest.raises(InvalidInput, match="not 0000"):
        Library(pool_dir).take("web", str(disk), sha256="0" * 64, rate_bytes_s=FAST)
    assert Library(pool_dir).all() == []


# ---- trouble


IMPORT = """
import sys
from pathlib import Path
from outlast.images.library import Library
Library(Path(sys.argv[1])).take("web", sys.argv[2], rate_bytes_s=8 << 20)
"""


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(true, what: str, limit_s: float = 20):  # type: ignore[no-untyped-def]
    until = time.monotonic() + limit_s
    while not (found := true()):
        assert time.monotonic() < until, what
        time.sleep(0.01)
    return found


def test_killed_at_any_moment_nothing_is_seen_and_a_second_try_works(
    pool_dir: Path, tmp_path: Path
) -> None:
    disk = make.raw(tmp_path / "disk.img", 4)
    chance = random.Random(8)
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", IMPORT, pool_dir, disk])
        wait_until(lambda: (pool_dir / "images/library").exists(), "it did not begin")
        time.sleep(chance.uniform(0, 0.9))  # anywhere in its second or so
        process.kill()
        process.wait()
        assert all(image.name == "web" for image in Library(pool_dir).all())
        if Library(pool_dir).all():  # it was faster
            Library(pool_dir).remove("web")
    assert [left.alive for left in found(pool_dir)] == [""] * len(found(pool_dir))
    image = Library(pool_dir).take("web", str(disk), rate_bytes_s=FAST)
    assert make.same_disk(disk, "raw", Library(pool_dir).files(image)[0], "qcow2")
    clean(pool_dir)
    assert make.hidden(pool_dir) == []


def test_the_copy_runs_gently_and_dies_with_its_master(pool_dir: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(os.urandom(16 << 20))
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", IMPORT, pool_dir, disk])

    def copying() -> int:
        for child in children(process.pid):
            line = [b""]
            with contextlib.suppress(OSError):  # it only looked at a file, and has ended
                line = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if line[0] == b"qemu-img" and b"convert" in line:
                return child
        return 0

    child = wait_until(copying, "no qemu-img was started")
    line = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
    assert line[line.index(b"-r") + 1] == str(8 << 20).encode()
    assert line[line.index(b"-t") + 1] == b"none"
    assert Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[16] == "19"
    idle = subprocess.run(["ionice", "-p", str(child)], capture_output=True, text=True, check=True)
    assert idle.stdout.strip() == "idle"
    # reading it for the checksum alone takes 16 MiB at 8 MiB/s
    assert time.monotonic() - began > 1.5
    seen = found(pool_dir)
    assert [(left.name, left.alive.split()[1]) for left in seen] == [("web", str(process.pid))]
    with pytest.raises(Conflict, match="is being imported already"):
        Library(pool_dir).take("web", str(disk))
    assert clean(pool_dir) == []
    process.kill()
    process.wait()
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "qemu-img outlived its master")
    assert len(clean(pool_dir)) == 1


def test_qemu_img_itself_keeps_to_the_limit(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(os.urandom(4 << 20))
    began = time.monotonic()
    qemu_img.convert(disk, "raw", tmp_path / "o.qcow2", "qcow2", 2 << 20, lambda _: None)
    assert time.monotonic() - began > 0.9


def test_the_pace_of_reads_is_kept_and_pauses_give_no_credit() -> None:
    now, slept = [0.0], [0.0]

    def sleep(seconds: float) -> None:
        slept[0] += seconds
        now[0] += seconds

    pace = Pace(100, lambda: now[0], sleep)
    for _ in range(10):
        pace.took(50)
    assert slept[0] == pytest.approx(5)
    now[0] += 1000
    for _ in range(10):
        pace.took(50)
    assert slept[0] == pytest.approx(10)


def test_what_another_host_left_is_left_over_once_it_is_still(pool_dir: Path) -> None:
    folder = pool_dir / "images/library"
    with work.workplace(folder, "web") as place:
        owner = place / work.OWNER
        owner.write_text(json.dumps({"host": "elsewhere", "pid": 1, "life": "x"}))
        assert [left.alive for left in work.leftovers(folder)] == ["process 1 on elsewhere"]
        long_ago = time.time() - work.STILL_S - 1
        os.utime(owner, (long_ago, long_ago))
        assert [left.alive for left in work.leftovers(folder)] == [""]
        owner.unlink()
        assert work.leftovers(folder)[0].alive == "somebody who has just begun"


def test_two_who_import_the_same_name_at_once(pool_dir: Path, tmp_path: Path) -> None:
    library = Library(pool_dir)
    with work.workplace(library.folder, "web") as place:
        (place / "made").mkdir()
        (place / "made/image.json").write_text("{}")
        target = library.folder / "web"
        target.mkdir()
        (target / "image.json").write_text("first")
        with pytest.raises(Conflict, match="'web' already"):
            work.publish(place, target)
        assert (target / "image.json").read_text() == "first"
