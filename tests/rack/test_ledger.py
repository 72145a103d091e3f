"""The judge of the proving guests: clean histories pass, every corruption is found.

Histories are played by writers that follow record.h and signer.h; test_guest.py shows that the
real guests write the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from outlast.rack import ledger
from outlast.rack.guest.record import (
    BOOT_FIRST,
    BOOT_MAGIC,
    BOOT_SLOTS,
    NO_DIGEST,
    RING_FIRST,
    RING_MAGIC,
    SECTOR,
    Record,
    parse,
)
from outlast.rack.ledger import Fault


@dataclass
class Disk:
    """A raw image and the log its guests write."""

    slots: int
    image: bytearray = field(default_factory=bytearray, repr=False)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = bytearray((RING_FIRST + self.slots) * SECTOR)

    def get(self, sector: int) -> bytes:
        return bytes(self.image[sector * SECTOR : (sector + 1) * SECTOR])

    def put(self, sector: int, content: bytes) -> None:
        self.image[sector * SECTOR : (sector + 1) * SECTOR] = content

    def at(self, seq: int) -> int:
        return RING_FIRST + seq % self.slots

    def newest(self) -> Record | None:
        found = [parse(self.get(RING_FIRST + i)) for i in range(self.slots)]
        return max((r for r in found if r), key=lambda r: r.seq, default=None)

    def judge(self, log: list[str] | None = None) -> ledger.Verdict:
        return ledger.judge([bytes(self.image)], ["\n".join(self.log if log is None else log)])


class Writer:
    """A guest: knows the end of the chain as it was when it began, and what it wrote since."""

    def __init__(self, disk: Disk, boot: int) -> None:
        self.disk, self.boot = disk, hashlib.sha256(b"%d" % boot).digest()[:16]
        last = disk.newest()
        self.seq = last.seq + 1 if last else 0
        self.prev = last.digest() if last else NO_DIGEST
        self.number = last.boot_number + 1 if last else 1
        self.first_seq, self.clock_us, self.salt = self.seq, 1000, 7 * boot
        self.first: Record | None = None

    @property
    def name(self) -> str:
        return self.boot[:8].hex()

    def write(self, told: bool = True) -> Record:
        if self.first and self.seq > self.first_seq:
            self.disk.put(
                BOOT_FIRST + (self.number - 1) % BOOT_SLOTS, self.first.sector(BOOT_MAGIC)
            )
        self.clock_us += 100_000
        self.salt += 1
        record = Record(
            self.seq, self.boot, self.prev, self.clock_us, 10**15 + self.clock_us, self.salt,
            self.first_seq, self.number, 400,
        )  # fmt: skip
        self.disk.put(self.disk.at(self.seq), record.sector())
        if told:
            self.disk.log.append(f"W {self.name} {self.seq} 400 {record.digest()[:4].hex()}")
        self.first, self.prev, self.seq = self.first or record, record.digest(), self.seq + 1
        return record


def play(slots: int, lengths: list[int]) -> Disk:
    """One boot after the other, each writing that many records."""
    disk = Disk(slots)
    for boot, length in enumerate(lengths):
        writer = Writer(disk, boot)
        for _ in range(length):
            writer.write()
    return disk


histories = st.builds(
    play, st.integers(3, 40), st.lists(st.integers(0, 30), min_size=1, max_size=6)
).filter(lambda disk: bool(disk.log))
some = st.randoms(use_true_random=False)
calm = settings(deadline=None, max_examples=60)  # the machine may be busy


def records(disk: Disk) -> list[Record]:
    found = [parse(disk.get(RING_FIRST + i)) for i in range(disk.slots)]
    return sorted((r for r in found if r), key=lambda r: r.seq)


@calm
@given(histories)
def test_a_clean_history_has_no_problem(disk: Disk) -> None:
    verdict = disk.judge()
    assert verdict.problems == ()
    assert verdict.acknowledged == len(disk.log)
    assert verdict.records == min(len(disk.log), disk.slots)
    assert verdict.boots[-1].last_seq == len(disk.log) - 1


@calm
@given(histories, st.integers(1, 5000))
def test_pieces_of_any_size_give_the_same_verdict(disk: Disk, size: int) -> None:
    image = bytes(disk.image)
    pieces = [image[i : i + size] for i in range(0, len(image), size)]
    assert ledger.judge(pieces, disk.log) == disk.judge()


@calm
@given(histories)
def test_boots_are_told_in_order_with_their_numbers(disk: Disk) -> None:
    boots = disk.judge().boots
    for before, after in pairwise(boots):
        assert before.last_seq == after.first_seq - 1
        assert before.number < after.number


@calm
@given(histories, some)
def test_torn_lines_shell_output_and_quiet_logs_are_no_problem(disk: Disk, chance) -> None:
    kept = [line for line in disk.log if chance.random() < 0.3]
    torn = [line[: chance.randrange(len(line))] + "BOOT 0011223344556677 pulsar" for line in kept]
    verdict = disk.judge([*torn, *("sentinel# \x1b[6n" + line + "\r" for line in kept)])
    assert verdict.problems == ()


def test_an_unacknowledged_last_write_is_no_problem() -> None:
    disk = play(20, [3])
    Writer(disk, 9).write(told=False)
    assert disk.judge().problems == ()


def test_io_errors_are_counted_and_are_no_problem() -> None:
    disk = play(20, [5])
    disk.log.append("IOERR 0011223344556677 5")
    verdict = disk.judge()
    assert (verdict.io_errors, verdict.sound) == (1, True)


def test_an_empty_disk_is_sound_and_a_tiny_one_too() -> None:
    assert ledger.judge([bytes(2**20)]).sound
    assert ledger.judge([]).records == 0


# --- corruptions of the disk: each changes one thing -------------------------------------------


def drop(disk: Disk, chance) -> None:
    disk.put(disk.at(chance.choice(records(disk)).seq), bytes(SECTOR))


def swap(disk: Disk, chance) -> None:
    a, b = chance.sample(range(disk.slots), 2)
    first, second = disk.get(RING_FIRST + a), disk.get(RING_FIRST + b)
    assume(first != second)
    disk.put(RING_FIRST + a, second)
    disk.put(RING_FIRST + b, first)


def flip(disk: Disk, chance) -> None:
    used = [i for i in range(1, RING_FIRST + disk.slots) if any(disk.get(i))]
    at = chance.choice(used) * SECTOR + chance.randrange(SECTOR)
    disk.image[at] ^= 1 << chance.randrange(8)


def forge(disk: Disk, chance) -> None:
    """A record that is sound in itself, with one field changed."""
    record = chance.choice(records(disk))
    name = chance.choice(Record.__slots__)
    value = getattr(record, name)
    other = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
    disk.put(disk.at(record.seq), replace(record, **{name: other}).sector())


def copy_over(disk: Disk, chance) -> None:
    """A write of long ago arrives again."""
    found = records(disk)
    a, b = chance.choice(found), chance.choice(found)
    assume(a != b)
    disk.put(disk.at(b.seq), a.sector())


def take_back(disk: Disk, chance) -> None:
    """The disk is an old copy of itself."""
    found = records(disk)
    for record in found[chance.randrange(len(found)) :]:
        disk.put(disk.at(record.seq), bytes(SECTOR))


def relink(disk: Disk, chance) -> None:
    """Another boot's record, well linked to the one before it, lies in the middle."""
    record = chance.choice(records(disk))
    other = replace(record, boot=bytes(16), first_seq=record.seq, boot_number=99)
    disk.put(disk.at(record.seq), other.sector())


