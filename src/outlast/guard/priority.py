"""What keeps a small process running on time when its host is drowning.

Each function returns "" or a sentence saying why the kernel refused: a guard without these rights
is worse than one with them, but better than none, so a refusal is reported and never fatal.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MCL_CURRENT, MCL_FUTURE = 1, 2
PRIORITY = 50
SPARED = "-1000"


def lock_memory() -> str:
    """Keep all pages in memory: a fault could wait for the very disk that is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE) == 0:
        return ""
    return f"memory is not locked: {os.strerror(ctypes.get_errno())}"


def realtime(priority: int = PRIORITY) -> str:
    """Run before every ordinary process (SCHED_FIFO); children do not inherit it."""
    try:
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except OSError as trouble:
        return f"no real-time priority: {trouble.strerror}"
    return ""


def spare_from_oom() -> str:
    """Never be the one the kernel kills when memory runs out."""
    mine = Path("/proc/self/oom_score_adj")
    try:
        if mine.read_text().strip() != SPARED:  # the service manager may have done it
            mine.write_text(SPARED)
    except OSError as trouble:
        return f"not spared when memory runs out: {trouble.strerror}"
    return ""
