"""Wishes about hosts: maintenance, service, power-off. They stand in the host's slot record.

Rules:
1. As for VMs (wishes.py): read, change, write if nobody else wrote meanwhile, durable before the
   answer. The pool carries it out, whoever is master.
2. A power-off is wished for one boot of the host: the same wish says nothing after it is on again.
3. That a host is off is believed of one term only, and refused of a host that is heard or writes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from outlast.agent.macs import bare
from outlast.agent.service import Service
from outlast.agent.wake import wake
from outlast.errors import Conflict, NotFound, PoolTrouble, StorageTrouble
from outlast.model import Fence, Move, SlotRecord, VmRecord
from outlast.pool.facts import Facts, Held
from outlast.settings import S, Timing
from outlast.storage.names import check_name
from outlast.storage.register import Outcome
from outlast.wire.shapes import BadField, HostWish

TRIES, PAUSE_S = 5, 0.05
WHY_MAX = 200
Edit = Callable[[SlotRecord], SlotRecord]


class HostWishes:
    def __init__(
        self, service: Service, wake: Callable[[Iterable[str], Iterable[str]], int] = wake
    ) -> None:
        """wake: wakes these hardware addresses from these addresses of ours; packets sent."""
        self._service, self._wake = service, wake

    def maintain(self, name: str, why: str) -> HostWish:
        """Let it run no VMs for a while. Raises NotFound, BadField, StorageTrouble."""
        text = why.strip() or "somebody wished it"
        if len(text) > WHY_MAX or any(ord(c) < 32 for c in text):
            raise BadField("why: one line of at most 200 characters", field="why")
        said = f"{name} is in maintenance; its VMs move away"
        return self._change(name, lambda r: replace(r, maintenance=text), said)

    def serve(self, name: str, *, bring_back: bool) -> HostWish:
        """End its maintenance; bring_back: what moved away for it moves back.

        Raises NotFound, StorageTrouble.
        """
        done = self._change(
            name,
            lambda r: replace(r, maintenance="", power_off="", leave=""),
            f"{name} is in service",
        )
        back = self._bring_back(name) if bring_back else []
        if not back:
            return done
        sentence = f"{done.sentence}; {', '.join(back)} shall move back"
        return done.model_copy(update={"sentence": sentence})

    def power_off(self, name: str) -> HostWish:
        """Switch it off, once: HA VMs still on it are started elsewhere at once.

        Raises NotFound, Conflict when it is off or does not say which boot it is, StorageTrouble.
        """
        facts = self._facts()
        boot_id = self._boot_id(name, facts)
        said = f"{name} shall be switched off"
        return self._change(name, lambda r: replace(r, power_off=boot_id), said)

    def leave(self, name: str) -> HostWish:
        """Let it leave the pool and stay on. HA VMs still on it are started elsewhere at once.

        Raises as power_off does.
        """
        boot_id = self._boot_id(name, self._facts())
        said = f"{name} shall leave the pool"
        return self._change(name, lambda r: replace(r, leave=boot_id), said)

    def remove(self, name: str) -> HostWish:
        """Take its slot away for good. Raises NotFound, Conflict while it is a member."""
        facts = self._facts()
        slot = self._slot(name, facts)
        if facts.view is not None and slot in facts.view.members:
            raise Conflict(
                f"{name} is a member of the pool",
                hint=f"'outlast host remove {name}' moves its VMs away and lets it leave first",
            )
        said = f"{name} is no host of this pool any more"
        bound = sorted(vm for vm, held in facts.vms.items() if list(held.value.preferred) == [name])
        if bound:
            said += f"; {', '.join(bound)} may run nowhere else: see 'outlast vm set --help'"
        return self._change(
            name,
            lambda r: replace(r, active=False, maintenance="", power_off="", leave=""),
            said,
        )

    def power_on(self, name: str) -> HostWish:
        """Wake it, by the hardware addresses it gave when it was on.

        Raises NotFound, Conflict when nobody knows how.
        """
        facts = self._facts()
        slot = self._slot(name, facts)
        record = facts.slots[slot]
        if slot == facts.me.slot or (facts.view is not None and slot in facts.view.members):
            return HostWish(name=name, changed=False, sentence=f"{name} is a member: it is on")
        if not record.macs:
            raise Conflict(f"{name} never said which network card would wake it",
                           hint="switch it on by hand")  # fmt: skip
        me = facts.slots.get(facts.me.slot)
        sent = self._wake(record.macs, [bare(a) for a in me.addresses] if me else [])
        if not sent:
            raise Conflict(f"{facts.me.host} could not send the packets that wake {name}",
                           hint="ask another host, with --agent")  # fmt: skip
        return HostWish(
            name=name, changed=True,
            sentence=f"{name} is being woken: {sent} packets to {', '.join(record.macs)}",
        )  # fmt: skip

    def confirm_off(self, name: str, why: str, caller: str) -> HostWish:
        """Somebody has seen that it is off: its VMs need not wait for T_dead.

        Raises NotFound, Conflict while it shows any sign of life, StorageTrouble.
        """
        facts, timing = self._facts(), self._service.picture.settings.timing
        slot = self._slot(name, facts)
        term = _silent_term(facts, timing, slot)
        held = self._service.read_fence(slot)
        if held is not None and held.value.term == term:
            return HostWish(name=name, changed=False, sentence=f"{name} counts as off already")
        fence = Fence(slot, term, caller, "person", why.strip()[:WHY_MAX], int(time.time()))
        answer = self._service.write_fence(held.version if held else 0, fence)
        if answer.outcome is not Outcome.OK:
            raise StorageTrouble(
                f"the storage did not say whether it is written that {name} is off",
                hint="say it again; that does no harm",
            )
        wait_s = max(timing.settle_ns, 3 * timing.beat_ns) / S
        said = f"{name} counts as off; what it ran starts elsewhere within about {wait_s:.0f} s"
        return HostWish(name=name, changed=True, sentence=said)

    # ---- parts

    def _facts(self) -> Facts:
        facts = self._service.picture.facts
        if facts is None or not facts.registers_ready:
            raise PoolTrouble("this host knows nothing of the pool yet", hint="try again")
        return facts

    def _slot(self, name: str, facts: Facts) -> int:
        check_name(name, "host name")
        for slot, record in facts.slots.items():
            if record.active and record.host == name:
                return slot
        known = ", ".join(sorted(r.host for r in facts.slots.values() if r.active))
        raise NotFound(f"there is no host '{name}' in this pool", hint=f"its hosts: {known}")

    def _boot_id(self, name: str, facts: Facts) -> str:
        slot = self._slot(name, facts)
        if slot == facts.me.slot:
            return self._service.boot_id
        seen = facts.seen.get(slot)
        listed = facts.view is not None and slot in facts.view.members
        if seen is None or seen.block is None or not listed:
            raise Conflict(f"{name} is no member of the pool now: it is off, or is being ended")
        return seen.block.boot_id

    def _change(self, name: str, edit: Edit, said: str) -> HostWish:
        slot = self._slot(name, self._facts())
        for _ in range(TRIES):
            held = self._service.read_slot(slot)
            if held is None or held.value.host != name:
                raise NotFound(f"there is no host '{name}' in this pool any more")
            record = edit(held.value)
            if record == held.value:
                return HostWish(name=name, changed=False, sentence=f"{said} already")
            answer = self._service.write_slot(held.version, record)
            if answer.outcome is Outcome.OK:
                return HostWish(name=name, changed=True, sentence=said)
            if answer.outcome is Outcome.UNKNOWN:
                raise StorageTrouble(
                    f"the storage did not say whether the wish about {name} was written",
                    hint="look with 'outlast host list'; wishing it again does no harm",
                )
            time.sleep(PAUSE_S)
        raise Conflict(f"others change '{name}' all the time", hint="try again in a moment")

    def _bring_back(self, name: str) -> list[str]:
        """VMs that left this host for maintenance and run elsewhere: wish them back."""
        found = []
        for vm, held in sorted(self._facts().vms.items()):
            if held.value.away_from == name and self._wish_back(vm, held, name):
                found.append(vm)
        return found

    def _wish_back(self, vm: str, held: Held[VmRecord] | None, host: str) -> bool:
        for _ in range(TRIES):
            held = self._service.read_vm(vm)
            if held is None or held.value.away_from != host or not held.value.wanted:
                return False
            wish = Move(secrets.token_hex(8), host, f"{host} is in service again")
            record = replace(held.value, move=wish, away_from="")
            if self._service.write_vm(held.version, record).outcome is Outcome.OK:
                return True
            time.sleep(PAUSE_S)
        return False


def _silent_term(facts: Facts, timing: Timing, slot: int) -> str:
    """The term of a host that shows no sign of life. Raises Conflict when it shows one."""
    seen, name = facts.seen.get(slot), facts.host(slot)
    sign = ""
    if slot == facts.me.slot:
        sign = "it answers this very call"
    elif facts.links.get(slot, timing.dead_ns) < timing.link_lost_ns:
        sign = "its heartbeat is heard over the network"
    elif seen is not None and seen.block is not None and seen.still_ns < timing.gap_ns:
        sign = "it writes to the storage"
    if sign:
        raise Conflict(f"{name} is on: {sign}", hint="nothing was changed")
    if seen is None or seen.block is None:
        raise Conflict(f"the storage shows no readable heartbeat of {name}",
                       hint="so nobody can know which of its lives would be meant")  # fmt: skip
    listed = facts.view.members.get(slot) if facts.view else None
    return listed.term if listed else seen.block.term
