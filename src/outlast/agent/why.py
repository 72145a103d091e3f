"""Why a VM or a host is as it is, told from the notes of all hosts.

Rules:
1. The newest note about it is the answer; the notes that caused it, back to the first, are the
   reason. Nothing is concluded here that no note says.
2. Notes that only repeat, soften or follow the state (ASIDE) never answer while there is one that
   says what is.
3. Of a VM the same is told once more, briefly (account.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from outlast.agent.account import account, because, beyond
from outlast.errors import NotFound
from outlast.pool.causes import chain
from outlast.wire.shapes import TimelineEntry
from outlast.wire.why import Why

ABOUT_HOST = frozenset(
    {
        "host-silent", "host-off", "host-closed", "host-anew", "block-unreadable", "agent-away",
        "member", "not-member", "storage-sick", "storage-back", "time-given", "time-refused",
        "fence-begins", "fence-failed", "guard-ended", "term-ended",
    }
)  # fmt: skip
ASIDE = frozenset(
    {
        "order-refused",
        "backup-made",
        "backup-failed",
        "backup-late",
        "vm-alive",
        "vm-mute",
        "drill-begins",
    }
)
BACK = frozenset({"member", "storage-back"})  # a host is well again
HINT = "outlast pool timeline --since 7d"


def why_vm(name: str, entries: Sequence[TimelineEntry]) -> Why:
    """Raises NotFound when no note tells of this VM."""
    about = [e for e in entries if e.fields.get("vm") == name]
    if not about:
        raise NotFound(f"no note tells of a VM '{name}'", hint=HINT)
    last = ([e for e in about if e.code not in ASIDE] or about)[-1]
    why = _why(name, last, entries)
    more = {e.id for e in [*why.steps, *beyond(why.steps, last, entries)]}
    steps = [e for e in entries if e.id in more]
    told = {"steps": steps, "state": last.sentence, "account": account(steps, entries)}
    if len(why.steps) > 1:
        told["because"] = because(why.steps[0])
    return why.model_copy(update=told)


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
        joined = "; it began with this: " if last.code in BACK else ", because "
        sentence += joined + steps[0].sentence
    return Why(subject=subject, sentence=sentence, since_wall_s=last.wall_s, steps=steps)
