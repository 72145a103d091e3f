"""Answers as tables and lines for people. Values in, Rich renderables out; nothing is printed here.

Rules: a column that nobody filled is left out of what a person must read only if it is always
empty; "-" means not known or nothing; sentences are last, for they may be long.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from outlast.wire.shapes import (
    HaOffInfo,
    HostStatus,
    PoolStatus,
    TimelineEntry,
    VmDetail,
    VmStatus,
)
from outlast.wire.why import Why

_COLOURS = {
    "running": "green",
    "member": "green",
    "stopped": "dim",
    "closed": "dim",
    "starting": "yellow",
    "stopping": "yellow",
    "joining": "yellow",
    "closing": "yellow",
    "waiting": "red",
    "down": "red",
    "silent": "red",
    "unreachable": "red",
    "unreadable": "red",
}


def status_view(status: PoolStatus, now_s: float) -> RenderableType:
    """The whole pool on one page."""
    master = status.master or "nobody"
    head = Text(f"pool {status.name} ({status.preset}), as {status.answered_by} sees it: ")
    head.append(f"view {status.view}, master {master}" if status.view else "no view yet")
    parts: list[RenderableType] = [head, Text(status.sentence)]
    if status.ha_off:
        parts.append(Text(f"HA of the pool is {off_text(status.ha_off)}", style="yellow"))
    if status.trouble:
        parts.append(Text(f"trouble: {status.trouble}", style="red"))
    if status.hosts:
        parts += [Text(""), hosts_table(status.hosts)]
    if status.vms:
        parts += [Text(""), vms_table(status.vms, now_s)]
    elif not status.trouble:
        parts += [Text(""), Text("no VMs yet; see 'outlast vm create --help'")]
    return Group(*parts)


def off_text(off: HaOffInfo) -> str:
    """off by anna until 14:00: why"""
    by = f" by {off.by}" if off.by else ""
    until = ""
    if off.until_wall_s:
        local = datetime.fromtimestamp(off.until_wall_s, UTC).astimezone()
        until = f" until {local:%Y-%m-%d %H:%M}"
    return f"off{by}{until}" + (f": {off.why}" if off.why else "")


def hosts_table(hosts: Iterable[HostStatus]) -> Table:
    table = _table("SLOT", "HOST", "STATE", "BEAT", "VMS", "FREE MIB", "CPU", "HEARS", "WHAT")
    for host in hosts:
        name = host.name + (" (master)" if host.master else "")
        beat = "-" if host.beat_age_ms is None else f"{host.beat_age_ms / 1000:.1f} s"
        hears = " ".join(host.hears) or "-"
        hears += "".join(f" !{name}" for name in host.unheard)
        sentence = host.sentence
        if host.maintenance:
            sentence += f"; in maintenance: {host.maintenance}"
        sentence += "".join(f"; it lacks {lack}" for lack in host.lacks)
        if host.deadline_ms is not None:
            sentence += f"; its guard holds for {host.deadline_ms / 1000:.1f} s"
        table.add_row(
            str(host.slot), name, _state(host.state), beat, _known(host.vm_count),
            _known(host.free_mib), _busy(host), hears, Text(sentence),
        )  # fmt: skip
    return table


def vms_table(vms: Iterable[VmStatus], now_s: float) -> Table:
    table = _table("VM", "STATE", "HOST", "SINCE", "MIB", "VCPUS", "HA", "WHAT")
    for vm in vms:
        since = "-" if vm.since_wall_s is None else age_text(now_s - vm.since_wall_s)
        table.add_row(
            vm.name, _state(vm.state), vm.host or "-", since, str(vm.memory_mib), str(vm.vcpus),
            "off" if vm.ha_off else "yes" if vm.ha else "no", Text(vm.sentence),
        )  # fmt: skip
    return table


def vm_view(vm: VmDetail, now_s: float) -> RenderableType:
    """One VM with all that is known of it."""
    since = "" if vm.since_wall_s is None else f", for {age_text(now_s - vm.since_wall_s)}"
    rows: list[tuple[str, str]] = [
        ("state", f"{vm.state}{since}"),
        ("why", vm.sentence),
        ("wished", vm.desired + ("" if vm.ha else ", not highly available")),
        ("HA", off_text(vm.ha_off) if vm.ha_off else ""),
        ("host", vm.host or "-"),
        ("preferred", ", ".join(vm.preferred) or "any host"),
        ("memory", f"{vm.memory_mib} MiB"),
        ("vcpus", str(vm.vcpus) + _busy_cores(vm.busy_cores)),
        ("starts", _starts(vm)),
        ("likes", ", ".join(vm.likes)),
        ("groups", ", ".join(vm.groups)),
        *((f"disk {n}", f"{d.path} ({d.format}, {d.bus})") for n, d in enumerate(vm.disks, 1)),
        *((f"network {n}", name) for n, name in enumerate(vm.networks, 1)),
        ("hardware", ", ".join(vm.hardware)),
        ("kernel", vm.kernel),
        ("initrd", vm.initrd),
        ("cmdline", vm.cmdline),
        ("serial log", vm.serial_log),
        ("uuid", vm.uuid),
        ("versions", f"definition {vm.definition}, lease {vm.epoch}"),
    ]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for label, value in rows:
        if value:
            table.add_row(label, Text(value))
    parts: list[RenderableType] = [Text(f"VM {vm.name}", style="bold"), table]
    if vm.recent:
        parts += [Text(""), Text("lately:"), *(Text(entry_line(e)) for e in vm.recent)]
    return Group(*parts)


def _busy(host: HostStatus) -> str:
    if host.busy_cores is None or not host.cores:
        return "-"
    return f"{host.busy_cores / host.cores:.0%}"


def _busy_cores(cores: float | None) -> str:
    return "" if cores is None else f", {cores:.2f} cores busy"


def _starts(vm: VmStatus) -> str:
    """Its place among the others when room or order matters."""
    said = [f"priority {vm.priority}"] if vm.priority != "normal" else []
    if vm.start_order or vm.start_delay_s:
        later = f", {vm.start_delay_s} s later" if vm.start_delay_s else ""
        said.append(f"order {vm.start_order}{later}")
    if vm.ready:
        now = {True: " (it is)", False: " (it is not yet)", None: ""}[vm.is_ready]
        said.append(f"ready by {vm.ready}{now}")
    return ", ".join(said)


def why_lines(why: Why) -> list[str]:
    """The answer, then the notes that led to it, oldest first; each names its cause by number."""
    number = {e.id: n for n, e in enumerate(why.steps, 1)}
    lines = [why.told(_clock)]
    for entry in why.steps:
        causes = sorted(number[c] for c in entry.causes if c in number)
        after = f"  (after {', '.join(map(str, causes))})" if causes else ""
        lines.append(f"{number[entry.id]:>3}  {entry_line(entry)}{after}")
        lines += [f"       {line}" for line in choice_lines(entry)]
    return lines


def choice_lines(entry: TimelineEntry) -> list[str]:
    """What each host had to offer when one was chosen, best first, and what kept others out.

    A load may leave less than nothing: there is nothing to offer then.
    """
    candidates, rejected = entry.fields.get("candidates"), entry.fields.get("rejected")
    lines = []
    for one in candidates if isinstance(candidates, list) else ():
        parts = ", ".join(
            f"{said} {max(0.0, one[key]):.0%}"
            for key, said in (("memory", "memory"), ("used", "memory not in use"), ("cpu", "CPU"),
                              ("vcpus", "vCPUs")) if key in one
        )  # fmt: skip
        wishes = f", {-one['wishes']:.0f} of its wishes not met" if one.get("wishes") else ""
        guessed = "" if one.get("load_measured", True) else " (load not measured)"
        lines.append(f"{one['host']} {one['score']:.2f}: free {parts}{wishes}{guessed}")
    return lines + [f"{why}" for why in (rejected.values() if isinstance(rejected, dict) else ())]


def entry_line(entry: TimelineEntry) -> str:
    """One note as a line; the time is the local one of the reader."""
    local = datetime.fromtimestamp(entry.wall_s, UTC).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S}  {entry.host:<12} {entry.sentence}"


def _clock(wall_s: float) -> str:
    """A time of a day, of the reader's; with the day when that is not today."""
    local, now = datetime.fromtimestamp(wall_s, UTC).astimezone(), datetime.now(UTC).astimezone()
    text = f"{local:%H:%M:%S}.{local.microsecond // 100000}"
    return text if local.date() == now.date() else f"{local:%Y-%m-%d} {text}"


def age_text(seconds: float) -> str:
    """A span for people: 5 s, 3 min, 2 h 5 min, 4 d 2 h."""
    s = max(0, int(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60} min"
    return f"{s // 86400} d {s % 86400 // 3600} h"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    return table


def _state(state: str) -> Text:
    return Text(state, style=_COLOURS.get(state, ""))


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)
