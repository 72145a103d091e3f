"""Faults of one host's storage path, and which requests they hit (pure).

A rule as JSON: {"mode": "hang"}, {"mode": "fail", "errno": "EIO"}, {"mode": "slow", "ms": 800},
{"mode": "lost-reply"}, {"mode": "ok"}; each may carry "path" (a regular expression searched in
the path below the pool, "/hb") and "ops" (names of operations, ["write", "fsync"]).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass

from outlast.errors import InvalidInput
from outlast.rack.fuse import NAMES

MODES = ("ok", "hang", "fail", "slow", "lost-reply")
SLOW_MAX_MS = 600_000


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to matching requests; everything else passes."""

    mode: str = "ok"
    errno: int = errno.EIO
    delay_s: float = 0.0
    path: re.Pattern[str] | None = None
    ops: frozenset[str] = frozenset()

    def hits(self, op: int, path: str) -> bool:
        if self.mode == "ok" or (self.ops and NAMES.get(op, "") not in self.ops):
            return False
        return self.path is None or self.path.search(path) is not None

    def as_json(self) -> dict[str, object]:
        out: dict[str, object] = {"mode": self.mode}
        if self.mode == "fail":
            out["errno"] = errno.errorcode[self.errno]
        if self.mode == "slow":
            out["ms"] = round(self.delay_s * 1000)
        if self.path is not None:
            out["path"] = self.path.pattern
        if self.ops:
            out["ops"] = sorted(self.ops)
        return out


def parse(value: Mapping[str, object]) -> Rule:
    """The rule of a JSON object. Raises InvalidInput naming what is wrong with it."""
    mode = value.get("mode")
    if mode not in MODES:
        raise InvalidInput(f"no storage fault '{mode}'", hint="one of: " + ", ".join(MODES))
    ops = value.get("ops") or []
    if not isinstance(ops, list) or any(op not in NAMES.values() for op in ops):
        raise InvalidInput(
            f"unknown operation in {ops}", hint="known: " + ", ".join(sorted(NAMES.values()))
        )
    return Rule(str(mode), _code(value), _delay_s(value), _pattern(value), frozenset(ops))


def _code(value: Mapping[str, object]) -> int:
    name = str(value.get("errno") or "EIO")
    code = getattr(errno, name, None)
    if not isinstance(code, int) or name not in errno.errorcode.values():
        raise InvalidInput(f"no error named '{name}'", hint="a name such as EIO, ENOSPC, EROFS")
    return code


def _delay_s(value: Mapping[str, object]) -> float:
    ms = value.get("ms") or 0
    if isinstance(ms, bool) or not isinstance(ms, int | float) or not 0 <= ms <= SLOW_MAX_MS:
        raise InvalidInput(f"a delay of {ms} ms cannot be", hint=f"0 to {SLOW_MAX_MS}")
    return ms / 1000


def _pattern(value: Mapping[str, object]) -> re.Pattern[str] | None:
    text = value.get("path")
    if not text:
        return None
    try:
        return re.compile(str(text))
    except re.error as error:
        raise InvalidInput(f"'{text}' is no regular expression: {error}") from None
