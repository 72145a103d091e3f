"""What an agent gets from the pulse: one JSON object per cycle and per nudge.

    {"now_ns", "slot", "term", "prev_term",
     "state": looking | joining | member | closing | closed | denied,
     "alarm": sentence or "" (slot conflict, slot record), "reason": why the term is closing,
     "leaving": bool, "work_seq": of the own block,
     "guard": {status of the guard} | null,
     "sample": {"seq", "started_ns", "finished_ns", "good", "run_ns", "steady_ns", "run_reads"},
     "storage": {"ok", "error", "pending_ns"},
     "view": {view_to} | null,
     "blocks": {"2": {"valid", "still_ns", "block": {block_to_json} | null, "age_runs"}},
     "links": {"2": {"heard_ns_ago": n | null, "hears_me", "networks": {"0": n}}},
     "nudges": [{"slot", "work_seq", "hints": [[name, version]]}],
     "announced": {"view_version", "for_ns"}   for_ns -1: not read back yet,
     "excluded": {"2": {"term", "view_version", "for_ns"}},
     "registers_error": why settings or slot records could not be read,
     "extension": {"given": times since the last beat, "refused": {"2": why}},
     "drill": {"kind", "left_ms"} | {},
     "proposed": newest view this host's agent said it is about to write,
     "timing": name of the preset, "dropped": {reason: packets}, "networks": {"0": trouble}}

Rules:
1. Nanoseconds on this host's CLOCK_BOOTTIME; `sample` is the newest good read, `good` tells whether
   the newest cycle was one. `run_ns` is 0 while there is no run.
2. `age_runs` counts good reads in a row that showed the block unchanged; `blocks` holds the own
   slot too; a slot that was never written is absent.
3. `storage.ok` is false while no good read is younger than three beats.
4. Before the pool was read: the same shape, with state looking and the error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_net import Networks
from outlast.guard.pulse_windows import Instant, elapsed_least
from outlast.model import NO_TERM
from outlast.storage.format import block_to_json, view_to
from outlast.wire.beat import Ears

Json = dict[str, object]


def build(
    core: PulseCore | None, now_ns: int, *, guard: Mapping[str, object] | None,
    ears: Ears | None, storage_error: str, refresh_error: str, pending_ns: int,
    nudges: Sequence[Json], networks: Networks, slot: int, extension: Json, proposed: int,
    drill: Json,
) -> Json:  # fmt: skip
    """The snapshot of this moment."""
    sample = _sample(core)
    finished = core.windows.newest_end if core else None
    fresh = core is not None and finished is not None
    if core is not None and finished is not None:
        fresh = now_ns - finished.boot_ns <= core.timing.gap_ns
    error = (core.trouble if core else "") or storage_error
    return {
        "now_ns": now_ns,
        "slot": slot,
        "term": core.term if core else NO_TERM,
        "prev_term": core.prev_term if core else NO_TERM,
        "state": _state(core),
        "alarm": core.denied if core else "",
        "reason": core.reason if core else "",
        "leaving": core.leaving if core else False,
        "work_seq": core.work_seq if core else 0,
        "guard": guard,
        "sample": sample,
        "storage": {"ok": fresh and not storage_error, "error": error, "pending_ns": pending_ns},
        "view": view_to(core.view) if core and core.view else None,
        "blocks": _blocks(core),
        "links": _links(core, ears, now_ns, slot),
        "nudges": list(nudges),
        "announced": _announced(core),
        "excluded": _excluded(core),
        "registers_error": refresh_error,
        "extension": extension,
        "drill": drill,
        "proposed": proposed,
        "timing": core.timing.preset if core else "",
        "dropped": dict(ears.dropped) if ears else {},
        "networks": {str(n): said for n, said in networks.trouble.items()},
    }


def _state(core: PulseCore | None) -> str:
    if core is None:
        return "looking"
    return "denied" if core.denied else core.life.value


def _sample(core: PulseCore | None) -> Json:
    windows = core.windows if core else None
    start, end = (windows.newest_start, windows.newest_end) if windows else (None, None)
    return {
        "seq": core.seq if core else 0,
        "started_ns": start.boot_ns if start else 0,
        "finished_ns": end.boot_ns if end else 0,
        "good": core.good if core else False,
        "run_ns": windows.run_ns() if windows else 0,
        "steady_ns": windows.steady_ns() if windows else 0,
        "run_reads": windows.run_reads if windows else 0,
    }


def _blocks(core: PulseCore | None) -> Json:
    if core is None:
        return {}
    return {
        str(slot): {
            "valid": seen.valid,
            "still_ns": core.windows.still_ns(slot),
            "block": block_to_json(seen.block) if seen.block else None,
            "age_runs": seen.reads,
        }
        for slot, seen in core.windows.slots.items()
    }


def _links(core: PulseCore | None, ears: Ears | None, now_ns: int, own: int) -> Json:
    if core is None or ears is None:
        return {}
    slots = {*core.windows.slots, *(core.view.slots if core.view else ())} - {own}
    return {
        str(slot): {
            "heard_ns_ago": ears.ago_ns(slot, now_ns),
            "hears_me": ears.hears_me(slot),
            "networks": {str(n): ago for n, ago in ears.networks_ns(slot, now_ns).items()},
        }
        for slot in sorted(slots)
    }


def _for_ns(core: PulseCore, since: Instant | None) -> int:
    newest = core.windows.newest_start
    if since is None or newest is None:
        return -1
    return max(0, elapsed_least(since, newest))


def _announced(core: PulseCore | None) -> Json:
    followed = core.view.version if core and core.view else 0
    if core is None or core.announced is None or core.announced[0] != followed:
        return {"view_version": followed, "for_ns": -1}
    return {"view_version": followed, "for_ns": _for_ns(core, core.announced[1])}


def _excluded(core: PulseCore | None) -> Json:
    return {
        str(slot): {
            "term": gone.term,
            "view_version": gone.version,
            "for_ns": _for_ns(core, gone.since),
        }
        for slot, gone in (core.gone.items() if core else ())
        if core
    }