@pytest.mark.parametrize("harm", [drop, swap, flip, forge, copy_over, take_back, relink])
def test_every_corruption_of_the_disk_is_found(harm: Callable[[Disk, object], None]) -> None:
    @calm
    @given(histories, some)
    def found(disk: Disk, chance) -> None:
        harm(disk, chance)
        verdict = disk.judge()
        assert not verdict.sound
        assert all(p.sentence for p in verdict.problems)

    found()


@calm
@given(histories, some)
def test_a_changed_record_with_a_successor_is_found_without_any_log(disk: Disk, chance) -> None:
    found = records(disk)
    assume(len(found) >= 2)
    record = chance.choice(found[:-1])
    disk.put(disk.at(record.seq), replace(record, salt=record.salt + 1).sector())
    assert Fault.CHAIN in {p.fault for p in disk.judge(log=[]).problems}


@calm
@given(histories)
def test_a_missing_entry_of_the_boot_table_is_found(disk: Disk) -> None:
    newest = records(disk)[-1]
    assume(newest.seq > newest.first_seq)
    disk.put(BOOT_FIRST + (newest.boot_number - 1) % BOOT_SLOTS, bytes(SECTOR))
    assert Fault.BOOTS in {p.fault for p in disk.judge().problems}


# --- lost acknowledgements and several writers --------------------------------------------------


