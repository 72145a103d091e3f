"""Every number of a pool, once: unit, default, reason; and the proof that they fit together.

The timing of a pool is chosen at its birth and lives on its storage (register `pool`), so that all
hosts agree. `check()` proves the relations of docs/PROTOCOL.md and refuses broken ones:

    (1) three beats fit into the fence window            3 * beat <= fence
    (2) the watchdog fires inside the kill window        watchdog <= kill
        and the storage settles within it                settle <= kill
    (3) a host's promise plus the settle time fits       (fence+kill)*(1+rho)^2 + settle < dead
    (4) the start margin leaves room to start            margin < fence / 2

A host's guard lets VMs run until D = start of the last confirmed beat + fence; by D + kill none
runs; `settle` lets the storage execute what it had accepted; only after `dead` may others act.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outlast.errors import Conflict, InvalidInput
from outlast.model import HaOff

MS = 1_000_000
S = 1_000_000_000
RHO = 0.001  # bound on the difference of two hosts' clock rates
PROTOCOL, PROTOCOL_OLDEST = 1, 1  # what this version speaks at best, and what it still speaks
LINK_LOST_BEATS = 6  # network beats lost in a row until a link counts as down


@dataclass(frozen=True, slots=True)
class Timing:
    """The clockwork of one pool. All values in nanoseconds, except the watchdog's seconds."""

    preset: str
    beat_ns: int  # interval of storage and network heartbeats
    fence_ns: int  # F: the longest total outage that kills nothing
    kill_ns: int  # K: by D + K no managed VM runs, the watchdog's time included
    watchdog_s: int  # W: time-out set in the watchdog device
    settle_ns: int  # X: time of answering storage until nothing old can still be executed
    dead_ns: int  # T_dead: an unchanged block proves death after this long
    partition_grace_ns: int  # a live host is excluded only after its links were bad this long

    @property
    def margin_ns(self) -> int:
        """S: nothing is started within this time before the deadline."""
        return self.beat_ns

    @property
    def dead_after_ms(self) -> int:
        """The promise a host publishes: it runs nothing this long after its last beat."""
        return int((self.fence_ns + self.kill_ns) * (1 + RHO)) // MS + 1

    @property
    def gap_ns(self) -> int:
        """G: a longer pause between good reads starts a new run of evidence."""
        return 3 * self.beat_ns

    @property
    def hang_ns(self) -> int:
        """H: a good read that ends later than this after the begin of the one before: storage may
        have stood still between them, and X begins anew."""
        return hang_ns(self.beat_ns, self.settle_ns)

    @property
    def link_lost_ns(self) -> int:
        return LINK_LOST_BEATS * self.beat_ns

    @property
    def tick_ns(self) -> int:
        """How often an agent looks when nothing wakes it."""
        return min(self.beat_ns, 1 * S)


def hang_ns(every_ns: int, settle_ns: int) -> int:
    """H of a storage that is asked so often; X = settle_ns."""
    return every_ns + settle_ns // 4


def _timing(
    preset: str, beat_s: float, fence_s: float, kill_s: float, watchdog_s: int, settle_s: float,
    dead_s: float, grace_s: float,
) -> Timing:  # fmt: skip
    ns = [round(v * S) for v in (beat_s, fence_s, kill_s, settle_s, dead_s, grace_s)]
    return Timing(preset, ns[0], ns[1], ns[2], watchdog_s, ns[3], ns[4], ns[5])


