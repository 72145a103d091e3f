"""Judges a VM by the disk and the serial logs its proving guest left: bytes in, verdict out (P).

Promises: a history in which every boot began after the one before had ended, and in which nothing
acknowledged went missing, has no problem. Found are, among others: a record changed, dropped,
moved or forged; two writers at once, also two copies of one boot; an acknowledged write that is
not on the disk.

Rules:
1. The ring holds the newest `slots` numbers without a hole, each in its place, each linking to the
   digest of the one before (guest/record.h).
2. A boot writes one unbroken run of numbers; its clock never goes back; boot numbers grow by one.
3. A boot with two records or more is in the boot table, with its first record.
4. What a guest printed as written is on the disk, from this boot and with this digest, unless the
   ring went over it since; then it lies at least within its boot's run.
5. Whatever else a guest complains of (FOREIGN, MEMORY) is a problem; an IOERR is only counted.

What it cannot see: the loss of the newest records when no log tells of them. Disk and logs must
belong to a VM that is stopped or paused; of a running one, take the logs first and the disk in one
piece, and look again before believing a problem. Raw images only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise, zip_longest

from outlast.rack.guest.record import (
    BOOT_FIRST,
    BOOT_MAGIC,
    BOOT_SLOTS,
    NO_DIGEST,
    RING_FIRST,
    SECTOR,
    Record,
    parse,
)
from outlast.words import plural


class Fault(Enum):
    """Kinds of problems; the value is what a sentence calls it."""

    DAMAGED = "damaged"  # a sector that is neither empty nor a sound record
    MISPLACED = "misplaced"  # a sound record where it does not belong
    HOLE = "hole"  # numbers missing between the oldest and the newest
    CHAIN = "broken chain"  # a record that links to another predecessor
    WRITERS = "two writers"  # two boots, or two copies of one, at once
    FOREIGN = "foreign write"  # a guest saw its last record changed
    BOOTS = "boot table"  # boot numbers, first numbers or boot table disagree
    CLOCK = "clock"  # uptime went back within a boot: an old state came to life again
    LOST = "lost write"  # acknowledged, and not there
    MEMORY = "lost memory"  # a page lost its last value


_WORST = (Fault.WRITERS, Fault.FOREIGN, Fault.LOST)  # what a pool must never let happen


@dataclass(frozen=True, slots=True)
class Problem:
    fault: Fault
    sentence: str


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot and the numbers it wrote. Wall clocks are 0 where the ring went over the record."""

    number: int
    name: str  # 16 hex digits, as in the serial lines
    first_seq: int
    last_seq: int
    first_wall_us: int = 0
    last_wall_us: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    slots: int  # of the ring
    records: int  # sound ones, in the ring
    boots: tuple[Boot, ...]  # in order; the first may have begun before the boot table's memory
    acknowledged: int  # writes the logs tell of; a line for a write vouches for those before it
    io_errors: int
    problems: tuple[Problem, ...]  # the worst first

    @property
    def sound(self) -> bool:
        return not self.problems

    @property
    def two_writers(self) -> bool:
        return any(p.fault in (Fault.WRITERS, Fault.FOREIGN) for p in self.problems)

    @property
    def lost(self) -> int:
        """Acknowledged writes that are not on the disk."""
        return sum(p.fault is Fault.LOST for p in self.problems)

    def sentence(self) -> str:
        """For people: one VM in one sentence, with the first problems."""
        text = summary({"it": self}).split(", ", 1)[1]
        told = "; ".join(p.sentence for p in self.problems[:3])
        more = f" (and {len(self.problems) - 3} more)" if len(self.problems) > 3 else ""
        return f"{text}: {told}{more}" if told else text


@dataclass(slots=True)
class _Disk:
    """What lies on a disk, by place; None where a sector is damaged."""

    slots: int = 0
    ring: dict[int, Record | None] = field(default_factory=dict)
    table: dict[int, Record | None] = field(default_factory=dict)
    oldest: int = 0
    newest: int = -1

    def at(self, seq: int) -> Record | None:
        """The record with this number, if it is where it belongs."""
        record = self.ring.get(seq % self.slots) if self.slots else None
        return record if record and record.seq == seq else None

    def records(self) -> Iterator[Record]:
        """Sound records in their order; there may be holes."""
        return (r for seq in range(self.oldest, self.newest + 1) if (r := self.at(seq)))


