"""With which options each file system is mounted, what is refused, and systemd's file for it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from outlast.errors import InvalidInput
from outlast.mounts import table
from outlast.mounts.options import KINDS, Choice, choose
from outlast.mounts.unit import MARK, check_path, of_unit, unit_name, unit_text

SOURCES = {
    "nfs": "nas:/export/pool", "nfs3": "[fe80::1]:/export", "ocfs2": "/dev/disk/by-id/lun-1",
    "gfs2": "UUID=12", "glusterfs": "a,b,c:/pool", "cephfs": "m1,m2:/volumes/pool", "dir": "",
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dir"])
@pytest.mark.parametrize("register", [True, False])
def test_every_option_has_its_reason_and_stands_once(kind: str, register: bool) -> None:
    choice = choose(kind, SOURCES[kind], register=register)
    names = [option.name for option in choice.options]
    assert len(names) == len(set(names)) and all(len(o.why) > 7 for o in choice.options)
    assert {"nodev", "nosuid"} <= set(names) and choice.advice


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("nfs", "vers=4.2,proto=tcp,hard,timeo=50,lookupcache=none,acdirmin=0,acdirmax=0"),
        ("nfs3", "vers=3,mountproto=tcp,nolock,proto=tcp,hard,timeo=50,lookupcache=none"),
        ("ocfs2", "_netdev,coherency=full,errors=remount-ro"),
        ("gfs2", "_netdev,errors=withdraw"),
        ("glusterfs", "_netdev,direct-io-mode=enable,attribute-timeout=0,entry-timeout=0"),
        ("cephfs", "_netdev,recover_session=no,mount_timeout=30"),
    ],
)
def test_what_a_pool_lives_on_hides_nothing(kind: str, needed: str) -> None:
    assert choose(kind, SOURCES[kind]).text.startswith(needed)


def test_a_repository_of_disks_may_remember_names_that_are_there() -> None:
    choice = choose("nfs", SOURCES["nfs"], register=False)
    assert "lookupcache=positive" in choice.text and "acdirmin" not in choice.text
    assert "hard" in choice.text, "a write is never given up"


def test_own_options_replace_ours() -> None:
    choice = choose("nfs", SOURCES["nfs"], ["vers=4.1", "timeo=100", "nconnect=4"])
    assert choice.text.endswith("vers=4.1,timeo=100,nconnect=4")
    assert "vers=4.2" not in choice.text and "timeo=50" not in choice.text


@pytest.mark.parametrize(
    ("kind", "option", "words"),
    [
        ("nfs", "soft", "given up"), ("nfs", "softreval", "given up"), ("nfs", "ro", "read-only"),
        ("nfs", "lookupcache=all", "see late"), ("nfs", "actimeo=3", "see late"),
        ("nfs", "fsc", "own cache"), ("ocfs2", "coherency=buffered", "overwritten"),
        ("ocfs2", "data=writeback", "never written"), ("ocfs2", "barrier=0", "power cut"),
        ("glusterfs", "entry-timeout=5", "see late"), ("nfs", "async", "acknowledged"),
        ("glusterfs", "direct-io-mode=disable", "own cache"),
        ("cephfs", "recover_session=clean", "nothing was lost"), ("nfs", "a b", "no mount option"),
        ("nfs", "x=1,soft", "no mount option"), ("dir", "ro", "has no options"),
    ],
)  # fmt: skip
def test_an_option_that_does_harm_is_refused_with_the_reason(
    kind: str, option: str, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        choose(kind, SOURCES[kind], [option])


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("nfs", "nas"), ("nfs", "/export"), ("nfs", "-o:/x"), ("nfs", "nas:/a b"), ("ocfs2", "sdb"),
        ("glusterfs", "a:volume"), ("cephfs", "x"), ("dir", "/srv"), ("cifs", "//a/b"),
        ("nfs", "nas:/a\nOptions=soft"),
    ],
)  # fmt: skip
def test_what_is_no_source_is_refused(kind: str, source: str) -> None:
    with pytest.raises(InvalidInput):
        choose(kind, source)


@pytest.mark.parametrize("path", ["srv", "/", "/srv/../etc", "/etc/x", "/srv/a b", "/srv/%n", ""])
def test_what_is_no_place_to_mount_at_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        check_path(path)


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="no systemd on this machine")
@pytest.mark.parametrize("path", ["/srv/pool", "/srv//my-pool/", "/srv/.x_y:z", "/mnt/a@b~c+d"])
def test_the_unit_is_called_as_systemd_wants_it(path: str) -> None:
    words = ["systemd-escape", "--path", "--suffix=mount", path]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    assert unit_name(path) == said


def test_the_unit_says_everything_with_its_reasons() -> None:
    choice = choose("nfs", SOURCES["nfs"])
    text = unit_text(choice, "/srv/pool", "repository/fast")
    assert (of_unit(text, "What"), of_unit(text, "Where")) == (choice.source, "/srv/pool")
    assert (of_unit(text, "Type"), of_unit(text, "Options")) == ("nfs", choice.text)
    assert of_unit(text, MARK) == "repository/fast"
    assert of_unit(text, "Before").startswith("outlast-guard.service"), "it is unmounted after it"
    assert all(f"# {option.text}: {option.why}\n" in text for option in choice.options)


@pytest.mark.parametrize(("kind", "first"), [("ocfs2", "o2cb.service"), ("gfs2", "dlm.service")])
def test_a_boot_mounts_when_the_nodes_can_agree(kind: str, first: str) -> None:
    text = unit_text(choose(kind, SOURCES[kind]), "/srv/pool", "the pool's storage")
    assert of_unit(text, "After") == of_unit(text, "Wants") == first
    assert not of_unit(unit_text(choose("nfs", SOURCES["nfs"]), "/srv/pool", "x"), "After")


# ---- what is mounted

NFS = (
    "40 25 0:44 / /srv/pool rw,nosuid,nodev,noatime shared:1 - nfs4 nas:/export/pool rw,vers=4.2,"
    "acdirmin=0,acdirmax=0,hard,proto=tcp,timeo=50,lookupcache=none\n"
)
MINE = choose("nfs", "nas:/export/pool")


def wrong(mountinfo: str, choice: Choice = MINE, path: str = "/srv/pool") -> str:
    return table.trouble(choice, path, table.read(mountinfo))


def test_the_right_mount_has_no_trouble_and_lacks_nothing() -> None:
    assert wrong(NFS) == ""
    (mount,) = table.read(NFS)
    assert table.lacking(MINE.options, mount.fs_type, mount.options) == []
    bare = NFS.replace("lookupcache=none", "lookupcache=all").replace("hard", "soft")
    (mount,) = table.read(bare)
    lacks = table.lacking(MINE.options, mount.fs_type, mount.options)
    assert lacks == ["hard", "lookupcache=none"]


def test_a_repository_is_shown_in_the_kernels_own_spelling() -> None:
    wished = choose("nfs", "nas:/export/pool", register=False).options
    shown = ("rw", "vers=4.2", "hard", "proto=tcp", "timeo=50", "lookupcache=pos")
    assert table.lacking(wished, "nfs4", shown) == []
    assert table.lacking(wished, "nfs4", shown[:-1]) == ["lookupcache=positive"]


def test_what_is_wrong_is_said() -> None:
    assert wrong("") == "nothing is mounted at /srv/pool"
    assert "nas2:/export/pool" in wrong(NFS.replace("nas:", "nas2:"))
    assert wrong(NFS.replace(" rw,nosuid", " ro,nosuid")) == "/srv/pool is read-only"
    over = NFS + "41 40 8:1 / /srv/pool rw - ext4 /dev/sda1 rw\n"
    assert wrong(over) == "/srv/pool is ext4, not nfs", "the last mount hides those below"
    assert wrong(NFS.replace("/srv/pool", "/srv/pool\\040x")) == wrong("")


def test_glusterfs_shows_one_of_its_servers() -> None:
    line = "41 40 0:50 / /srv/pool rw - fuse.glusterfs b:/pool rw,allow_other\n"
    assert wrong(line, choose("glusterfs", "a,b:/pool")) == ""
    assert "not from" in wrong(line, choose("glusterfs", "a,b:/other"))
