"""One moment as a host saw it, out of a note's evidence: who heard whom, and how each beat stood.

What the evidence does not say is drawn as not known, never guessed: of a beat only the time since
its last change was seen, so what came before that is not drawn as beats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outlast.manager.web.pictures.matrix import HEARD, UNHEARD, UNKNOWN, Listener, matrix
from outlast.manager.web.pictures.strip import TICKS, strip

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Trace:
    host: str
    picture: str  # SVG
    words: str


def hearing(evidence: Json, observer: str, name: str) -> str:
    """Who heard whom, as SVG; "" when that was not seen. name: tells pictures of a page apart."""
    blocks, limits = _part(evidence, "blocks"), _part(evidence, "limits")
    if not blocks:
        return ""
    members = {str(m) for m in _list(_part(evidence, "view").get("members"))}
    lost_s, gap_s = _number(limits.get("link_lost_s")), 3 * _number(limits.get("beat_s"))
    ages = {host: _number(age) for host, age in _part(evidence, "heard_s_ago").items()}
    mine = frozenset(host for host, age in ages.items() if age < lost_s)
    good = bool(_part(evidence, "reads").get("good"))
    deaf = frozenset(ages) - mine
    rows = [Listener(observer, observer in members, mine, deaf,
                     HEARD if good else UNHEARD)]  # fmt: skip
    for host, block in blocks.items():
        said = block if isinstance(block, Mapping) else {}
        known = "hears" in said and all(isinstance(h, str) for h in _list(said["hears"]))
        hears = frozenset(map(str, _list(said["hears"]))) if known else frozenset()
        unheard = frozenset(members - hears - {host}) if known else frozenset()
        storage = UNKNOWN
        if said.get("readable") and gap_s:
            storage = HEARD if _number(said.get("unchanged_s")) < gap_s else UNHEARD
        rows.append(Listener(host, host in members, hears, unheard, storage))
    return matrix(sorted(rows, key=lambda row: row.name), name)


def traces(evidence: Json) -> list[Trace]:
    """How the heartbeat of each other host stood, on the storage."""
    beat_s = _number(_part(evidence, "limits").get("beat_s"))
    found = []
    for host, block in sorted(_part(evidence, "blocks").items()):
        if not isinstance(block, Mapping) or beat_s <= 0:
            continue
        still_s, limit_s = _number(block.get("unchanged_s")), _number(block.get("limit_s"))
        words = f"unchanged for {still_s:.1f} s"
        words += f" of {limit_s:g} s" if limit_s else ", it cannot be read"
        missed = min(int(still_s / beat_s), TICKS)
        last = ["late" if missed else "ok"] if missed < TICKS else []
        found.append(Trace(host, strip([*last, *["missed"] * missed], f"{host}: {words}"), words))
    return found


def _part(evidence: Json, name: str) -> Json:
    found = evidence.get(name)
    return found if isinstance(found, Mapping) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
