"""Golden text: what people see, at a fixed width."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from outlast.cli.render import age_text, choice_lines, hosts_table, status_view, vm_view, vms_table
from outlast.wire.shapes import (
    DiskInfo,
    HostStatus,
    PoolStatus,
    TimelineEntry,
    VmDetail,
    VmStatus,
)

NOW = 1_800_000_000.0
HOSTS = [
    HostStatus(
        name="a", slot=1, state="member", sentence="a is a member", answering=True, master=True,
        beat_age_ms=1200, hears=["b"], unheard=["c"], free_mib=4096, vm_count=1, guard="open",
        deadline_ms=38800, cores=16, busy_cores=4.0,
    ),
    HostStatus(
        name="b", slot=2, state="member", sentence="b is a member", beat_age_ms=900,
        hears=["a", "c"], free_mib=2000, vm_count=0, lacks=["network br1: it is down"],
    ),
    HostStatus(
        name="c", slot=3, state="silent", beat_age_ms=20400,
        sentence="c is silent for 20.0 s; it counts as dead after 60 s, 40.0 s from now",
    ),
]  # fmt: skip
VMS = [
    VmStatus(
        name="db", uuid="u", state="waiting", desired="running", memory_mib=8192, vcpus=4, ha=True,
        sentence="no host can take it: a has 4096 MiB free of the 8192 MiB needed",
    ),
    VmStatus(
        name="web", uuid="u", state="running", desired="running", host="a", memory_mib=512,
        vcpus=1, ha=False, sentence="it runs on a", since_wall_s=NOW - 7500, epoch=3,
    ),
]  # fmt: skip


def text(view: RenderableType, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def test_hosts() -> None:
    assert (
        text(hosts_table(HOSTS))
        == """\
SLOT  HOST        STATE   BEAT    VMS  FREE MIB  CPU  HEARS  WHAT
1     a (master)  member  1.2 s   1    4096      25%  b !c   a is a member; its guard \
holds for 38.8 s
2     b           member  0.9 s   0    2000      -    a c    b is a member; it lacks \
network br1: it is down
3     c           silent  20.4 s  -    -         -    -      c is silent for 20.0 s; it \
counts as dead after 60 s, 40.0 s from now"""
    )


def test_vms() -> None:
    assert (
        text(vms_table(VMS, NOW))
        == """\
VM   STATE    HOST  SINCE      MIB   VCPUS  HA   WHAT
db   waiting  -     -          8192  4      yes  no host can take it: a has 4096 MiB free of the \
8192 MiB needed
web  running  a     2 h 5 min  512   1      no   it runs on a"""
    )


def test_what_a_host_had_to_offer_is_never_less_than_nothing() -> None:
    offer = {"host": "a", "score": -0.1, "memory": 0.8, "cpu": -0.13, "vcpus": 0.5, "wishes": -1.0}
    entry = TimelineEntry(
        wall_s=1, host="a", code="order-given", sentence="s", fields={"candidates": [offer]}
    )
    assert choice_lines(entry) == [
        "a -0.10: free memory 80%, CPU 0%, vCPUs 50%, 1 of its wishes not met"
    ]


def test_long_sentences_are_folded_not_cut() -> None:
    header, *lines = text(vms_table(VMS[:1], NOW), width=80).splitlines()
    assert len(lines) > 1
    last = header.index("WHAT")
    assert "".join(line[last:].ljust(80 - last) for line in lines).split() == (
        VMS[0].sentence.split()
    )


def test_a_whole_pool() -> None:
    status = PoolStatus(
        name="lab", uuid="u", preset="standard", answered_by="a", view=7, master="a",
        sentence="a is a member of view 7; master is a; 1 VM here", hosts=HOSTS, vms=VMS,
    )  # fmt: skip
    lines = text(status_view(status, NOW)).splitlines()
    assert lines[0] == "pool lab (standard), as a sees it: view 7, master a"
    assert lines[1] == "a is a member of view 7; master is a; 1 VM here"
    first_words = [line.split()[0] for line in lines[2:] if line]
    assert first_words == ["SLOT", "1", "2", "3", "VM", "db", "web"]


def test_a_pool_that_is_not_seen() -> None:
    status = PoolStatus(
        name="lab", uuid="u", preset="lab", answered_by="a", sentence="a sees nothing",
        trouble="the pulse of this host has not been heard yet",
    )  # fmt: skip
    assert (
        text(status_view(status, NOW))
        == """\
pool lab (lab), as a sees it: no view yet
a sees nothing
trouble: the pulse of this host has not been heard yet"""
    )


def test_one_vm() -> None:
    detail = VmDetail(
        **VMS[1].model_dump(exclude={"disks", "preferred"}),
        disks=[DiskInfo(path="/srv/pool/images/web.raw", format="raw", bus="virtio")],
        preferred=["a", "b"],
        recent=[TimelineEntry(wall_s=NOW, host="a", code="vm-runs", sentence="web runs on a")],
    )
    lines = text(vm_view(detail, NOW)).splitlines()
    assert lines[:10] == [
        "VM web",
        "state      running, for 2 h 5 min",
        "why        it runs on a",
        "wished     running, not highly available",
        "host       a",
        "preferred  a, b",
        "memory     512 MiB",
        "vcpus      1",
        "disk 1     /srv/pool/images/web.raw (raw, virtio)",
        "uuid       u",
    ]
    assert lines[-1].endswith("  a            web runs on a")


def test_names_with_brackets_are_no_markup() -> None:
    vm = VMS[0].model_copy(update={"sentence": "[red]x[/red] [/]"})
    assert "[red]x[/red] [/]" in text(vms_table([vm], NOW))


def test_ages() -> None:
    assert [age_text(s) for s in (-3, 0, 59.9, 60, 3599, 3600, 90061)] == [
        "0 s", "0 s", "59 s", "1 min", "59 min", "1 h 0 min", "1 d 1 h",
    ]  # fmt: skip
