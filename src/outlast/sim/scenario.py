"""Stories as text: commands and the notes they lead to, played in the pretend world.

A story is a file. Its first lines, beginning with #, tell in plain words what happens and why it
matters. Then come blocks: commands, a line of four dashes, the notes expected of them, a blank
line. A note stands as `host: sentence [code]`; what several hosts say alike stands once.

    pool hosts=a,b,c vms=web,db [timing=lab] [seed=1] [memory=1000] [vm=100] [partition=fence]
    wait 20s
    power of c off | on                 host c frozen | thawed      agent of c killed
    storage of c stuck | failing | ok   storage stuck | ok          (of all hosts)
    link a-b down | up                  network of c down | up      network down | up
    qemu of web dies                    wish web running | stopped | killed | deleted
    vm web shuts down                   start of web on c fails | locked | missing | works
    agent of c gone | back              register lease/web damaged | sound
    show                                where every VM runs, and the newest view
    # a remark

`play` returns the same text with what really happened; a story is true when nothing differs.
"""

from __future__ import annotations

from collections.abc import Iterator

from outlast.errors import BrokenInvariant, InvalidInput
from outlast.pool.journal import Note
from outlast.sim.pool import SimPool
from outlast.sim.world import Path

DASHES = "----"
PATHS = {"stuck": Path.STUCK, "failing": Path.FAIL, "ok": Path.OK}
STARTS = {"fails": "other", "locked": "locked", "missing": "missing", "works": ""}
ONCE = {
    "view-changed": "view",
    "host-silent": "host",
    "host-closed": "host",
    "host-anew": "host",
    "storm-brake": "count",
}


class Player:
    """Plays one story."""

    def __init__(self) -> None:
        self._pool: SimPool | None = None
        self._said: list[str] = []
        self._once: set[tuple[str, object]] = set()

    def play(self, text: str) -> str:
        """The story with the notes that it really leads to."""
        out: list[str] = []
        for remarks, commands in _blocks(text):
            self._said, self._once = [], set()
            for command in commands:
                if not command.startswith("#"):
                    try:
                        self._do(command)
                    except BrokenInvariant as broken:
                        self._said.append(f"BROKEN {broken}")
            body = [*remarks, *commands]
            if commands:
                body += [DASHES, *self._said]
            out.append("\n".join(body))
        return "\n\n".join(out) + "\n"

    @property
    def pool(self) -> SimPool:
        if self._pool is None:
            raise InvalidInput("a story begins with: pool hosts=...")
        return self._pool

    def _tell(self, host: str, note: Note) -> None:
        key = ONCE.get(note.code)
        if key:
            mark = (note.code, note.fields[key])
            if mark in self._once:
                return
            self._once.add(mark)
        self._said.append(f"{host}: {note.sentence} [{note.code}]")

    def _do(self, command: str) -> None:
        words = command.split()
        match words:
            case ["pool", *options]:
                self._build(dict(option.split("=", 1) for option in options))
            case ["wait", time] if time.endswith("s"):
                self.pool.run(float(time[:-1]))
            case ["power", "of", host, "off"]:
                self.pool.host(host).power_off()
            case ["power", "of", host, "on"]:
                self.pool.host(host).power_on()
            case ["host", host, ("frozen" | "thawed") as word]:
                self.pool.host(host).frozen = word == "frozen"
            case ["agent", "of", host, "killed"]:
                self.pool.host(host).agent.kill()
            case ["storage", "of", host, word] if word in PATHS:
                self.pool.world.set_path(self.pool.host(host).name, PATHS[word])
            case ["storage", word] if word in PATHS:
                for name in self.pool.hosts:
                    self.pool.world.set_path(name, PATHS[word])
            case ["link", pair, ("down" | "up") as word] if "-" in pair:
                a, b = pair.split("-")
                self.pool.world.link(self.pool.host(a).name, self.pool.host(b).name, word == "up")
            case ["network", "of", host, ("down" | "up") as word]:
                self.pool.isolate(self.pool.host(host).name, word == "up")
            case ["network", ("down" | "up") as word]:
                self.pool.network(word == "up")
            case ["qemu", "of", vm, "dies"]:
                self.pool.host(self.pool.where(vm)).agent.qemu_ends(vm, "crashed")
            case ["vm", vm, "shuts", "down"]:
                self.pool.host(self.pool.where(vm)).agent.qemu_ends(vm, "shutdown")
            case ["agent", "of", host, "gone"]:
                self.pool.host(host).agent.kill(for_good=True)
            case ["agent", "of", host, "back"]:
                self.pool.host(host).agent.begin()
            case ["start", "of", vm, "on", host, word] if word in STARTS:
                self.pool.host(host).start_trouble[vm] = STARTS[word]
            case ["register", name, ("damaged" | "sound") as word]:
                damaged = self.pool.world.disk.damaged
                (damaged.add if word == "damaged" else damaged.discard)(name)
            case ["wish", vm, desired]:
                self.pool.want(vm, desired)
            case ["show"]:
                self._show()
            case _:
                raise InvalidInput(f"a story does not know: {command}")

    def _build(self, options: dict[str, str]) -> None:
        self._pool = SimPool(
            int(options.get("seed", "1")),
            options["hosts"].split(","),
            [v for v in options.get("vms", "").split(",") if v],
            timing=options.get("timing", "lab"),
            memory_mib=int(options.get("memory", "1000")),
            vm_mib=int(options.get("vm", "100")),
            partition=options.get("partition", "fence"),
            tell=self._tell,
        )
        self._pool.start()

    def _show(self) -> None:
        names = [n[3:] for n in self.pool.world.disk.registers if n.startswith("vm/")]
        for vm in sorted(names):
            host = self.pool.where(vm)
            held = self.pool.record(vm).held_down
            down = f"is down: {held}" if held else "is down"
            self._said.append(f"{vm} runs on {host}" if host else f"{vm} {down}")


def _blocks(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """(remarks, commands) of each block; what was expected is left out."""
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if DASHES in lines:
            lines = lines[: lines.index(DASHES)]
        remarks = [line for line in lines if line.startswith("#")]
        yield remarks, [line for line in lines if not line.startswith("#")]
