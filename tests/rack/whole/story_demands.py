"""What a story demands, looked up in a real pool: see outlast.sim.expect for the words.

Rules:
1. Where and how often a VM runs is seen in processes, resets in the emulated watchdogs, views and
   leases in the files on the storage. The product is not asked.
2. What is demanded may still be on its way, up to LATE_S: this machine is slower than a pretended
   one. That something is not so (down, untold) must be true at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from chaos import versions
from evidence import Lives

from outlast.errors import InvalidInput
from outlast.model import Lease, View
from outlast.rack.lab import Lab
from outlast.storage.format import lease_from, view_from

LATE_S = 25.0
AT_ONCE = {"down", "untold"}


def view(lab: Lab) -> View:
    return view_from(_newest(lab, "view"))


def lease(lab: Lab, vm: str) -> Lease:
    return lease_from(_newest(lab, f"lease/{vm}"))


def _newest(lab: Lab, name: str) -> Mapping[str, object]:
    found = versions(lab.pool_dir / "reg", name)
    return found[max(found)]


def resets(lab: Lab) -> dict[str, int]:
    """How often each host's watchdog has reset it since the rack stands."""
    hosts = lab.rack.status()["hosts"]
    return {name: int(state["watchdog"]["fired"]) for name, state in hosts.items()}


class Demands:
    """The demands of one story. lives: watched since its beginning."""

    def __init__(self, lab: Lab, lives: Lives) -> None:
        self._lab, self._lives = lab, lives
        self._resets = resets(lab)

    def unmet(self, words: list[str], told: Callable[[], Collection[str]]) -> str:
        """How it is instead of what is demanded; "" when it is so. told: codes of this block.

        Raises InvalidInput for what cannot be looked up on the rack.
        """
        until = time.monotonic() + (0 if AT_ONCE & set(words) else LATE_S)
        while wrong := self._look(words, told):
            if time.monotonic() >= until:
                return f"WRONG {' '.join(words)}: {wrong}"
            time.sleep(0.05)
        return ""

    def _look(self, words: list[str], told: Callable[[], Collection[str]]) -> str:
        match words:
            case ["told" | "untold" as word, code]:
                codes = sorted(told())
                return "" if (code in codes) == (word == "told") else f"told were {codes}"
            case ["view", members, "master", master]:
                return _unlike(f"{members} master {master}", self._view())
            case ["lease", vm, "by", host]:
                holder = view(self._lab).members.get(lease(self._lab, vm).slot)
                return _unlike(host, holder.host if holder else "")
            case ["no", "copy", "of", vm]:
                return _unlike("", ",".join(self._where(vm)[1:]))
            case ["lease", vm, "proof", kind]:
                proof = lease(self._lab, vm).proof
                return _unlike(kind, proof.kind.value if proof else "no proof")
            case [host, "resets", count] if host in self._resets:
                return _unlike(count, str(resets(self._lab)[host] - self._resets[host]))
            case [vm, "on", hosts]:
                where = ",".join(self._where(vm))
                return "" if where in hosts.split(",") else f"it runs on {where or 'no host'}"
            case [vm, "down"]:
                return _unlike("", ",".join(self._where(vm)))
            case [vm, "starts", count]:
                return _unlike(count, str(len(self._lives.of(vm))))
        raise InvalidInput(f"a story on the rack does not know: expect {' '.join(words)}")

    def _where(self, vm: str) -> list[str]:
        """Hosts of its living QEMUs; a look at what is watched anyway costs no time."""
        return [life.host for life in self._lives.of(vm) if not life.ended_s]

    def _view(self) -> str:
        now = view(self._lab)
        names = ",".join(now.members[slot].host for slot in sorted(now.members))
        return f"{names} master {now.members[now.master].host}"


def _unlike(wanted: str, found: str) -> str:
    return "" if wanted == found else f"it is {found or 'nothing'}"
