"""Every note the pool core can utter: one code, one sentence, its evidence as fields.

Rules:
1. A note says what was seen or decided and why, in words an operator understands at 3 a.m.
2. The sentence is made from the fields alone, so that log, timeline, scenario and replay agree.
3. Codes are stable. A code that no story utters is a code too many (tests/test_covered.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SENTENCES: Mapping[str, str] = {
    # this host
    "agent-started": "the agent of {host} runs, version {version}",
    "member": "{host} is a member of view {view}, slot {slot}",
    "not-member": "{host} is no longer a member: {why}; its VMs are ended here",
    "storage-sick": "{host} does not reach the pool's storage: {why}",
    "time-given": "nobody reaches the pool's storage: all others give {host} more time",
    "time-refused": "{host} gets no more time without storage: {why}",
    "guard-ended": "{host} went down {ago_s:.0f} s before its agent began again: {why}",
    "term-ended": "the guard of {host} ended {vms} while its agent was away: {why}",
    "margin-small": "a beat of {host} took {took_s:.1f} s of the {fence_s:g} s after which its VMs "
    "are ended{advice}",
    "record-waits": "{host} cannot write {what}: {why}; the pool goes on without",
    "record-back": "{host} writes {what} again",
    "journal-unread": "the notes of slot {slot} cannot be read: {why}",
    "network-lacks": "{host} does not have the network {network}: {why}",
    "network-deaf": "{host} does not hear {other} on the network {network} with packets of {mtu} "
    "bytes: look at cables, VLANs and sizes on the way before a VM moves",
    "network-heard": "{host} hears {other} on the network {network} again",
    "beats-lost": "{host} hears {other} no more on heartbeat network {network} ({address}), only "
    "on another one{why}",
    "beats-back": "{host} hears {other} on heartbeat network {network} again",
    "network-there": "{host} has the network {network} now",
    "backup-made": "{said}, as its schedule wants",
    "backup-failed": "{vm} was not backed up by {host}: {said}",
    "backup-late": "the backup of {vm} is made only now, {late_min} minutes after it was due",
    "repository-lacks": "{host} does not have the storage {repository}: {why}",
    "repository-there": "{host} has the storage {repository} now",
    "power-silent": "the power switch of {host} does not answer: {why}",
    "power-answers": "the power switch of {host} answers again",
    "call-refused": "{host} refused {caller} the call {call}: {why}{more}",
    "cpu-baseline": "{why}",
    "timing-changed": "{host} goes on with the timing '{preset}'; its agent begins anew",
    "storage-back": "{host} reaches the pool's storage again after {away_s:.1f} s",
    # other hosts
    "host-silent": "{host} is silent: its block is unchanged for {still_s:.1f} s, "
    "limit {limit_s:g} s",
    "fence-begins": "{host} is silent: {by} has its power switch switch it off",
    "fence-failed": "{host} is not known to be off, its silence is waited for: {why}",
    "host-off": "{host} is off for certain: {why}",
    "host-closed": "{host} ended its term in order: its block says {state}",
    "host-anew": "{host} begins a new term, so its old one is over",
    "block-unreadable": "the block of {host} cannot be read; that proves nothing about {host}",
    "link-down": "{host} and {other} do not hear each other",
    "link-up": "{host} and {other} hear each other again",
    "agent-away": "the agent of {host} is away for {away_s:.1f} s; its VMs run on",
    "storm-brake": "{count} of {members} hosts are silent at once: waiting until {until_s:g} s "
    "of silence before acting on it",
    # drills
    "drill-begins": "a drill: {host} {what}, for {for_s} s, as {by} wished; foreseen: {foreseen}",
    "drill-ended": "the drill '{kind}' of {host} went {how}: {why}",
    "drill-refused": "the drill '{kind}' of {host} does not take place: {why}",
    # views
    "view-changed": "view {view} is {members}, master {master}: {reason}",
    "cut-off-stays": "{hosts} cannot be reached for the whole grace, but nobody is excluded: "
    "that the witness ({witness}) is lost there is not shown; VMs run on where they are",
    "witness-lost": "{host} does not reach the pool's witness any more ({witness}); "
    "look at its way to the network of VMs' users",
    "witness-back": "{host} reaches the pool's witness again ({witness})",
    "swap-unknown": "whether {name} was written is not known; reading it again",
    # leases and orders
    "order-given": "{host} shall run {vm}: {why}",
    "order-refused": "an order to run {vm} is not carried out: {why}",
    "order-late": "{host} did not take {vm} within {late_s:.1f} s; choosing again",
    "start-waits": "{vm} waits with its start: {why}",
    "start-goes-on": "{vm} waits no longer than {after_s} s with its start, although {why}",
    "no-room": "{vm} stays down: {why}",
    "lease-taken": "lease of {vm} taken{over}, epoch {epoch}",
    "disk-work": "{host} works on the disks of {vm}: {why}",
    "lease-waits": "the lease of {vm} stays with {host}: {why}",
    "lease-freed": "lease of {vm} freed: {why}",
    # VMs
    "vm-starts": "{vm} is being started on {host}: {why}",
    "vm-runs": "{vm} runs on {host}",
    "vm-alive": "first sign of life from {vm} on {host}, {after_s:.1f} s after its QEMU began: "
    "{sign}",
    "vm-mute": "{vm} has run on {host} for {for_s} s without a sign of life: no guest agent "
    "answers, nothing came from its serial console or network card; look at its screen",
    "vm-adopted": "{vm} was running on {host} already and is kept",
    "vm-crashed": "{vm} died on {host}: {why}",
    "vm-shutdown": "{vm} shut itself down; it stays down until somebody starts it",
    "vm-shutdown-restart": "{vm} shut itself down; it shall run all the same and is started again",
    "vm-stops": "{vm} is being stopped on {host}: {why}",
    "vm-stopped": "{vm} is stopped",
    "vm-killed": "{vm} is ended on {host} at once: {why}",
    "move-begins": "{vm} begins to move from {host} to {to}: {why}",
    "move-failed": "{vm} stays on {host}: {why}",
    "lease-given": "lease of {vm} given to {to}: it ended on {host} with its copy there complete",
    "vm-moved": "{vm} came from {other} without a stop and runs on {host}",
    "balancing": "{moves}: that evens out the pool; moves in the plan: {count}, "
    "deviation {before:.3f} -> {after:.3f}",
    "maintenance": "{host} is in maintenance: {why}; its VMs move away",
    "host-leaves": "{host} {what}: what it still runs is started elsewhere",
    "in-service": "{host} is in service again",
    "start-failed": "{vm} did not start on {host}: {why}",
    "start-locked": "the disk of {vm} is still locked by its former host; trying again",
    "held-down": "{vm} stays down until somebody starts it: {why}",
}


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened, with its evidence."""

    code: str
    fields: Mapping[str, object]

    @property
    def sentence(self) -> str:
        return SENTENCES[self.code].format_map(self.fields)

    @property
    def vm(self) -> str:
        return str(self.fields.get("vm", ""))


def note(code: str, **fields: object) -> Note:
    """A note; its fields must fill the sentence (KeyError otherwise, found by any test)."""
    made = Note(code, fields)
    _ = made.sentence
    return made
