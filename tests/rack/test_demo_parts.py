"""What the demo reads and draws, on things made by hand."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from outlast.rack import ledger
from outlast.rack.demo_report import Blow, Return, conclusion, measured_lines, timeline
from outlast.rack.demo_view import LiveView, PlainView
from outlast.rack.demo_watch import Guard, Journals, Scene, SerialLog, Writes
from outlast.wire.shapes import HostStatus, PoolStatus, TimelineEntry, VmStatus

NOW = 1_800_000_000.0
HOSTS = [
    HostStatus(name="a", slot=1, state="member", sentence="", master=True, answering=True,
               beat_age_ms=120, hears=["b"], vm_count=1),
    HostStatus(name="b", slot=2, state="silent", sentence="", beat_age_ms=1500, vm_count=3),
]  # fmt: skip
VMS = [
    VmStatus(name="vm1", uuid="u", state="running", sentence="", desired="running", host="a",
             since_wall_s=NOW - 7, memory_mib=8, vcpus=1, ha=True),
    VmStatus(name="vm2", uuid="v", state="waiting", sentence="", desired="running",
             memory_mib=8, vcpus=1, ha=True),
]  # fmt: skip
STATUS = PoolStatus(
    name="p", uuid="u", preset="lab", answered_by="a", sentence="", hosts=HOSTS, vms=VMS
)
SOUND = ledger.Verdict(100, 10, (), 10, 0, ())
TWICE = ledger.Verdict(
    100, 10, (), 10, 0, (ledger.Problem(ledger.Fault.WRITERS, "TWO WRITERS: x and y"),)
)


def note(second: float, code: str, sentence: str, **fields: object) -> TimelineEntry:
    return TimelineEntry(wall_s=NOW + second, host="a", code=code, sentence=sentence, fields=fields)


def scene(notes: int = 0) -> Scene:
    told = tuple(note(n, "vm-runs", f"note {n}") for n in range(notes))
    writes = {"vm1": Writes(2, 1234), "vm2": Writes(1, 9)}
    return Scene(NOW, STATUS, 0.5, {"a": Guard("open", 1080)}, writes, told, frozenset({"b"}))


def screen(width: int, height: int, given: Scene) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True)
    view = LiveView(console)
    view.act("A title", "Something happens to b.", given)
    lines = console.render_lines(view.page(given), pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


def test_the_page_shows_hosts_and_vms() -> None:
    text = "\n".join(screen(100, 40, scene(3)))
    for words in (
        *("A title", "Something happens to b.", "member, master", "0.1 s ago", "1.1 s"),
        *("silent (no power)", "2.0 s ago", "record 1,234", "waiting", "note 2"),
    ):
        assert words in text, text


def test_the_page_fits_on_a_small_screen_with_the_newest_notes() -> None:
    lines = screen(80, 24, scene(60))
    assert len(lines) <= 24
    assert "note 59" in lines[-1]


def test_plain_lines_say_each_thing_once() -> None:
    out = io.StringIO()
    view = PlainView(Console(file=out, width=60))
    for _ in range(3):
        view.draw(scene(2))
        view.meanwhile("the heartbeat of b has stood still for 1.2 s")
        view.meanwhile("the heartbeat of b has stood still for 1.4 s")
    view.act("one", "A headline that is longer than the line of this narrow terminal", scene())
    view.act("two", "Look around", scene(), picture=True)
    lines = out.getvalue().splitlines()
    assert [sum(words in line for line in lines) for words in
            ("note 0", "note 1", "stood still", "narrow terminal")] == [1, 1, 1, 1]  # fmt: skip
    assert sum("record 1,234" in line for line in lines) == 1, "a picture when it was asked for"
    assert "\x1b" not in out.getvalue()


def test_a_serial_log_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "vm.log"
    log = SerialLog(path)
    log.look()
    assert (log.boots, log.last) == (0, None)
    path.write_text("BOOT 00112233445566aa pulsar\nW 00112233445566aa 7 90 1234")
    log.look()
    assert (log.boots, log.last) == (1, None), "half a line says nothing yet"
    with path.open("a") as file:
        file.write("abcd\n")
    log.look()
    assert log.last is not None and log.last.seq == 7
    since_s = log.last.at_s
    with path.open("a") as file:
        file.write("W 00112233445566aa 8 90 0234abcd\n")
    log.look()
    assert log.again(since_s) is None, "the same boot goes on"
    with path.open("a") as file:
        file.write("W 00112233445566aa 9 9BOOT 99112233445566aa pulsar\n# W 99112233445566aa 10 9 ")
        file.write("0234abcd\nW 99112233445566aa 11 9 0234abcd\n")
    log.look()
    again = log.again(since_s)
    assert again is not None and again.seq == 10
    assert (log.boots, log.last.seq) == (2, 11)


def test_a_view_is_told_once_and_torn_notes_never(tmp_path: Path) -> None:
    journals = Journals(tmp_path)
    one = note(2, "view-changed", "view 4 is a", view=4).model_dump_json()
    two = note(1, "member", "a is a member").model_dump_json()
    (tmp_path / "1.jsonl").write_text(f"{one}\n")
    (tmp_path / "2.jsonl").write_text(f"{two}\n{one[:20]}\n{one}\n")
    journals.look()
    journals.look()
    assert [n.sentence for n in journals.notes()] == ["a is a member", "view 4 is a"]


def test_the_timeline_of_a_blow() -> None:
    blow = Blow("power cut", "the power of b is cut", NOW, "b", over_wall_s=NOW + 9)
    blow.returns.append(Return("vm2", "a", 4.25, 9, 11, NOW + 4.25))
    notes = [
        note(-1, "host-silent", "before it"),
        note(3, "order-given", "a shall run vm2", vm="vm2"),
        note(3.1, "vm-starts", "said already", vm="vm2"),
        note(4, "vm-runs", "another VM", vm="vm7"),
        note(3.2, "link-down", "not told"),
        note(10, "member", "after it"),
    ]
    assert timeline(blow, notes) == [
        "  +0.00 s  >>  the power of b is cut",
        "  +3.00 s  a   a shall run vm2",
        "  +4.25 s  >>  vm2 signs its disk again: record 11, after 9",
    ]
    assert measured_lines([blow]) == ["power cut  vm2 runs again on a  4.2 s"]


def test_the_conclusion_is_never_kinder_than_the_ledger() -> None:
    assert conclusion({"vm1": SOUND}, [], {})[0].startswith("Sound: 1 VM, ")
    bad = "\n".join(conclusion({"vm1": SOUND, "vm2": TWICE}, [], {}))
    assert bad.startswith("NOT SOUND") and "TWO WRITERS on vm2" in bad
    assert "vm1 (2 times)" in "\n".join(conclusion({"vm1": SOUND}, [], {"vm1": 2}))
