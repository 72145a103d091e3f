"""How grave an event is, by its code: what pages colour, and what a mail about it may wait for.

Rule: codes that pools may tell and that stand nowhere here are "info". Whoever adds a note to the
pool's journal thinks of its tone.
"""

from __future__ import annotations

BAD, WARN, OK, INFO = "bad", "warn", "ok", "info"
TONES = {
    BAD: {"host-silent", "host-off", "fence-failed", "not-member", "vm-crashed", "no-room",
          "start-failed", "guard-ended", "term-ended", "storage-sick", "time-refused", "held-down",
          "backup-failed"},
    WARN: {"block-unreadable", "link-down", "agent-away", "storm-brake", "order-refused",
           "order-late", "start-waits", "margin-small", "move-failed", "call-refused",
           "start-locked", "maintenance", "host-leaves", "time-given", "fence-begins",
           "drill-begins", "drill-refused", "network-lacks", "network-deaf", "beats-lost",
           "repository-lacks", "power-silent", "backup-late", "vm-mute",
           "cut-off-stays", "witness-lost"},
    OK: {"vm-runs", "vm-alive", "vm-moved", "member", "storage-back", "link-up", "in-service",
         "network-there", "network-heard", "beats-back", "repository-there", "power-answers",
         "witness-back"},
}  # fmt: skip
_TONE_OF = {code: tone for tone, codes in TONES.items() for code in codes}


def tone(code: str) -> str:
    return _TONE_OF.get(code, INFO)
