"""How the demo looks: a live page on a terminal, plain lines everywhere else.

Rules:
1. A view draws what it is given and decides nothing.
2. Whatever it opens (the terminal's second screen) it closes, also after Ctrl-C.
3. Plain lines are never wrapped and hold no control characters; each begins with the seconds since
   the demo began.
"""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterable
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from outlast.rack.demo_watch import Scene, Writes
from outlast.wire.shapes import HostStatus, TimelineEntry, VmStatus

REDRAW_S = 0.2
PARAGRAPH_WIDTH = 90
INDENT = 11  # of what belongs to a line with a time
GOOD = {"member", "running"}
CALM = {"stopped", "joining", "starting", "stopping", "closed", "leaving", "-"}
NOTE_STYLES = {
    "host-silent": "red", "vm-crashed": "red", "start-failed": "red", "no-room": "red",
    "view-changed": "cyan", "member": "green", "vm-runs": "green", "lease-taken": "yellow",
}  # fmt: skip


class View(Protocol):
    """Where the demo tells what happens."""

    def text(self, paragraph: str) -> None:
        """A paragraph, outside of the show."""

    def line(self, line: str, hang: int = 0) -> None:
        """A line, outside of the show; `hang`: where it goes on if it has to be wrapped."""

    def step(self, line: str) -> None:
        """Something begins; outside of the show."""

    def open(self) -> None:
        """The show begins."""

    def act(self, title: str, headline: str, scene: Scene, picture: bool = False) -> None:
        """What is happening now, until the next act. picture: it is a moment to look around."""

    def meanwhile(self, sentences: str) -> None:
        """What the act waits for at the moment, a sentence a line."""

    def draw(self, scene: Scene) -> None:
        """Called often; the view decides whether it is time."""

    def close(self) -> None:
        """The show ends. Idempotent."""


class PlainView:
    """Lines, for a pipe and for people who want to keep them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun_wall_s = time.time()
        self._seen: set[tuple[float, str, str]] = set()
        self._said: set[str] = set()

    def text(self, paragraph: str) -> None:
        tell(self._console, paragraph)

    def line(self, line: str, hang: int = 0) -> None:
        self._console.print(line, soft_wrap=True, markup=False)

    def step(self, line: str) -> None:
        self._told(line)

    def open(self) -> None:
        pass

    def act(self, title: str, headline: str, scene: Scene, picture: bool = False) -> None:
        self.line("")
        self._told(f"{title.upper()}: {headline}")
        for line in scene_lines(scene) if picture else ():
            self.line(" " * INDENT + line)

    def meanwhile(self, sentences: str) -> None:
        for sentence in sentences.splitlines():
            kind = re.sub(r"\d", "", sentence)  # a count that goes on is no news
            if kind not in self._said:
                self._said.add(kind)
                self._told(f"    ({sentence})")

    def draw(self, scene: Scene) -> None:
        for note in scene.notes:
            key = (note.wall_s, note.host, note.sentence)
            if key not in self._seen:
                self._seen.add(key)
                self._told(f"    {note.host}: {note.sentence}", note.wall_s)

    def close(self) -> None:
        pass

    def _told(self, line: str, wall_s: float | None = None) -> None:
        """A line with its time; a note's own, though it may be a little late."""
        at_s = (time.time() if wall_s is None else wall_s) - self._begun_wall_s
        self.line(f"{at_s:7.1f} s  {line}")


