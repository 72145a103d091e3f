"""Why a VM or a host is as it is, told from the notes of all hosts.

Rules:
1. The newest note about it is the answer; the notes that caused it, back to the first, are the
   reason. Nothing is concluded here that no note says.
2. Notes that only repeat or soften the state (a refused order, a link that is back) never answer
   while there is one that says what is.
"""

from __future__ import annotations

from collections.abc import Sequence

from outlast.errors import NotFound
from outlast.pool.causes import chain
from outlast.wire.shapes import TimelineEntry, Why

ABOUT_HOST = frozenset(
    {
        "host-silent", "host-off", "host-closed", "host-anew", "block-unreadable", "agent-away",
        "member", "not-member", "storage-sick", "storage-back", "time-given", "time-refused",
        "fence-begins", "fence-failed", "guard-ended",
    }
)  # fmt: skip
HINT = "outlast pool timeline --since 7d"


def why_vm(name: str, entries: Sequence[TimelineEntry]) -> Why:
    """Raises NotFound when no note tells of this VM."""
    about = [e for e in entries if e.fields.get("vm") == name]
    if not about:
        raise NotFound(f"no note tells of a VM '{name}'", hint=HINT)
    return _why(name, about[-1], entries)


def why_host(name: str, entries: Sequence[TimelineEntry]) -> Why:
    """Raises NotFound when no note tells of this host."""
    about = [e for e in entries if e.code in ABOUT_HOST and e.fields.get("host") == name]
    if not about:
        raise NotFound(f"no note tells of a host '{name}'", hint=HINT)
    return _why(name, about[-1], entries)


def _why(subject: str, last: TimelineEntry, entries: Sequence[TimelineEntry]) -> Why:
    plain = [e.model_dump() for e in entries]
    wanted = {str(e["id"]) for e in chain(plain, last.id)}
    steps = [e for e in entries if e.id in wanted]
    sentence = last.sentence
    if len(steps) > 1:
        sentence += f", because {steps[0].sentence}"
    return Why(subject=subject, sentence=sentence, since_wall_s=last.wall_s, steps=steps)
