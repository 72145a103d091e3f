"""What the demo says at its end: the timeline of each blow in seconds, then the ledger's verdict.

Facts in, lines out; nothing is measured or printed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from outlast.rack import ledger
from outlast.rack.demo_view import columned
from outlast.wire.shapes import TimelineEntry

TOLD_OF_HOSTS = frozenset(
    {"host-silent", "host-closed", "host-anew", "view-changed", "member", "agent-started",
     "storm-brake", "not-member"}
)  # fmt: skip
TEXT_COLUMN = 15  # where the sentences of a timeline begin
MARK = ">>"  # what was done or measured from outside, not noted by a host


@dataclass(frozen=True, slots=True)
class Return:
    """A VM that runs again: it has signed its disk again."""

    vm: str
    host: str
    after_s: float  # since the blow
    before: int  # the newest record its log told of before
    first: int  # its first record after
    wall_s: float


@dataclass(slots=True)
class Blow:
    """One thing that was done to the pool, and what came of it."""

    title: str
    what: str
    wall_s: float
    host: str = ""  # whose power it was about
    begun_s: float = 0.0  # the same moment as wall_s, time.monotonic
    newest: dict[str, int] = field(default_factory=dict)  # each VM's newest record before
    returns: list[Return] = field(default_factory=list)
    rejoined_s: float = 0.0
    over_wall_s: float = 0.0


def timeline(blow: Blow, notes: Iterable[TimelineEntry]) -> list[str]:
    """Sentences with seconds since the blow."""
    entries = [(blow.wall_s, MARK, blow.what)]
    vms = {r.vm for r in blow.returns}
    during = [n for n in notes if blow.wall_s <= n.wall_s <= blow.over_wall_s]
    ordered = {n.fields.get("vm") for n in during if n.code == "order-given"}
    for note in during:
        vm = note.fields.get("vm")
        repeats = note.code == "vm-starts" and vm in ordered  # the order has said why
        if (vm in vms or note.code in TOLD_OF_HOSTS) and not repeats:
            entries.append((note.wall_s, note.host, note.sentence))
    for back in blow.returns:
        signed = f"{back.vm} signs its disk again: record {back.first:,}, after {back.before:,}"
        entries.append((back.wall_s, MARK, signed))
    entries.sort(key=lambda entry: entry[0])
    return [f"{at - blow.wall_s:+7.2f} s  {who:<2}  {text}" for at, who, text in entries]


def verdict_lines(verdicts: Mapping[str, ledger.Verdict]) -> list[str]:
    """VM by VM, as columns."""
    rows: list[tuple[str, ...]] = [
        ("vm", "boots", "writes acknowledged", "of these lost", "two writers", "verdict")
    ]
    for vm, verdict in verdicts.items():
        rows.append(
            (vm, str(len(verdict.boots)), f"{verdict.acknowledged:,}", str(verdict.lost),
             "YES" if verdict.two_writers else "never",
             "sound" if verdict.sound else verdict.sentence())
        )  # fmt: skip
    return columned(rows)


def measured_lines(blows: Iterable[Blow]) -> list[str]:
    """Times from each blow to what ended its harm, as columns."""
    rows: list[tuple[str, ...]] = []
    for blow in blows:
        name = blow.title
        for back in sorted(blow.returns, key=lambda r: r.after_s):
            rows.append((name, f"{back.vm} runs again on {back.host}", f"{back.after_s:.1f} s"))
            name = ""
        if blow.rejoined_s:
            rows.append((name, f"{blow.host} is a member again", f"{blow.rejoined_s:.1f} s"))
    return columned(rows) if rows else []


def conclusion(
    verdicts: Mapping[str, ledger.Verdict], blows: list[Blow], unasked: Mapping[str, int]
) -> list[str]:
    """The end in words. unasked: VMs that nobody touched and that came up again, how often."""
    if not all(v.sound for v in verdicts.values()):
        return [
            f"NOT SOUND: {ledger.summary(verdicts)}.",
            "This must not happen. Please report it, with everything printed above.",
        ]
    lines = [f"Sound: {ledger.summary(verdicts)}."]
    silent = max((r.after_s for b in blows if b.host for r in b.returns), default=0.0)
    if silent:
        lines += [
            "",
            "Most of the time after the power cut is waiting on purpose. A host may run VMs only "
            "while its heartbeat is confirmed; when the others have seen no beat for long "
            "enough, its permission has surely run out, and that is the proof. How long is enough "
            "depends on the storage. This rack uses 3 s, since its storage never stalls unasked; "
            "real storage does, so a pool waits for 60 s unless told otherwise.",
        ]
    if unasked:
        told = ", ".join(f"{vm} ({times} times)" for vm, times in sorted(unasked.items()))
        lines += [
            "",
            f"Started again without having been touched: {told}. Hosts end their VMs when they "
            "cannot confirm their heartbeat in time; on a busy machine the rack's quick timing "
            "brings that about. Nothing was lost by it.",
        ]
    return lines