@calm
@given(histories, some)
def test_every_acknowledgement_without_its_record_is_found(disk: Disk, chance) -> None:
    last = records(disk)[-1]
    digest = last.digest()[:4].hex()
    name, seq = last.name, last.seq
    line = chance.choice(
        [
            f"W {name} {seq + 1 + chance.randrange(5)} 400 {digest}",
            f"W 0123456789abcdef {seq} 400 {digest}",
            f"W {name} {seq} 400 {'0' * 8 if digest != '0' * 8 else '1' * 8}",
        ]
    )
    verdict = disk.judge([*disk.log, line])
    assert verdict.lost == 1
    assert Fault.LOST in {p.fault for p in verdict.problems}


def test_an_acknowledgement_the_ring_went_over_must_lie_in_its_boots_run() -> None:
    disk = play(5, [4, 20])
    name = Writer(disk, 1).name
    assert disk.judge([f"W {name} 4 400 00000000"]).sound
    assert disk.judge([f"W {name} 2 400 00000000", f"W {name} 4 400 00000000"]).lost == 1


@calm
@given(histories, st.lists(st.booleans(), min_size=2, max_size=25))
def test_two_boots_at_once_are_found(disk: Disk, turns: list[bool]) -> None:
    assume(len(set(turns)) == 2)
    pair = (Writer(disk, 100), Writer(disk, 101))
    for turn in turns:
        pair[turn].write()
    assert not disk.judge().sound


@calm
@given(histories, st.integers(1, 5), st.lists(st.booleans(), min_size=2, max_size=25))
def test_two_copies_of_one_boot_are_found(disk: Disk, before: int, turns: list[bool]) -> None:
    """A migration that left both sides running: same boot id, same memory, other counters."""
    assume(len(set(turns)) == 2)
    one, two = Writer(disk, 100), Writer(disk, 100)
    for _ in range(before):
        one.write()
    two.__dict__.update(one.__dict__)
    two.salt += 10**6
    for turn in turns:
        (one, two)[turn].write()
    assert not disk.judge().sound


def test_interleaved_boots_are_called_two_writers_by_the_disk_alone() -> None:
    disk = play(40, [3])
    one, two = Writer(disk, 100), Writer(disk, 101)
    one.write()
    for _ in range(3):
        two.write()
        one.write()
        one.write()
        two.seq += 1
    verdict = disk.judge(log=[])
    assert verdict.two_writers
    assert "TWO WRITERS" in verdict.sentence()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("FOREIGN 0123456789abcdef 3 fedcba9876543210", Fault.FOREIGN),
        ("FOREIGN 0123456789abcdef 3 damaged", Fault.FOREIGN),
        ("MEMORY 0123456789abcdef 12", Fault.MEMORY),
    ],
)
def test_complaints_of_a_guest_are_problems(line: str, fault: Fault) -> None:
    disk = play(20, [5])
    assert [p.fault for p in disk.judge([*disk.log, line]).problems] == [fault]


def test_a_boot_older_than_the_ring_is_known_from_the_boot_table() -> None:
    verdict = play(6, [4, 5, 20]).judge()
    assert [(b.number, b.first_seq, b.last_seq) for b in verdict.boots] == [
        (1, 0, 3),
        (2, 4, 8),
        (3, 9, 28),
    ]


# --- sentences ----------------------------------------------------------------------------------


def test_summary_of_a_pool() -> None:
    good = {"web": play(3000, [1200, 4]).judge(), "db": play(10, [2]).judge()}
    assert (
        ledger.summary(good)
        == "2 VMs, 3 boots, 1,206 acknowledged writes, none lost, never two writers"
    )
    bad = play(20, [5])
    bad.log.append("FOREIGN 0123456789abcdef 3 damaged")
    bad.log.append("W 0123456789abcdef 3 1 00000000")
    drop_one = play(20, [5])
    drop_one.put(drop_one.at(2), bytes(SECTOR))
    text = ledger.summary({**good, "bad": bad.judge(), "gap": drop_one.judge(log=[])})
    assert "1 LOST, TWO WRITERS on bad, LEDGER DAMAGED on gap" in text


def test_record_survives_the_way_to_disk_and_back() -> None:
    record = Record(2**40, bytes(range(16)), bytes(32), 1, 2, 2**63, 3, 4, 5)
    assert parse(record.sector()) == record
    assert parse(record.sector(), BOOT_MAGIC) is None
    assert record.sector()[:8] == RING_MAGIC
