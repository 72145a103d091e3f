"""What a host saw when it said that another is silent, as pool/evidence.py makes it."""

from __future__ import annotations

EVIDENCE: dict[str, object] = {
    "blocks": {
        "kvm-02": {"readable": True, "state": "member", "unchanged_s": 15.2, "limit_s": 60.0,
                   "hears": [], "vms": 3, "seq": 9, "view": 7},
        "kvm-03": {"readable": True, "state": "member", "unchanged_s": 0.6, "limit_s": 60.0,
                   "hears": ["kvm-01"], "vms": 2, "seq": 9, "view": 7},
    },
    "heard_s_ago": {"kvm-02": 15.9, "kvm-03": 0.4},
    "reads": {"good": True, "good_for_s": 900.0},
    "limits": {"dead_s": 60.0, "link_lost_s": 12.0, "beat_s": 2.0},
    "view": {"version": 7, "master": "kvm-01", "members": ["kvm-01", "kvm-02", "kvm-03"]},
}  # fmt: skip