PRESETS: Mapping[str, Timing] = {
    t.preset: t
    for t in (
        # a rack of emulated hosts on one machine only; refused elsewhere
        _timing("lab", 0.2, 1.2, 1.3, 1, 0.3, 3.0, 2.0),
        # single-controller NFS whose stalls stay under 4 s
        _timing("quick", 1, 12, 6, 5, 3, 22, 30),
        # NFSv3 and arrays whose fail-over takes less than 25 s
        _timing("standard", 2, 40, 12, 10, 7, 60, 60),
        # HA-NFS, Gluster, CephFS, multipath queueing
        _timing("tolerant", 3, 90, 18, 15, 12, 121, 60),
        # NFSv4 servers with a 90 s grace period
        _timing("patient", 5, 150, 20, 15, 15, 186, 60),
    )
}
DEFAULT_PRESET = "standard"


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The register `pool`: what all hosts of a pool agree on."""

    name: str
    uuid: str
    timing: Timing
    watchdog: str = "automatic"  # off | automatic | required
    partition: str = "fence"  # fence | strict | hold: what to do about hosts that are cut off
    restart_limit: int = 5  # restarts of one VM ...
    restart_window_s: int = 600  # ... within this time; then it stays down until somebody looks
    ha_off: HaOff | None = None  # high availability is switched off for all VMs
    moves_at_once: int = 2  # live migrations a host sends, and receives, at the same time
    vcpu_ratio: float = 8.0  # virtual processors that a processor may carry
    memory_ratio: float = 1.0  # 1 = memory is never promised twice
    admission: str = "warn"  # off | warn | refuse: starts after which a host may not fail
    balance: str = "off"  # auto: the master evens the pool out by live migrations
    balance_moves_h: int = 6  # so many of them an hour
    cpu_mode: str = "auto"  # auto | baseline | host: which processor VMs see
    cpu: str = ""  # what all hosts have in common, in libvirt's words; "" = the host's own
    cpu_of: str = ""  # tells of which processors `cpu` was made
    move_connections: int = 1  # connections of one live migration
    protocol: int = 1  # what all hosts speak; raised by people when all hosts can
    join: str = "anyone"  # or "token": who may make a machine a host, from the second one on
    drill_vm: str = ""  # the canary VM of regular drills ...
    drill_kind: str = "vm"  # ... what is to fail ...
    drill_at: str = ""  # ... and when: sun 03:00, daily 03:00; "" = no regular drills
    witness: str = ""  # addresses that hosts ping, such as the gateway's; commas between; "" = none
    move_mib_s: int = 0  # what each of them may use of the network, MiB a second; 0 = all of it


def preset(name: str) -> Timing:
    """The named timing preset.

    Raises InvalidInput for a name that is not one.
    """
    try:
        return PRESETS[name]
    except KeyError:
        names = ", ".join(PRESETS)
        raise InvalidInput(f"there is no timing preset '{name}'", hint=f"one of: {names}") from None


def check_protocol(settings: PoolSettings) -> None:
    """Refuse a pool whose protocol this version does not speak.

    Raises Conflict saying which version is needed.
    """
    if settings.protocol > PROTOCOL:
        raise Conflict(
            f"pool '{settings.name}' speaks protocol {settings.protocol}, this version of Outlast "
            f"at most {PROTOCOL}",
            hint="install the version the other hosts have; 'outlast pool upgrade-check' names it",
        )
    if settings.protocol < PROTOCOL_OLDEST:
        raise Conflict(
            f"pool '{settings.name}' speaks protocol {settings.protocol}, this version of Outlast "
            f"no older one than {PROTOCOL_OLDEST}",
            hint="upgrade version by version, and end each with 'outlast pool upgrade'",
        )


def check(timing: Timing) -> None:
    """Refuse a timing that would let two hosts run one VM.

    Raises InvalidInput naming the broken relation and its numbers.
    """
    t = timing
    rules = (
        (min(t.beat_ns, t.fence_ns, t.kill_ns, t.settle_ns, t.dead_ns, t.watchdog_s) > 0,
         "every time must be positive"),
        (3 * t.beat_ns <= t.fence_ns,
         f"three beats ({3 * t.beat_ns / S:g} s) must fit into the fence window "
         f"({t.fence_ns / S:g} s)"),
        (t.watchdog_s * S <= t.kill_ns,
         f"the watchdog ({t.watchdog_s} s) must fire inside the kill window "
         f"({t.kill_ns / S:g} s)"),
        (t.settle_ns <= t.kill_ns,
         f"the settle time ({t.settle_ns / S:g} s) must not be longer than the kill window "
         f"({t.kill_ns / S:g} s)"),
        ((t.fence_ns + t.kill_ns) * (1 + RHO) ** 2 + t.settle_ns < t.dead_ns,
         f"fence {t.fence_ns / S:g} s + kill {t.kill_ns / S:g} s + settle {t.settle_ns / S:g} s "
         f"must stay below dead {t.dead_ns / S:g} s"),
        (2 * t.margin_ns < t.fence_ns, "the start margin must leave room to start"),
    )  # fmt: skip
    for holds, sentence in rules:
        if not holds:
            raise InvalidInput(
                f"this timing is refused: {sentence}", hint="choose one of the presets"
            )
