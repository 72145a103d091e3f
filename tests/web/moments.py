"""What a host saw at one moment, as pool/evidence.py makes it."""

from __future__ import annotations

from collections.abc import Sequence

BEATS = "o" * 24


def evidence(
    observer: str, names: Sequence[str], silent: str = "", still_s: float = 0,
    deaf: tuple[str, str] = ("", ""),
) -> dict[str, object]:  # fmt: skip
    """silent: a host that has not written for so long. deaf: two that do not hear each other."""
    others = [name for name in names if name != observer]
    missed = min(len(BEATS), int(still_s / 2))
    still = BEATS[missed:] + "m" * missed

    def hears(a: str) -> list[str]:
        return [b for b in names if silent not in (a, b) and a != b and {a, b} != {*deaf}]

    blocks = {
        name: {"readable": True, "state": "member", "limit_s": 15.0, "seq": 9, "view": 7, "vms": 3,
               "unchanged_s": still_s if name == silent else 0.6, "hears": hears(name)}
        for name in others
    }  # fmt: skip
    return {
        "blocks": blocks,
        "heard_s_ago": {n: 0.4 if n in hears(observer) else still_s + 13 for n in others},
        "reads": {"good": True, "good_for_s": 900.0},
        "limits": {"dead_s": 15.0, "link_lost_s": 12.0, "beat_s": 2.0},
        "view": {"version": 7, "master": names[2], "members": list(names)},
        "traces": {n: dict.fromkeys(("storage", "network"), still if n == silent else BEATS)
                   for n in others},
    }  # fmt: skip
