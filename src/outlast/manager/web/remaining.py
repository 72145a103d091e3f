"""How long a wish on its way still takes, told from how far it is (pure).

Rule: no word rather than a wrong one. Nothing is told before FROM_PERCENT and FROM_S, when little
is known, nor from TO_PERCENT on, when what is left is no matter of amount any more.
"""

from __future__ import annotations

import math

FROM_PERCENT, TO_PERCENT = 5.0, 99.0
FROM_S = 5.0


def left_words(percent: float | None, passed_s: float) -> str:
    """Like "about 3 min left"; "" = nobody can say. It goes on as fast as so far."""
    if percent is None or passed_s < FROM_S or not FROM_PERCENT <= percent < TO_PERCENT:
        return ""
    left_s = passed_s * (100.0 - percent) / percent
    if left_s < 10:
        return "less than 10 s left"
    if left_s <= 90:
        return f"about {math.ceil(left_s / 10) * 10} s left"
    if left_s <= 90 * 60:
        return f"about {math.ceil(left_s / 60)} min left"
    return f"about {math.ceil(left_s / 3600)} h left"
