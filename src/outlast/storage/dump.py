"""Everything a pool has on its storage, read without changing anything, damaged parts named.

For people and for bug reports: it reads what it can and says what it cannot, it never stops at
the first trouble. It needs no agent, no term, and takes no lock, so that what it shows may be a
mixture of two moments. The secret and the certificates are not shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import StorageTrouble
from outlast.model import SLOT_MAX, Block
from outlast.storage.etcd import Etcd
from outlast.storage.etcd_access import read_access
from outlast.storage.etcd_register import FOLDER, version_in
from outlast.storage.format import (
    BadBlock,
    block_to_json,
    decode_block,
    decode_header,
    record_parse,
    version_of,
    version_text,
)
from outlast.storage.layout import PoolDir, open_pool
from outlast.storage.names import CLASSES, SINGLES


@dataclass(frozen=True, slots=True)
class BlockLine:
    """One slot of the heartbeat area that was ever written."""

    slot: int
    block: Block | None
    trouble: str = ""  # why it does not count


@dataclass(frozen=True, slots=True)
class RegisterLine:
    """One register with its newest version."""

    name: str
    version: int
    oldest: int  # lowest version that is still there
    writer: str
    value: dict[str, object] | None
    trouble: str = ""  # why its newest version cannot be used


@dataclass(frozen=True, slots=True)
class DumpReport:
    """All of a pool's storage. `troubles` are those that belong to no line."""

    pool: PoolDir
    direct: bool  # the heartbeat area was read past the caches
    blocks: tuple[BlockLine, ...]
    registers: tuple[RegisterLine, ...]
    troubles: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not (
            self.troubles
            or any(line.trouble for line in self.blocks)
            or any(line.trouble for line in self.registers)
        )


def dump(directory: Path | str) -> DumpReport:
    """Read a pool's directory. Raises StorageTrouble only when there is no pool to read."""
    pool = open_pool(directory)
    troubles: list[str] = []
    direct, blocks = _blocks(pool, troubles)
    found = _registers(pool.reg, troubles) if pool.shared else _on_etcd(pool, troubles)
    registers = tuple(found)
    return DumpReport(pool, direct, blocks, registers, tuple(troubles))


def dump_json(report: DumpReport) -> dict[str, object]:
    """The report as one JSON object."""
    return {
        "pool": {
            "dir": str(report.pool.root), "uuid": report.pool.uuid, "name": report.pool.name,
            "created_wall": report.pool.created_wall,
        },
        "sound": report.sound,
        "direct": report.direct,
        "troubles": list(report.troubles),
        "blocks": [
            {"slot": line.slot, "trouble": line.trouble,
             "block": block_to_json(line.block) if line.block else None}
            for line in report.blocks
        ],
        "registers": [
            {"name": line.name, "version": line.version, "oldest": line.oldest,
             "writer": line.writer, "trouble": line.trouble, "value": line.value}
            for line in report.registers
        ],
    }  # fmt: skip


def dump_text(report: DumpReport) -> str:
    """The report as lines for people."""
    pool = report.pool
    lines = [f"pool {pool.name}  {pool.uuid}  in {pool.root}"]
    lines += [f"TROUBLE: {trouble}" for trouble in report.troubles]
    if not report.direct:
        lines.append("note: the file system takes no direct reads; these came through a cache")
    lines += ["", f"heartbeat area: {len(report.blocks)} of {SLOT_MAX} slots were ever written"]
    for line in report.blocks:
        b = line.block
        if b is None:
            lines.append(f"  slot {line.slot:2}  BAD: {line.trouble}")
            continue
        heard = ",".join(map(str, sorted(b.heard))) or "nobody"
        away = f"  agent away {b.agent_away_ms} ms" if b.agent_away_ms else ""
        lines.append(
            f"  slot {line.slot:2}  {b.state.value:8} term {b.term}  seq {b.seq}  "
            f"view {b.view_version}  hears {heard}  vms {b.vm_count}  "
            f"free {b.free_mib} MiB {b.free_vcpus} vcpus  dead after {b.dead_after_ms} ms{away}"
        )
        lines.append(
            f"           host {b.host_uuid}  boot {b.boot_id}  generation {b.generation}  "
            f"previous term {b.prev_term}"
        )
    lines += ["", f"registers: {len(report.registers)}"]
    for reg in report.registers:
        if reg.trouble:
            lines.append(f"  {reg.name}  version {reg.version}  BAD: {reg.trouble}")
        else:
            value = json.dumps(reg.value, sort_keys=True, ensure_ascii=False)
            lines.append(f"  {reg.name}  version {reg.version}  by {reg.writer}  {value}")
    lines += ["", "everything is sound" if report.sound else "THERE IS TROUBLE, see above"]
    return "\n".join(lines) + "\n"


def _blocks(pool: PoolDir, troubles: list[str]) -> tuple[bool, tuple[BlockLine, ...]]:
    try:
        with pool.area() as area:
            direct, pieces = area.direct, area.read_all()
    except (OSError, StorageTrouble) as error:
        troubles.append(f"the heartbeat area cannot be read: {error}")
        return True, ()
    try:
        its = decode_header(pieces[0])
        if its != pool.uuid:
            troubles.append(f"the heartbeat area belongs to another pool, {its}")
    except BadBlock as bad:
        troubles.append(f"the heartbeat area: {bad.sentence}")
    lines = []
    for slot, piece in enumerate(pieces[1:], 1):
        try:
            lines.append(BlockLine(slot, decode_block(piece, pool.uuid, slot)))
        except BadBlock as bad:
            if bad.kind != "empty":
                lines.append(BlockLine(slot, None, bad.sentence))
    return direct, tuple(lines)


def _registers(reg: Path, troubles: list[str]) -> Iterator[RegisterLine]:
    for kind in _entries(reg, troubles):
        if kind not in CLASSES:
            troubles.append(f"reg/{kind} is not a class of registers")
        elif kind in SINGLES:
            yield from _register(kind, reg / kind, troubles)
        else:
            for ident in _entries(reg / kind, troubles):
                yield from _register(f"{kind}/{ident}", reg / kind / ident, troubles)


def _on_etcd(pool: PoolDir, troubles: list[str]) -> Iterator[RegisterLine]:
    access = read_access(pool.root)
    try:
        found = Etcd(access).folder(FOLDER) if access is not None else {}
    except StorageTrouble as trouble:
        troubles.append(trouble.sentence)
        return
    for key, stands in sorted(found.items()):
        name = key.removeprefix(FOLDER)
        if name.partition("/")[0] not in CLASSES:
            troubles.append(f"{key} is not a class of registers")
            continue
        version = version_in(stands.data)
        try:
            record = record_parse(stands.data, name, version)
            yield RegisterLine(name, version, version, record.writer, record.value)
        except StorageTrouble as trouble:
            yield RegisterLine(name, version, version, "", None, trouble.sentence)


def _register(name: str, folder: Path, troubles: list[str]) -> Iterator[RegisterLine]:
    versions = sorted(v for entry in _entries(folder, troubles) if (v := version_of(entry)))
    if not versions:
        return
    newest = versions[-1]
    try:
        record = record_parse((folder / version_text(newest)).read_bytes(), name, newest)
        yield RegisterLine(name, newest, versions[0], record.writer, record.value)
    except StorageTrouble as trouble:
        yield RegisterLine(name, newest, versions[0], "", None, trouble.sentence)
    except OSError as error:
        yield RegisterLine(name, newest, versions[0], "", None, str(error))


def _entries(folder: Path, troubles: list[str]) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        troubles.append(f"{folder}: {error.strerror}")
        return []
