"""What happened to a VM, told briefly from the notes that led to where it is.

Rules:
1. Each part is one note in short words, with the time of the thing itself: a host that is silent
   wrote its last block before somebody said so.
2. What several hosts saw is told once, with all of them.
3. A note without short words stands there as it is. Nothing is concluded that no note says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from outlast.pool.causes import DEATHS
from outlast.wire.shapes import TimelineEntry
from outlast.wire.why import Moment
from outlast.words import plural

TOGETHER_S = 120.0  # hosts that say the same of a host within this time speak of the same death
PROVEN = " lost it, proof: silent"  # behind a host's name, in the reason of an order
FELL: Mapping[str, str] = {
    "host-silent": "{host} fell silent",
    "host-off": "{host} is off for certain",
    "host-closed": "{host} ended its term",
    "host-anew": "{host} began anew",
    "vm-crashed": "{vm} died on {host}",
    "drill-begins": "a drill of {host} began",
}
Entries = Sequence[TimelineEntry]


def beyond(steps: Entries, last: TimelineEntry, entries: Entries) -> list[TimelineEntry]:
    """Notes that belong to the story of `steps` and caused none of them.

    The views that followed from a death, what a host that is back says of its own end, and the
    sign of life of a VM that runs.
    """
    deaths = {e.id: str(e.fields.get("host")) for e in steps if e.code in DEATHS}
    found: list[TimelineEntry] = []
    views = set[object]()
    for entry in entries:
        view, of_a_death = entry.fields.get("view"), not deaths.keys().isdisjoint(entry.causes)
        members = set(str(entry.fields.get("members", "")).split())
        fits = {
            "view-changed": of_a_death and view not in views and not members & {*deaths.values()},
            "guard-ended": of_a_death,
            "vm-alive": last.id in entry.causes,
            "vm-mute": last.id in entry.causes,
        }
        if fits.get(entry.code):
            found.append(entry)
            views.add(view)
    return found


def because(first: TimelineEntry) -> str:
    """What began it."""
    if first.code == "order-given":
        return str(first.fields.get("why", "")).partition("; ")[0]
    return FELL[first.code].format_map(first.fields) if first.code in FELL else first.sentence


def account(steps: Entries, entries: Entries) -> list[Moment]:
    """The steps in short words, oldest first. entries: all notes of the time around."""
    moments: list[Moment] = []
    for step in steps:
        moments += _WORDS.get(step.code, _as_it_is)(step, entries)
    return moments


def _silent(step: TimelineEntry, entries: Entries) -> list[Moment]:
    host = step.fields.get("host")
    around = [e for e in entries if abs(e.wall_s - step.wall_s) < TOGETHER_S]
    seen = [e for e in around if e.code == step.code and e.fields.get("host") == host]
    # whoever gave an order because of it saw it too, and may have told nothing but the order
    orders = [e for e in around if str(e.fields.get("why", "")).startswith(f"{host}{PROVEN}")]
    still_s, by = max(_number(e, "still_s") for e in seen), {e.host for e in [*seen, *orders]}
    return [
        Moment(words=f"{host} wrote its last block", wall_s=step.wall_s - _number(step, "still_s")),
        Moment(words=f"{_listed(sorted(by))} saw it silent for {still_s:.1f} s"),
    ]


def _chosen(step: TimelineEntry, _: Entries) -> list[Moment]:
    candidates = step.fields.get("candidates")
    count = len(candidates) if isinstance(candidates, list) else 0
    of = f" of {plural(count, 'candidate')}" if count else ""
    reason = str(step.fields.get("why", "")).partition("; ")[2]
    told = f": {reason.replace('; ', ', ')}" if reason else ""
    return [Moment(words=f"{step.fields.get('host')} was chosen{of}{told}", wall_s=step.wall_s)]


def _view(step: TimelineEntry, _: Entries) -> list[Moment]:
    members = ", ".join(str(step.fields.get("members", "")).split())
    return [Moment(words=f"view {step.fields.get('view')} ({members})", wall_s=step.wall_s)]


def _lease(step: TimelineEntry, _: Entries) -> list[Moment]:
    proof = str(step.fields.get("over", "")).partition("proof: ")[2]
    said = f" with proof '{proof}'" if proof else ""
    return [Moment(words=f"lease taken{said}", wall_s=step.wall_s)]


def _alive(step: TimelineEntry, _: Entries) -> list[Moment]:
    words = f"first sign of life from the guest ({step.fields.get('sign')})"
    return [Moment(words=words, wall_s=step.wall_s)]


def _runs(step: TimelineEntry, _: Entries) -> list[Moment]:
    return [Moment(words="QEMU running", wall_s=step.wall_s)]


def _post_mortem(step: TimelineEntry, _: Entries) -> list[Moment]:
    words = f"{step.fields.get('host')} itself says since: {step.fields.get('why')}"
    return [Moment(words=words, wall_s=step.wall_s)]


def _died(step: TimelineEntry, _: Entries) -> list[Moment]:
    return [Moment(words=str(step.fields.get("why")), wall_s=step.wall_s)]


def _drill(step: TimelineEntry, _: Entries) -> list[Moment]:
    words = f"drill '{step.fields.get('kind')}', as {step.fields.get('by')} wished"
    return [Moment(words=words, wall_s=step.wall_s)]


def _as_it_is(step: TimelineEntry, _: Entries) -> list[Moment]:
    return [Moment(words=step.sentence, wall_s=step.wall_s)]


def _nothing(step: TimelineEntry, _: Entries) -> list[Moment]:
    """Others say it: the order why, the next note when."""
    return []


_WORDS: Mapping[str, Callable[[TimelineEntry, Entries], list[Moment]]] = {
    "host-silent": _silent, "order-given": _chosen, "view-changed": _view, "lease-taken": _lease,
    "vm-starts": _nothing, "vm-runs": _runs, "vm-alive": _alive, "guard-ended": _post_mortem,
    "vm-crashed": _died, "drill-begins": _drill,
}  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _number(entry: TimelineEntry, name: str) -> float:
    found = entry.fields.get(name)
    return float(found) if isinstance(found, int | float) else 0.0