def judge(disk: Iterable[bytes], logs: Iterable[str] = ()) -> Verdict:
    """The verdict on one VM.

    disk: the whole raw image, in pieces of any size; logs: texts of its serial logs, in any order.
    """
    found = _read(disk)
    problems = [*_check_places(found), *_check_chain(found), *_check_runs(found)]
    problems += _check_table(found)
    boots = _boots(found)
    lines = _Lines("\n".join(logs))
    problems += _check_log(lines, found, boots)
    return Verdict(
        slots=found.slots,
        records=sum(1 for _ in found.records()),
        boots=boots,
        acknowledged=_acknowledged(lines, boots),
        io_errors=lines.io_errors,
        problems=tuple(sorted(problems, key=lambda p: p.fault not in _WORST)),
    )


def summary(verdicts: Mapping[str, Verdict]) -> str:
    """A pool in one sentence; `verdicts` by VM name."""

    def named(names: list[str]) -> str:
        return f" on {', '.join(names)}" if len(verdicts) > 1 else ""

    all_of = verdicts.values()
    lost = sum(v.lost for v in all_of)
    twice = sorted(name for name, v in verdicts.items() if v.two_writers)
    other = {n for n, v in verdicts.items() if any(p.fault not in _WORST for p in v.problems)}
    parts = [
        plural(len(verdicts), "VM"),
        plural(sum(len(v.boots) for v in all_of), "boot"),
        plural(sum(v.acknowledged for v in all_of), "acknowledged write"),
        f"{lost:,} LOST" if lost else "none lost",
        f"TWO WRITERS{named(twice)}" if twice else "never two writers",
    ]
    if other:
        parts.append(f"LEDGER DAMAGED{named(sorted(other))}")
    return ", ".join(parts)


