"""OCFS2 on a shared LUN: the plan, what is on a device, and a file system that is really made."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.cli.ocfs2 import _carry_out as carry_out
from outlast.cli.ocfs2 import make_over
from outlast.errors import Conflict, InvalidInput, NotFound
from outlast.mounts import device, ocfs2
from outlast.mounts.ocfs2 import Node, cluster_conf, merged, nodes_of, read

TWO = nodes_of(["a=10.0.0.1", "b=10.0.0.2"])


def test_the_clusters_file_is_what_o2cb_reads() -> None:
    text = cluster_conf(merged([], TWO, "a"))
    assert text.startswith(
        "cluster:\n\tnode_count = 2\n\tname = outlast\n\nnode:\n\tip_port = 7777\n"
    )
    assert "\tip_address = 10.0.0.2\n\tnumber = 1\n\tname = b\n\tcluster = outlast\n" in text
    assert read(text) == [Node("a", "10.0.0.1", 0), Node("b", "10.0.0.2", 1)]


def test_a_node_keeps_its_number_whatever_is_added() -> None:
    known = [Node("c", "10.0.0.3", 0), Node("b", "10.0.0.2", 5)]
    assert merged(known, TWO, "a") == [known[0], Node("a", "10.0.0.1", 1), known[1]]
    assert merged(known, [], "b") == known, "nothing is told again that is known"


def test_another_cluster_and_an_address_that_moved_are_refused() -> None:
    with pytest.raises(Conflict, match="cluster 'ocfs2' already"):
        read("cluster:\n\tnode_count = 1\n\tname = ocfs2\n")
    with pytest.raises(Conflict, match=r"has the address 10\.0\.0\.9"):
        merged([Node("a", "10.0.0.9", 0)], TWO, "a")
    assert read("") == []


@pytest.mark.parametrize("texts", [["a"], ["a=x"], ["=10.0.0.1"], ["a b=10.0.0.1"], ["a=::1"]])
def test_what_is_no_node_is_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidInput):
        nodes_of(texts)


def test_this_machine_must_be_one_of_the_nodes_and_addresses_differ() -> None:
    with pytest.raises(InvalidInput, match="none of the nodes"):
        merged([], TWO, "z")
    with pytest.raises(InvalidInput, match="same address"):
        merged([], nodes_of(["a=10.0.0.1", "b=10.0.0.1"]), "a")
    with pytest.raises(InvalidInput, match="too many"):
        merged([], nodes_of([f"n{n}=10.0.0.{n}" for n in range(33)]), "n1")


def test_other_lines_of_o2cbs_settings_stay() -> None:
    made = ocfs2.defaults("# hello\nO2CB_ENABLED=false\nX=1\nO2CB_ENABLED=false\n")
    assert made.startswith("# hello\nO2CB_ENABLED=true\nX=1\nO2CB_BOOTCLUSTER=outlast\n")
    assert ocfs2.defaults(made) == made and made.count("O2CB_ENABLED") == 1


def test_the_log_in_survives_a_boot() -> None:
    steps = ocfs2.log_in("10.0.0.9:3260", "iqn.2026-01.nas:pool")
    assert [step[-1] for step in steps] == ["10.0.0.9:3260", "automatic", "--login"]
    for portal, target in (("x y", "iqn.a"), ("-o", "iqn.a"), ("10.0.0.9", "pool")):
        with pytest.raises(InvalidInput):
            ocfs2.log_in(portal, target)


# ---- a device

pytest_rack = pytest.mark.rack


@pytest.fixture
def lun(tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "lun"
    file.touch()
    with file.open("r+b") as opened:
        opened.truncate(3 << 30)
    words = ["losetup", "--find", "--show", str(file)]
    made = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    yield made
    subprocess.run(["losetup", "--detach", made], check=True)


@pytest_rack
def test_a_file_system_is_made_and_seen(lun: str, tmp_path: Path) -> None:
    empty = device.look(lun)
    assert (empty.size_bytes, empty.signatures, empty.in_use) == (3 << 30, (), "")
    device.check_free(lun, empty)
    for words in (ocfs2.make(lun, 2, "first"), ocfs2.make(lun, 2, "pool")):  # and over it
        carry_out(words)
    found = device.look(lun)
    assert "ocfs2 'pool'" in found.sentence and found.sentence.startswith("3.0 GiB")
    device.check_free(lun, found)  # nobody has it mounted
    said = subprocess.run(
        ["debugfs.ocfs2", "-R", "stats", lun], check=True, capture_output=True, text=True
    ).stdout
    assert "Max Node Slots: 4" in said and "Label: pool" in said


@pytest_rack
@pytest.mark.parametrize(
    ("sure", "typed", "words"),
    [
        ("", None, "nobody is there to ask"),
        ("/dev/other", None, "'/dev/other' is not"),
        ("", "yes", "'yes' is not"),
        ("", "", ""),
    ],
)
def test_what_a_device_holds_is_lost_only_when_its_name_was_typed(
    lun: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, sure: str,
    typed: str | None, words: str,
) -> None:  # fmt: skip
    """typed: at a terminal; "": the device's own name."""
    subprocess.run(["mkfs.ext4", "-q", "-L", "precious", lun], check=True)
    keyboard, terminal = os.openpty()
    with open(keyboard, "wb", 0) as keys, open(terminal) as line, open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody if typed is None else line)
        keys.write(f"{typed or lun}\n".encode())
        with pytest.raises(InvalidInput, match=words) if words else contextlib.nullcontext():
            make_over(lun, ocfs2.make(lun, 2, "pool"), sure)
    told = capfd.readouterr().out
    assert "ext4 'precious'" in told, "what is on it is shown first"
    assert ("Type the device's name" in told) == (typed is not None)
    assert device.look(lun).signatures == (("ext4 'precious'" if words else "ocfs2 'pool'"),)


@pytest_rack
def test_a_device_in_use_is_left_alone(lun: str, tmp_path: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", lun], check=True)
    subprocess.run(["mount", lun, str(tmp_path)], check=True)
    try:
        found = device.look(lun)
        assert found.signatures == ("ext4",)
        with pytest.raises(Conflict, match=f"mounted at {tmp_path}"):
            device.check_free(lun, found)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_what_is_no_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no block device"):
        device.look(str(tmp_path))
    with pytest.raises(NotFound):
        device.look("/dev/none")
