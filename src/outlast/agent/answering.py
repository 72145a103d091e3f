"""Which VMs of this host answer, as their records wish: by their agent, at a port, after a while.

Rules:
1. A VM that has answered once in this life of its process is ready; it is asked no more. A VM that
   came from another host ran before, so its time counts as over.
2. Several are asked at once, each for a moment only: one that is silent holds up nobody.
3. Port wishes without an address try all addresses this host can learn of.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from outlast.hypervisor.guests import Guests
from outlast.model import LocalVm, VmState
from outlast.pool.facts import Facts
from outlast.settings import S

CONNECT_S = 1.0
AT_ONCE = 8


class Answering:
    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="answering")
        self.answered: Mapping[str, int] = {}  # vm -> started_ns of the process that answered

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def look(self, now_ns: int, facts: Facts) -> None:
        known, asked = {}, []
        for vm, local in facts.local.items():
            record, held = facts.vms.get(vm), facts.leases.get(vm)
            if record is None or held is None or not record.value.ready:
                continue
            if self.answered.get(vm) == local.started_ns:
                known[vm] = local.started_ns
            elif local.state is VmState.RUNNING and not local.incoming:
                moved = held.value.via == "migration"
                asked.append((vm, local, record.value.ready, moved))
        answers = self._threads.map(lambda a: self._answers(now_ns, *a), asked)
        known |= {a[0]: a[1].started_ns for a, yes in zip(asked, answers, strict=True) if yes}
        self.answered = known

    def _answers(self, now_ns: int, vm: str, local: LocalVm, ready: str, moved: bool) -> bool:
        kind, _, rest = ready.partition(":")
        if kind == "agent":
            return self._guests.answers(vm)
        if kind == "delay":
            return moved or now_ns - local.started_ns >= int(rest) * S
        address, _, port = rest.rpartition(":")
        addresses = (address.strip("[]"),) if address else self._guests.addresses(vm)
        return any(_connects(one, int(port)) for one in addresses)


def _connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), CONNECT_S).close()
    except OSError:
        return False
    return True