def _sectors(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """(sector number, content) of all sectors that are not empty; at last (their count, b"")."""
    rest, number = b"", 0
    for chunk in chunks:
        rest += chunk
        whole = len(rest) // SECTOR * SECTOR
        if rest.count(0, 0, whole) != whole:  # most of a disk is empty: skip it fast
            for start in range(0, whole, SECTOR):
                sector = rest[start : start + SECTOR]
                if any(sector):
                    yield number + start // SECTOR, sector
        number += whole // SECTOR
        rest = rest[whole:]
    yield number, b""


def _read(chunks: Iterable[bytes]) -> _Disk:
    disk = _Disk()
    for number, sector in _sectors(chunks):
        if not sector:
            disk.slots = max(number - RING_FIRST, 0)
        elif number >= RING_FIRST:
            disk.ring[number - RING_FIRST] = parse(sector)
        elif number >= BOOT_FIRST:
            disk.table[number - BOOT_FIRST] = parse(sector, BOOT_MAGIC)
    in_place = (r.seq for at, r in disk.ring.items() if r and r.seq % disk.slots == at)
    disk.newest = max(in_place, default=-1)
    disk.oldest = max(disk.newest - disk.slots + 1, 0)
    return disk


def _check_places(disk: _Disk) -> Iterator[Problem]:
    for at, record in disk.ring.items():
        if record is None:
            yield Problem(Fault.DAMAGED, f"ring slot {at} holds no sound record")
        elif record.seq % disk.slots != at:
            yield Problem(Fault.MISPLACED, f"record {record.seq} lies in ring slot {at}")
    present = [disk.oldest - 1, *(r.seq for r in disk.records())]
    for before, seq in pairwise(present):
        if seq == before + 2:
            yield Problem(Fault.HOLE, f"record {before + 1} is missing")
        elif seq > before + 2:
            yield Problem(Fault.HOLE, f"records {before + 1} to {seq - 1} are missing")


def _check_chain(disk: _Disk) -> Iterator[Problem]:
    before_seq, digest = -1, NO_DIGEST
    for record in disk.records():
        if record.seq == before_seq + 1 and record.prev != digest:
            yield Problem(
                Fault.CHAIN,
                f"record {record.seq} of boot {record.name} links to another record "
                f"than the one before it",
            )
        before_seq, digest = record.seq, record.digest()


def _check_runs(disk: _Disk) -> Iterator[Problem]:
    seen: set[bytes] = set()
    last: Record | None = None
    for record in disk.records():
        if last and record.boot == last.boot:
            yield from _check_within(last, record)
        else:
            if last and record.boot in seen:
                yield Problem(
                    Fault.WRITERS,
                    f"TWO WRITERS: boot {record.name} wrote {record.seq} "
                    f"after boot {last.name} had written {last.seq}",
                )
            else:
                yield from _check_change(last, record, disk)
            seen.add(record.boot)
        last = record


def _check_within(last: Record, record: Record) -> Iterator[Problem]:
    """Two neighbours of one boot."""
    who = f"boot {record.name}"
    if (record.first_seq, record.boot_number) != (last.first_seq, last.boot_number):
        yield Problem(Fault.BOOTS, f"{who} changes its own number or beginning at {record.seq}")
    if record.uptime_us < last.uptime_us:
        yield Problem(Fault.CLOCK, f"the clock of {who} goes back at record {record.seq}")


def _check_change(last: Record | None, record: Record, disk: _Disk) -> Iterator[Problem]:
    """The first record of a boot, or the oldest record that the ring still has."""
    begun_before = last is None and disk.oldest > 0 and record.first_seq < record.seq
    number = last.boot_number + 1 if last else 1
    if not begun_before and record.first_seq != record.seq:
        yield Problem(
            Fault.BOOTS,
            f"boot {record.name} begins at {record.seq} and says it began at {record.first_seq}",
        )
    if (last or disk.oldest == 0) and record.boot_number != number:
        yield Problem(
            Fault.BOOTS,
            f"boot {record.name} has number {record.boot_number} where {number} is due",
        )


def _check_table(disk: _Disk) -> Iterator[Problem]:
    last_of = {r.boot_number: r for r in disk.records()}
    for at, entry in disk.table.items():
        if entry is None:
            yield Problem(Fault.DAMAGED, f"boot table slot {at} holds no sound entry")
        elif (entry.boot_number - 1) % BOOT_SLOTS != at or entry.seq != entry.first_seq:
            yield Problem(Fault.MISPLACED, f"boot {entry.boot_number} lies in table slot {at}")
        elif disk.oldest <= entry.seq and disk.at(entry.seq) != entry:
            yield Problem(
                Fault.BOOTS, f"boot {entry.boot_number} of the boot table is another in the ring"
            )
    for number, record in last_of.items():
        entry = disk.table.get((number - 1) % BOOT_SLOTS)
        listed = entry is not None and entry.boot_number == number
        if listed and entry is not None and entry.boot != record.boot:
            yield Problem(Fault.WRITERS, f"TWO WRITERS: two boots have the number {number}")
        elif not listed and record.seq > record.first_seq and number + BOOT_SLOTS not in last_of:
            yield Problem(Fault.BOOTS, f"boot {number} is missing in the boot table")
    yield from _check_order(disk)


def _check_order(disk: _Disk) -> Iterator[Problem]:
    entries = sorted((e.boot_number, e.seq) for e in disk.table.values() if e)
    for (low, begun), (high, later) in pairwise(entries):
        if later <= begun:
            yield Problem(Fault.BOOTS, f"boot {high} of the boot table begins before boot {low}")


def _boots(disk: _Disk) -> tuple[Boot, ...]:
    """All boots known from table and ring, in the order of their beginnings."""
    firsts = {e.boot: e for e in disk.table.values() if e}
    lasts: dict[bytes, Record] = {}
    for record in disk.records():
        firsts.setdefault(record.boot, record)
        lasts[record.boot] = record
    ordered = sorted(firsts.values(), key=lambda r: (r.first_seq, r.boot_number))
    boots = []
    for first, after in zip_longest(ordered, ordered[1:]):
        last = lasts.get(first.boot)
        end = last.seq if last else after.first_seq - 1 if after else disk.newest
        known = first.seq == first.first_seq
        walls = (first.wall_us if known else 0, last.wall_us if last else 0)
        boots.append(Boot(first.boot_number, first.name, first.first_seq, end, *walls))
    return tuple(boots)


class _Lines:
    """What the logs say. A log may hold torn lines (a killed QEMU) and a shell's output."""

    _WRITTEN = re.compile(r"W ([0-9a-f]{16}) (\d+) \d+ ([0-9a-f]{8})(?![0-9a-f])")
    _FOREIGN = re.compile(r"FOREIGN ([0-9a-f]{16}) (\d+) ([0-9a-f]{16}|damaged)")
    _MEMORY = re.compile(r"MEMORY ([0-9a-f]{16}) (\d+)")
    _TROUBLE = re.compile(r"IOERR [0-9a-f]{16} \d+")

    def __init__(self, text: str) -> None:
        found = {(m[1], int(m[2]), m[3]) for m in self._WRITTEN.finditer(text)}
        self.written = sorted(found, key=lambda w: (w[1], w[0], w[2]))
        self.foreign = [(m[1], int(m[2]), m[3]) for m in self._FOREIGN.finditer(text)]
        self.memory = sorted({m[1] for m in self._MEMORY.finditer(text)})
        self.io_errors = len(self._TROUBLE.findall(text))


def _check_log(lines: _Lines, disk: _Disk, boots: tuple[Boot, ...]) -> Iterator[Problem]:
    ranges = {b.name: (b.first_seq, b.last_seq) for b in boots}
    told: dict[str, int] = {}
    for name, _, _ in lines.written:
        told[name] = told.get(name, 0) + 1
    for name, seq, digest in lines.written:
        if seq >= disk.oldest:
            yield from _check_written(name, seq, digest, disk.at(seq))
            continue
        # The ring went over it. A boot of one record may be in no table either.
        first, last = ranges.get(name, (seq, seq) if told[name] == 1 else (0, -1))
        if not first <= seq <= last:
            yield Problem(Fault.LOST, f"LOST write {seq} of boot {name}: not in that boot's run")
    yield from _check_once(lines)
    for name, seq, whose in lines.foreign:
        yield Problem(Fault.FOREIGN, f"boot {name} found its record {seq} changed, by {whose}")
    for name in lines.memory:
        yield Problem(Fault.MEMORY, f"boot {name} lost values in its memory")


def _check_once(lines: _Lines) -> Iterator[Problem]:
    """No number is acknowledged to two boots, or twice to one, even where the ring went over it."""
    for (name, seq, digest), (other, same, another) in pairwise(sorted(lines.written, key=_by_seq)):
        if seq == same and (name, digest) != (other, another):
            who = f"boots {name} and {other}" if name != other else f"two copies of boot {name}"
            yield Problem(Fault.WRITERS, f"TWO WRITERS: {who} both wrote {seq}")


def _by_seq(written: tuple[str, int, str]) -> tuple[int, str, str]:
    name, seq, digest = written
    return seq, name, digest


def _check_written(name: str, seq: int, digest: str, record: Record | None) -> Iterator[Problem]:
    if record is None:
        why = "not on the disk"
    elif record.name != name:
        why = f"boot {record.name} wrote over it"
    elif record.digest()[:4].hex() != digest:
        why = "the record on the disk is another"
    else:
        return
    yield Problem(Fault.LOST, f"LOST write {seq} of boot {name}: {why}")


def _acknowledged(lines: _Lines, boots: tuple[Boot, ...]) -> int:
    """Writes vouched for: a guest writes one at a time, so each boot's newest line speaks for all
    of its earlier ones, printed or not."""
    first = {b.name: b.first_seq for b in boots}
    newest: dict[str, int] = {}
    for name, seq, _ in lines.written:
        first.setdefault(name, seq)
        newest[name] = max(seq, newest.get(name, seq))
    return sum(seq - first[name] + 1 for name, seq in newest.items())
