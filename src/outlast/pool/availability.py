"""Whether a VM is highly available now, and if not, why: the switches of the VM and of the pool.

Rules:
1. A switch that is off has a reason, a person and, if wished, an end; past its end it is on again,
   without anybody's doing. Ends are by wall clock: they are for people, nothing safe hangs on them.
2. A VM that is not highly available when it dies, or its host does, stays down until somebody
   starts it. Switching HA on again starts nothing.
"""

from __future__ import annotations

from outlast.model import HaOff, Lease, VmRecord
from outlast.pool.facts import Facts


def off(facts: Facts, record: VmRecord) -> str:
    """Why it would not be started again now, in a part of a sentence; "" = it would."""
    if not record.ha:
        return "it is not highly available"
    for switch, whose in ((record.ha_off, "its"), (facts.ha_off, "the pool's")):
        if holds(switch, facts.wall_s):
            assert switch is not None
            by = f" by {switch.by}" if switch.by else ""
            why = f": {switch.why}" if switch.why else ""
            return f"{whose} HA was switched off{by}{why}"
    return ""


def holds(switch: HaOff | None, wall_s: int) -> bool:
    """True while this switch is off."""
    return switch is not None and (not switch.until_wall_s or wall_s < switch.until_wall_s)


def started_since(record: VmRecord, lease: Lease) -> bool:
    """True when somebody wished to start it after its holder had taken the lease."""
    return record.start_seq > lease.start_seq