class LiveView:
    """A page that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._begun_s = time.monotonic()
        self._drawn_s = 0.0
        self._title = self._headline = self._meanwhile = ""

    def text(self, paragraph: str) -> None:
        tell(self._console, paragraph)

    def line(self, line: str, hang: int = 0) -> None:
        width = max(self._console.width, 2 * hang + 20)
        filled = textwrap.fill(line, width, subsequent_indent=" " * hang, drop_whitespace=True)
        self._console.print(filled or " ", soft_wrap=True, markup=False)

    def step(self, line: str) -> None:
        passed_s = time.monotonic() - self._begun_s
        self._console.print(Text.assemble((f"{passed_s:7.1f} s  ", "dim"), line))

    def open(self) -> None:
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._live.start()

    def act(self, title: str, headline: str, scene: Scene, picture: bool = False) -> None:
        self._title, self._headline, self._meanwhile = title, headline, ""
        self._drawn_s = 0.0
        self.draw(scene)

    def meanwhile(self, sentences: str) -> None:
        self._meanwhile = sentences

    def draw(self, scene: Scene) -> None:
        now_s = time.monotonic()
        if self._live is None or now_s < self._drawn_s + REDRAW_S:
            return
        self._drawn_s = now_s
        self._live.update(self.page(scene), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def page(self, scene: Scene) -> RenderableType:
        """The whole screen."""
        passed_s = time.monotonic() - self._begun_s
        head = Text.assemble(
            ("Outlast", "bold"), f" {passed_s:6.1f} s", ("    Ctrl-C takes everything down", "dim")
        )
        said = Text(self._headline)
        if self._meanwhile:
            said.append(f"\n{self._meanwhile}", style="yellow")
        panel = Panel(said, title=Text(self._title, style="bold"), title_align="left")
        hosts, vms, blank = hosts_table(scene), vms_table(scene), Text("")
        parts: list[RenderableType] = [head, panel, blank, hosts, blank, vms, blank]
        lines = sum(len(self._console.render_lines(part)) for part in parts)
        parts += [note_line(n, self._console.width) for n in newest(scene, self._room(lines))]
        return Group(*parts)

    def _room(self, lines: int) -> int:
        return max(self._console.height - lines, 0)


def newest(scene: Scene, count: int) -> tuple[TimelineEntry, ...]:
    return scene.notes[-count:] if count else ()


def tell(console: Console, paragraph: str) -> None:
    """Print a paragraph, or lines that are indented already, not wider than people like to read."""
    width = min(console.width, PARAGRAPH_WIDTH)
    for line in paragraph.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        hanging = indent + ("   " if line.lstrip()[:2] in ("1.", "2.", "3.") else "")
        filled = textwrap.fill(line, width, subsequent_indent=hanging) if line else ""
        console.print(filled, soft_wrap=True, markup=False, highlight=False)


def hosts_table(scene: Scene) -> Table:
    return _table(scene, HOST_COLUMNS, host_rows(scene))


def vms_table(scene: Scene) -> Table:
    return _table(scene, VM_COLUMNS, vm_rows(scene))


HOST_COLUMNS = ("HOST", "STATE", "LAST BEAT", "HEARS", "VMS", "MAY RUN VMS FOR")
VM_COLUMNS = ("VM", "STATE", "HOST", "SINCE", "BOOTS", "SIGNED")


def host_rows(scene: Scene) -> list[tuple[str, ...]]:
    return [_host_row(scene, host) for host in (scene.status.hosts if scene.status else [])]


def vm_rows(scene: Scene) -> list[tuple[str, ...]]:
    return [_vm_row(scene, vm) for vm in (scene.status.vms if scene.status else [])]


def _host_row(scene: Scene, host: HostStatus) -> tuple[str, ...]:
    dark = host.name in scene.dark
    guard = scene.guards.get(host.name)
    runs = "-"
    if guard is not None and not dark:
        runs = f"{guard.left_ms / 1000:.1f} s" if guard.state == "open" else guard.state
    age_s = scene.beat_age_s(host)
    beat = "-" if age_s is None else f"{age_s:.1f} s ago"
    state = f"{host.state}, master" if host.master else host.state
    hears = " ".join(host.hears)
    count = "-" if host.vm_count is None or dark else str(host.vm_count)
    return (
        host.name, f"{state} (no power)" if dark else state, beat,
        "-" if dark or not hears else hears, count, runs,
    )  # fmt: skip


def _vm_row(scene: Scene, vm: VmStatus) -> tuple[str, ...]:
    writes = scene.writes.get(vm.name, Writes())
    since = "-"
    if vm.since_wall_s is not None:
        since = f"{max(scene.wall_s - vm.since_wall_s, 0):.0f} s"
    signed = "-" if writes.newest is None else f"record {writes.newest:,}"
    return vm.name, vm.state, vm.host or "-", since, str(writes.boots), signed


def _table(scene: Scene, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for name, state, *rest in rows:
        table.add_row(name, Text(state, style=state_style(state)), *rest)
    return table


def state_style(state: str) -> str:
    word = state.partition(",")[0].partition(" ")[0]
    if word in GOOD:
        return "green"
    return "yellow" if word in CALM else "red"


def scene_lines(scene: Scene) -> list[str]:
    """Hosts and VMs as plain columns."""
    lines: list[str] = []
    for columns, rows in ((HOST_COLUMNS, host_rows(scene)), (VM_COLUMNS, vm_rows(scene))):
        lines += columned([tuple(c.lower() for c in columns), *rows])
    return lines


def columned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of one width a column."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]


def note_line(note: TimelineEntry, width: int) -> Text:
    local = time.strftime("%H:%M:%S", time.localtime(note.wall_s))
    line = Text.assemble(
        (f"{local}.{int(note.wall_s % 1 * 10)}  ", "dim"), (f"{note.host}  ", "bold"),
        (note.sentence, NOTE_STYLES.get(note.code, "")),
    )  # fmt: skip
    line.truncate(width, overflow="ellipsis")
    return line
