"""An incident without names: hosts, VMs, storages, addresses, paths and identities become numbers.

Rules:
1. Masked are what went in: facts, settings, the core's memory. What was decided about it is decided
   again, so a masked incident replays like any other.
2. Names keep their order ("host-01" < "host-02" as a < b), because ties are broken by name.
3. Notes may name more than was recorded: hosts and VMs that are gone, and people.
4. A note's sentence is made anew of its masked fields. In other sentences each word that is a name
   is replaced, also where it was only an ordinary word.
5. What is the same object in many steps is masked once: facts of a pool change little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from outlast.incident.codec import decode, encode
from outlast.incident.steps import FIELDS, Start, Step
from outlast.pool.facts import Facts
from outlast.pool.journal import SENTENCES
from outlast.settings import PoolSettings

PLAIN = frozenset(
    {
        "via", "op", "kind", "term", "format", "bus", "machine", "trouble", "accelerator", "preset",
        "watchdog", "partition", "code", "master_term", "state",
    }
)  # fmt: skip
PRIVATE = frozenset(
    {
        "path", "kernel", "initrd", "cmdline", "serial_log", "networks", "api", "addresses", "uuid",
        "detail", "by", "maintenance", "missing",
    }
)  # fmt: skip


class Mask:
    def __init__(
        self, recorded: Iterable[Start | Step], notes: Iterable[Mapping[str, object]] = ()
    ) -> None:
        hosts, vms, people, private = set[str](), set[str](), set[str](), set[str]()
        storages, self._looked_at = set[str](), set[int]()
        self._masked: dict[
            tuple[int, str], tuple[object, object]
        ] = {}  # rule 5; with what it is of
        for note in notes:
            fields = note.get("fields")
            for name, value in fields.items() if isinstance(fields, dict) else ():
                group = {"vm": vms, "host": hosts, "other": hosts, "by": people, "caller": people,
                         "repository": storages}  # fmt: skip
                if name in group and isinstance(value, str) and value:
                    group[name].add(value)
        for one in recorded:
            if isinstance(one, Start):
                self._collect(encode(one.settings), "", private)
                self._collect(one.core, "", private)
                continue
            facts = one.facts
            hosts |= {facts.me.host, *(r.host for r in facts.slots.values())}
            hosts |= {m.host for m in facts.view.members.values()} if facts.view else set()
            vms |= {*facts.vms, *facts.leases, *facts.local, *facts.guard.populated}
            disks = (disk for held in facts.vms.values() for disk in held.value.spec.disks)
            storages |= {*facts.repositories, *(d.repository for d in disks if d.repository)}
            for value in (facts.me, facts.slots, facts.vms, facts.view, facts.results, facts.exits,
                          facts.local, facts.seen, facts.reports, facts.report,
                          facts.repositories):  # fmt: skip
                self._look_at(value, private)
        self._names = {n: f"person-{k:02}" for k, n in enumerate(sorted(people), 1)}
        self._names |= {n: f"storage-{k:02}" for k, n in enumerate(sorted(storages), 1)}
        self._names |= {n: f"vm-{k:03}" for k, n in enumerate(sorted(vms), 1)}
        self._names |= {n: f"host-{k:02}" for k, n in enumerate(sorted(hosts), 1)}
        self._private = {n: f"masked-{k:04}" for k, n in enumerate(sorted(private), 1)}
        words = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True))) or "(?!)"
        self._word = re.compile(f"(?<![A-Za-z0-9-])(?:{words})(?![A-Za-z0-9-])")

    def start(self, start: Start) -> Start:
        settings = decode(self._encoded(encode(start.settings), ""))
        assert isinstance(settings, PoolSettings)
        core = self._encoded(start.core, "")
        return Start(start.version, self.text(start.host), start.wall_s, settings, core)

    def facts(self, facts: Facts) -> Facts:
        return Facts(**{name: self._part(getattr(facts, name), name) for name in FIELDS})

    def _part(self, value: object, field: str) -> Any:
        """Rule 5."""
        known = self._masked.get((id(value), field))
        if known is not None:
            return known[1]
        made: object
        if isinstance(value, Mapping):
            inner = _inner(field)
            made = {self._part(k, ""): self._part(v, inner) for k, v in value.items()}
        else:
            made = decode(self._encoded(encode(value), field))
        self._masked[id(value), field] = (value, made)
        return made

    def note(self, note: Mapping[str, object]) -> dict[str, Any]:
        masked: dict[str, Any] = self._plain(dict(note))
        with suppress(KeyError, ValueError, TypeError):  # of another version
            masked["sentence"] = SENTENCES[str(note["code"])].format_map(masked["fields"])
        return masked

    def _plain(self, value: object) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                self.text(k): v if k in {"id", "causes", "code"} else self._plain(v)
                for k, v in value.items()
            }
        return [self._plain(v) for v in value] if isinstance(value, list) else value

    def text(self, text: str) -> str:
        for private, said in self._private.items():
            if len(private) > 3 and private in text:
                text = text.replace(private, said)
        return self._word.sub(lambda found: self._names[found[0]], text)

    def _look_at(self, value: object, private: set[str]) -> None:
        """Rule 5; what is recorded outlives the looking."""
        if id(value) in self._looked_at:
            return
        self._looked_at.add(id(value))
        if isinstance(value, Mapping):
            for key, part in value.items():
                self._collect(encode(key), "", private)
                self._look_at(part, private)
        else:
            self._collect(encode(value), "", private)

    def _collect(self, value: object, field: str, private: set[str]) -> None:
        for leaf, name in _leaves(value, field):
            if name in PRIVATE and leaf:
                private.add(leaf)

    def _encoded(self, value: object, field: str) -> object:
        if isinstance(value, str):
            if field in PLAIN:
                return value
            if field in PRIVATE:
                return self._private.get(value, "masked") if value else value
            return self.text(value)
        if not isinstance(value, list) or value[:1] == ["e"]:
            return value
        if value[0] == "o":
            parts = {k: self._encoded(v, _known(value, k)) for k, v in value[2].items()}
            return ["o", value[1], parts]
        if value[0] == "m":
            pairs = [[self._encoded(k, ""), self._encoded(v, _inner(field))] for k, v in value[1:]]
            return ["m", *pairs]
        return [value[0], *(self._encoded(v, field) for v in value[1:])]


def _known(encoded: list[Any], field: str) -> str:
    """The name of an object's field; why a register was written is said in the pool's own words,
    what is wrong with a repository in those of its host, with paths."""
    own = encoded[1] == "Result" and field == "detail" and encoded[2].get("kind") == "swap"
    told = encoded[1] == "Answering" and field == "trouble"
    return "why" if own else "detail" if told else field


def _inner(field: str) -> str:
    return field if field in PRIVATE else ""


def _leaves(value: object, field: str) -> Iterable[tuple[str, str]]:
    """Each string of an encoded value with the field it is in."""
    if isinstance(value, str):
        yield value, field
    elif isinstance(value, list) and value[0] == "o":
        for name, part in value[2].items():
            yield from _leaves(part, _known(value, name))
    elif isinstance(value, list) and value[0] == "m":
        for key, part in value[1:]:
            yield from _leaves(key, "")
            yield from _leaves(part, _inner(field))
    elif isinstance(value, list) and value[0] != "e":
        for part in value[1:]:
            yield from _leaves(part, field)
