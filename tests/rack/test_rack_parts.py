"""Small parts of the rack that need no machine: framing, fault rules, mount lists, refusals."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.errors import InvalidInput, Unreachable
from outlast.rack import filefaults, fuse, needs, root
from outlast.rack.client import RackClient
from outlast.rack.fuse import Op
from outlast.rack.net import Fault


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 400))
def test_frames_come_out_whole_however_they_arrive(bodies: list[bytes], step: int) -> None:
    sent = [fuse.reply(n, body) for n, body in enumerate(bodies)]
    stream, frames, got = b"".join(sent), fuse.Frames(), []
    for at in range(0, len(stream), step):
        part = stream[at : at + step]
        frames.space()[: len(part)] = part
        frames.filled(len(part))
        while (frame := frames.next()) is not None:
            got.append(frame)
    assert got == sent


def test_frames_of_full_size_pass_and_nonsense_does_not() -> None:
    big = fuse.request(Op.WRITE, 1, 2, bytes(fuse.WRITE_MAX))
    frames, stream = fuse.Frames(), memoryview(big * 3)
    got = 0
    while stream:
        space = frames.space()
        count = min(len(space), len(stream), 777_777)
        space[:count] = stream[:count]
        frames.filled(count)
        stream = stream[count:]
        while (frame := frames.next()) is not None:
            assert frame == big
            got += 1
    assert got == 3
    frames.space()[:16] = b"GET / HTTP/1.1\r\n"
    frames.filled(16)
    with pytest.raises(ConnectionError):
        frames.next()
    with pytest.raises(ConnectionError):
        frames.filled(0)


def test_names_are_found_in_requests() -> None:
    assert fuse.name_in(Op.LOOKUP, b"x\0") == b"x"
    assert fuse.name_in(Op.LINK, bytes(8) + b"new\0") == b"new"
    assert fuse.name_in(Op.RENAME2, bytes(16) + b"old\0new\0") == b"old"
    assert fuse.name_in(Op.WRITE, bytes(60)) == b""
    assert fuse.name_in(4711, b"x\0") == b""


def test_rules_hit_what_they_name() -> None:
    rule = filefaults.parse(
        {"mode": "fail", "errno": "ENOSPC", "path": r"\.raw$", "ops": ["write"]}
    )
    assert rule.errno == errno.ENOSPC
    assert rule.hits(Op.WRITE, "/images/web.raw")
    assert not rule.hits(Op.READ, "/images/web.raw")
    assert not rule.hits(Op.WRITE, "/hb")
    assert filefaults.parse(rule.as_json()) == rule
    assert not filefaults.parse({"mode": "ok"}).hits(Op.WRITE, "/hb")


@pytest.mark.parametrize(
    "bad",
    [{}, {"mode": "x"}, {"mode": "hang", "ops": ["fly"]}, {"mode": "hang", "ops": "write"},
     {"mode": "fail", "errno": "EVERYTHING"}, {"mode": "slow", "ms": -1},
     {"mode": "slow", "ms": "long"}, {"mode": "hang", "path": "["}],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        filefaults.parse(bad)


def test_network_faults_as_rules() -> None:
    both = Fault("mgmt", "a", "b").rules()
    assert both == ['add rule bridge rack through iifname "a-m" oifname "b-m" counter drop']
    out = Fault("storage", "a", "", 30).rules()
    assert len(out) == 2
    assert all("numgen random mod 100 < 30" in rule and '"a-s"' in rule for rule in out)
    assert str(Fault("storage", "a", "", 30)) == "storage: a -> all loses 30 %"


def test_only_real_disks_are_laid_under_a_host() -> None:
    mounts = "proc /proc proc rw\n/dev/a / ext4 rw\ntmpfs /run tmpfs rw\n/dev/b /usr xfs rw\n"
    assert root.disk_mounts(mounts) == ["/", "/usr"]


@pytest.mark.parametrize(
    "shape", [(0, "rackfs", 0, 2.0), (27, "rackfs", 0, 2.0), (3, "nfs", 0, 2.0),
              (3, "bind", 256, 2.0), (3, "bind", 0, 0.0)],
)  # fmt: skip
def test_racks_that_cannot_be_are_refused(shape: tuple[int, str, int, float]) -> None:
    with pytest.raises(InvalidInput):
        needs.check_shape(*shape)


def test_without_a_rack_the_client_says_so(tmp_path: object) -> None:
    with pytest.raises(Unreachable, match="no rack is up") as caught:
        RackClient(f"{tmp_path}/none").status()
    assert caught.value.hint == "outlast rack up"
