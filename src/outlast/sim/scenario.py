"""Stories as text: commands and the notes they lead to, played in the pretend world.

A story is a file. Its first lines, beginning with #, tell in plain words what happens and why it
matters. Then come blocks: commands, a line of four dashes, the notes expected of them, a blank
line. A note stands as `host: sentence [code]`; what several hosts say alike stands once. Terms and
the numbers of blocks are chance and stand as T and N.

    pool hosts=a,b,c vms=web,db [timing=lab] [seed=2] [memory=1000] [vm=100] [partition=fence]
         [dedicated=a]           a runs no VMs
         [witness=192.0.2.1]     what hosts ping; all reach it
         [dead=30s] [fence=...]  instead of the timing's own; also beat, kill, settle, grace
    quiet                        this block's notes are not told
    wait 20s
    power of c off | on          host c frozen | thawed | resets
    host c asleep | awake        clocks of c drift             wall clock of c wrong
    host c confirmed off         by a person                   timing of c changes
    agent of c killed            it is started again          agent of c gone | back
    drill storage of c [for 10s] or network, power: it acts as if it had none
    storage of c stuck | failing | late | ok   storage stuck | failing | late | ok
    storage of c stuck for 1s    and then ok, while the story goes on
    storage takes 20..90ms       each request, for all hosts, on its way and back
    world rough | smooth         reads overlap writes, packets come late or twice, writes are torn
    link a-b down | up           link a-b flaps 9 times every 0.4s
    witness of a,b lost | reached   in a pool that has one
    way a>b cut | open           what a sends does not reach b
    network of c down | up       network down | up         network between a,b and c,d down | up
    qemu of web dies             vm web shuts down
    wish web running | stopped | killed | deleted
    create web [memory=100] [ha=off] [prefers=a,b]         vm web ha off     vm web prefers a,b
    start of web on c fails | locked | missing | refused | works
    starts on c take 10s         kills on c take 0.5s
    register lease/web damaged | sound                     block of c torn
    block of c written by a stranger                       clone of c writes for 1.5s
    slot of c retired | anew
    load of a is 12.5            cores that are busy there; guest of web mute | answers
    ha of web off [for 5s] | on  ha off [for 5s] | on          vm web on shutdown stay | restart
    move web [to b]              move of web taken back        moves from a take 2s
    replies to a lost | heard    libvirt's word that a move from a worked
    maintain a                   serve a
    expect ...                   what must be true now, see expect.py
    show                         where every VM runs
    disks of web worked on by a  disks of web let go | broken off, as if its program were killed
    # a remark

Where one host or VM stands, a list without blanks stands for several at the same moment.
`play` returns the same text with what really happened; a story is true when nothing differs and
no line says WRONG or BROKEN.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from outlast.errors import BrokenInvariant, InvalidInput
from outlast.pool.journal import Note
from outlast.settings import S, Timing, check, preset
from outlast.sim.codec import encode
from outlast.sim.expect import Watch, unmet
from outlast.sim.pool import SimPool
from outlast.sim.verbs import Verbs, seconds

DASHES = "----"
TIMES = {name: f"{name}_ns" for name in ("beat", "fence", "kill", "settle", "dead")} | {
    "grace": "partition_grace_ns"
}
ONCE = {
    "view-changed": "view",
    "host-silent": "host",
    "host-closed": "host",
    "host-anew": "host",
    "storm-brake": "count",
}
CHANCE = ((re.compile(r"\bblock \d+\b"), "block N"), (re.compile(r"\b[0-9a-f]{8}\b"), "T"))


class Player:
    """Plays one story."""

    def __init__(self) -> None:
        self._pool: SimPool | None = None
        self._said: list[str] = []
        self._codes: list[str] = []
        self._quiet = False
        self._once: set[tuple[str, object]] = set()

    def play(self, text: str) -> str:
        """The story with the notes that it really leads to."""
        out: list[str] = []
        for block in blocks(text):
            self._said, self._codes, self._once = [], [], set()
            self._quiet = block.quiet
            for command in block.commands:
                try:
                    self._do(command)
                except BrokenInvariant as broken:
                    self._said.append(f"BROKEN {broken}")
            body = [*block.remarks, *block.commands]
            if block.commands:
                body += [DASHES, *self._said]
            out.append("\n".join(body))
        return "\n\n".join(out) + "\n"

    @property
    def pool(self) -> SimPool:
        if self._pool is None:
            raise InvalidInput("a story begins with: pool hosts=...")
        return self._pool

    def _tell(self, host: str, note: Note) -> None:
        self._codes.append(note.code)
        key = ONCE.get(note.code)
        if key:
            mark = (note.code, note.fields[key])
            if mark in self._once:
                return
            self._once.add(mark)
        if not self._quiet:
            sentence = note.sentence
            for pattern, word in CHANCE:
                sentence = pattern.sub(word, sentence)
            self._said.append(f"{host}: {sentence} [{note.code}]")

    def _do(self, command: str) -> None:
        words = command.split()
        match words:
            case ["pool", *options]:
                self._build(dict(option.split("=", 1) for option in options))
            case ["quiet"]:
                pass
            case ["wait", time]:
                self.pool.run(seconds(time))
            case ["show"]:
                self._show()
            case ["expect", *demand]:
                wrong = unmet(self.pool, self._watch, self._codes, demand)
                if wrong:
                    self._said.append(f"WRONG {' '.join(demand)}: {wrong}")
            case _:
                _ = self.pool
                self._verbs.do(command)

    def _build(self, options: dict[str, str]) -> None:
        self._pool = SimPool(
            int(options.get("seed", "2")),  # whose hosts mostly join one after the other
            options["hosts"].split(","),
            [v for v in options.get("vms", "").split(",") if v],
            timing=timed(options),
            memory_mib=int(options.get("memory", "1000")),
            vm_mib=int(options.get("vm", "100")),
            partition=options.get("partition", "fence"),
            witness=options.get("witness", ""),
            tell=self._tell,
        )
        self._verbs, self._watch = Verbs(self._pool), Watch(self._pool)
        for name in [n for n in options.get("dedicated", "").split(",") if n]:
            record = replace(self._pool.host(name).record, no_vms=True)
            self._pool.world.disk.swap(f"slot/{record.slot}", 1, encode(record))
        self._pool.start()

    def _show(self) -> None:
        names = [n[3:] for n in self.pool.world.disk.registers if n.startswith("vm/")]
        for vm in sorted(names):
            host = self.pool.where(vm)
            held = self.pool.record(vm).held_down
            down = f"is down: {held}" if held else "is down"
            self._said.append(f"{vm} runs on {host}" if host else f"{vm} {down}")


def timed(options: Mapping[str, str]) -> Timing:
    """The timing of a story's pool. Raises InvalidInput for one that no pool could have."""
    own: dict[str, Any] = {
        TIMES[name]: round(seconds(value) * S) for name, value in options.items() if name in TIMES
    }
    timing = replace(preset(options.get("timing", "lab")), **own)
    check(timing)
    return timing


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a story as it is written."""

    remarks: tuple[str, ...]
    commands: tuple[str, ...]
    told: tuple[str, ...]  # what is expected

    @property
    def quiet(self) -> bool:
        return "quiet" in self.commands


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a story, in order."""
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        end = lines.index(DASHES) if DASHES in lines else len(lines)
        remarks = tuple(line for line in lines[:end] if line.startswith("#"))
        commands = tuple(line for line in lines[:end] if not line.startswith("#"))
        yield Block(remarks, commands, tuple(lines[end + 1 :]))
