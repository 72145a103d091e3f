"""When a pool's drills are due: `sun 03:00` or `daily 03:00` (pure).

Rules:
1. The time is that of the host that keeps the appointment; wall clocks decide nothing else.
2. An appointment that nobody kept within LATE_S has passed; nothing is made up for.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from outlast.errors import InvalidInput

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LATE_S = 900.0
HINT = "like 'sun 03:00' or 'daily 03:00'; '' = no drills"


def check_when(text: str) -> None:
    """Raises InvalidInput for what is no appointment."""
    _read(text)


def due(text: str, now: datetime) -> str:
    """The newest appointment, when it is not later than LATE_S: 2026-11-29 03:00; "" else."""
    if not text:
        return ""
    day, hour, minute = _read(text)
    at = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    back = (now.weekday() - day) % 7 if day is not None else 0
    at -= timedelta(days=back)
    if at > now:
        at -= timedelta(days=7 if day is not None else 1)
    return f"{at:%Y-%m-%d %H:%M}" if (now - at).total_seconds() <= LATE_S else ""


def _read(text: str) -> tuple[int | None, int, int]:
    day, _, time = text.strip().lower().partition(" ")
    hour, colon, minute = time.partition(":")
    try:
        number = None if day == "daily" else DAYS.index(day)
        at = int(hour), int(minute)
    except ValueError:
        raise InvalidInput(f"'{text}' is no time for drills", hint=HINT) from None
    if not colon or not (0 <= at[0] < 24 and 0 <= at[1] < 60):
        raise InvalidInput(f"'{text}' is no time for drills", hint=HINT)
    return number, *at
