"""What a story demands, whatever is told on the way: who runs where, who is in, who lost what.

Notes are recorded and may be recorded anew when their words change; a demand stands in the story's
own commands, so that recording anew cannot make a wrong outcome right.

    expect web on a              its one QEMU runs on a (a,b: on one of them)
    expect web down              it runs nowhere
    expect web held down         and the pool does not start it by itself
    expect web starts 2          so many QEMUs of it were begun since the story's beginning
    expect copy of web on b      it stands still there          expect no copy of web
    expect lease web by a        expect lease web free        expect lease web proof silent
    expect view a,b master a     the newest view, in the order of slots
    expect a open | closed       its guard holds a term and lets VMs run, or not
    expect a resets 1            the watchdog or its guard reset it so often
    expect told storm-brake      in this block          expect untold vm-crashed
"""

from __future__ import annotations

from collections.abc import Collection

from outlast.errors import InvalidInput
from outlast.sim.pool import SimPool
from outlast.storage import format as fmt


class Watch:
    """Counts the births of QEMUs; looks after every event."""

    def __init__(self, pool: SimPool) -> None:
        self._pool = pool
        self._running: dict[str, frozenset[str]] = {name: frozenset() for name in pool.hosts}
        self.starts: dict[str, int] = {}
        pool.world.after_event.append(self._look)

    def _look(self) -> None:
        for name, host in self._pool.hosts.items():
            before = self._running[name]
            if host.running.keys() != before:
                for vm in host.running.keys() - before:
                    self.starts[vm] = self.starts.get(vm, 0) + 1
                self._running[name] = frozenset(host.running)


def unmet(pool: SimPool, watch: Watch, told: Collection[str], words: list[str]) -> str:
    """How it is instead; "" when it is as demanded. told: codes of this block's notes.

    Raises InvalidInput for what no demand is called.
    """
    match words:
        case ["told" | "untold" as word, code]:
            wrong = (code in told) != (word == "told")
            return f"told were {', '.join(sorted(set(told))) or 'no notes'}" if wrong else ""
        case ["view", members, "master", master]:
            return _unlike(f"view {members} master {master}", _view(pool))
        case ["lease", vm, "free"]:
            return _unlike("", pool.host_of(pool.lease(vm).slot))
        case ["lease", vm, "by", host]:
            return _unlike(host, pool.host_of(pool.lease(vm).slot))
        case ["lease", vm, "proof", kind]:
            proof = pool.lease(vm).proof
            return _unlike(kind, proof.kind.value if proof else "no proof")
        case [host, "resets", count] if host in pool.hosts:
            return _unlike(count, str(pool.host(host).resets))
        case [host, ("open" | "closed") as state] if host in pool.hosts:
            return _unlike(state, "open" if pool.host(host).holds_term else "closed")
        case _:
            return _unmet_vm(pool, watch, words)


def _unmet_vm(pool: SimPool, watch: Watch, words: list[str]) -> str:
    match words:
        case [vm, "on", hosts]:
            where = pool.where(vm)
            return "" if where in hosts.split(",") else f"it runs on {where or 'no host'}"
        case [vm, "down"]:
            return _unlike("", pool.where(vm))
        case [vm, "held", "down"]:
            held = pool.record(vm).held_down
            return "" if held and not pool.where(vm) else "the pool starts it by itself"
        case ["copy", "of", vm, "on", host]:
            return _unlike(host, _copy(pool, vm))
        case ["no", "copy", "of", vm]:
            return _unlike("", _copy(pool, vm))
        case [vm, "starts", count]:
            return _unlike(count, str(watch.starts.get(vm, 0)))
    raise InvalidInput(f"a story does not know: expect {' '.join(words)}")


def _copy(pool: SimPool, vm: str) -> str:
    """Where a copy of the VM stands still."""
    return next((name for name, host in pool.hosts.items() if vm in host.copies), "")


def _view(pool: SimPool) -> str:
    version = pool.world.disk.version("view")
    view = fmt.view_from(pool.world.disk.value("view", version))
    members = ",".join(view.members[slot].host for slot in sorted(view.members))
    return f"view {members} master {pool.host_of(view.master)}"


def _unlike(wanted: str, found: str) -> str:
    return "" if wanted == found else f"it is {found or 'nothing'}"
