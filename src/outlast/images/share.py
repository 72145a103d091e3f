"""What share of their rate the pool's own copies take, by the beats of their host (pure).

Each host judges by its own beats alone. All that share a storage which is too slow for them see
slow beats, so all give way, and come back little by little: as TCP shares a line.

Rules:
1. A beat that took longer than half of what the protocol lets pass (settings.hang_ns) halves the
   share, down to LEAST; each other one adds RISE, up to all of it.
2. Nothing at all while a beat is on its way for so long that the pool would begin to wonder whether
   its storage stands still (H): copies must not be why a proof of death has to wait.
3. A host that has no beats yet has no VMs to lose: its copies take all of it.
4. A piece, of which each copy has one on its way, is so small that those of all hosts together do
   not make a beat slow: the faster beats are, and the fewer hosts, the larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outlast.settings import Timing

LEAST, RISE = 1 / 256, 1 / 16
PIECE_LEAST, PIECE_MOST = 64 << 10, 1 << 20
BEATS_OF_PIECE = 4  # as long as a piece of the least size takes, on a disk that is nearly too slow


@dataclass(frozen=True, slots=True)
class Share:
    """value: 0 = stand still, 1 = all of their rate."""

    value: float = 1.0
    piece_bytes: int = PIECE_LEAST
    seq: int = 0  # of the newest beat that was judged


def slow_ns(timing: Timing) -> int:
    """A beat that takes longer is slow."""
    return (timing.hang_ns - timing.beat_ns) // 2


def judged(
    share: Share, sample: Mapping[str, Any], now_ns: int, timing: Timing, hosts: int
) -> Share:  # fmt: skip
    """The share from now on. sample: the pulse's newest good read; hosts: that may copy, too."""
    started_ns, ended_ns = (int(sample.get(key) or 0) for key in ("started_ns", "finished_ns"))
    seq = int(sample.get("seq") or 0)
    if not started_ns:
        return Share()
    if now_ns - started_ns > timing.hang_ns:
        return Share(0.0, PIECE_LEAST, seq)
    if seq == share.seq:
        return share
    took_ns, slow = max(1, ended_ns - started_ns), slow_ns(timing)
    if took_ns > slow:
        return Share(max(LEAST, share.value / 2), PIECE_LEAST, seq)
    piece = PIECE_LEAST * slow // (BEATS_OF_PIECE * max(1, hosts) * took_ns)
    piece = max(PIECE_LEAST, min(PIECE_MOST, 1 << piece.bit_length() >> 1))
    return Share(min(1.0, share.value + rise(share.value)), piece, seq)


def rise(value: float) -> float:
    """What a share gets back after a beat that was not slow: as much as it has, RISE at most."""
    return max(LEAST, min(value, RISE))
