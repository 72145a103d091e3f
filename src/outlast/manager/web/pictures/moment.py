"""One moment as a host saw it, out of a note's evidence: who heard whom, how the beats came in.

What the evidence does not say is drawn as not known, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outlast.manager.web.pictures.matrix import (
    HEARD,
    UNHEARD,
    UNKNOWN,
    Listener,
    faults,
    matrix,
)
from outlast.manager.web.pictures.strip import strip

Json = Mapping[str, object]
TICKS = {"o": "ok", "l": "late", "m": "missed"}
TOLD_MAX = 6  # sentences about links; the picture has all


@dataclass(frozen=True, slots=True)
class Trace:
    """The beats of one host as the observer saw them, in SVG and in words."""

    host: str
    storage: str
    network: str
    words: str


def hearing(evidence: Json, observer: str, name: str) -> str:
    """Who heard whom, as SVG; "" when that was not seen. name: tells pictures of a page apart."""
    rows = _rows(evidence, observer)
    return matrix(rows, name) if rows else ""


def traces(evidence: Json) -> list[Trace]:
    """How the heartbeat of each other host came in, oldest first."""
    kept, found = _part(evidence, "traces"), []
    for host, block in sorted(_part(evidence, "blocks").items()):
        if not isinstance(block, Mapping):
            continue
        still_s, limit_s = _number(block.get("unchanged_s")), _number(block.get("limit_s"))
        words = f"unchanged for {still_s:.1f} s"
        words += f" of {limit_s:g} s" if limit_s else ", it cannot be read"
        storage, network = (_strip(kept, host, way) for way in ("storage", "network"))
        found.append(Trace(host, storage, network, words))
    return found


def told(evidence: Json, observer: str) -> str:
    """What the pictures show, in plain words."""
    rows, blocks = _rows(evidence, observer), _part(evidence, "blocks")
    if not rows:
        return ""
    said, gone = [], set[str]()
    if not _part(evidence, "reads").get("good"):
        said.append(f"{observer} itself does not get through to the storage, so that what it "
                    "says of others there is old")  # fmt: skip
    for row in rows:
        block = blocks.get(row.name)
        if not row.member or not isinstance(block, Mapping):
            continue
        if not block.get("readable"):
            said.append(f"the block of {row.name} cannot be read, which proves nothing")
        elif row.storage == UNHEARD:
            heard = any(row.name in other.hears for other in rows)
            said.append(
                f"{row.name} has written nothing for {_number(block.get('unchanged_s')):.1f} s; "
                f"at {_number(block.get('limit_s')):g} s its VMs may be started elsewhere; "
                f"{'it is still heard over the network' if heard else 'nobody hears it'}"
            )
            gone.add(row.name)
    members = [row for row in rows if row.member and row.name not in gone]
    wrong = [fault for fault in faults(members) if "beats on the storage" not in fault]
    said += wrong[:TOLD_MAX]
    if len(wrong) > TOLD_MAX:
        said.append(f"{len(wrong) - TOLD_MAX} more pairs do not hear each other")
    if not wrong and len(members) > 1:
        said.append(f"{_listed([row.name for row in members])} write and hear each other")
    return "; ".join(said)


def _strip(traces: Json, host: str, way: str) -> str:
    letters = str(_part(traces, host).get(way, ""))
    title = f"{way.capitalize()} beats of {host}"
    return strip([TICKS.get(letter, "none") for letter in letters], title)


def _rows(evidence: Json, observer: str) -> list[Listener]:
    blocks, limits = _part(evidence, "blocks"), _part(evidence, "limits")
    if not blocks:
        return []
    members = {str(m) for m in _list(_part(evidence, "view").get("members"))}
    members |= {str(m) for m in _list(_part(evidence, "view_before").get("members"))}
    lost_s, gap_s = _number(limits.get("link_lost_s")), 3 * _number(limits.get("beat_s"))
    ages = {host: _number(age) for host, age in _part(evidence, "heard_s_ago").items()}
    mine = frozenset(host for host, age in ages.items() if age < lost_s)
    good = bool(_part(evidence, "reads").get("good"))
    deaf = frozenset(ages) - mine
    rows = [Listener(observer, observer in members, mine, deaf, HEARD if good else UNHEARD)]
    for host, block in blocks.items():
        said = block if isinstance(block, Mapping) else {}
        known = "hears" in said and all(isinstance(h, str) for h in _list(said["hears"]))
        hears = frozenset(map(str, _list(said["hears"]))) if known else frozenset()
        unheard = frozenset(members - hears - {host}) if known else frozenset()
        storage = UNKNOWN
        if said.get("readable") and gap_s:
            storage = HEARD if _number(said.get("unchanged_s")) < gap_s else UNHEARD
        rows.append(Listener(host, host in members, hears, unheard, storage))
    return sorted(rows, key=lambda row: row.name)


def _listed(names: Sequence[str]) -> str:
    if len(names) > TOLD_MAX:
        return f"all {len(names)} others"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _part(evidence: Json, name: str) -> Json:
    found = evidence.get(name)
    return found if isinstance(found, Mapping) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
