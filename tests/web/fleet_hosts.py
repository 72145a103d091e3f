"""What may be wished of a pretend pool's hosts."""

from __future__ import annotations

from typing import Any

from outlast.errors import Conflict
from outlast.wire.drills import DrillInfo, DrillWish
from outlast.wire.shapes import HostWish, MoveStatus


class HostWishes:
    """A part of PretendAgent."""

    _pool: Any  # fleet.PretendPool

    def maintain(self, host: str, why: str = "") -> HostWish:
        pool = self._pool
        with pool.lock:
            pool._must_answer()
            pool.wishes.append(("maintain", host))
            pool.change_host(host, maintenance=why or "wished")
            for vm in [v for v in pool.vms.values() if v.host == host]:
                to = pool._room(vm, without=host)
                move = MoveStatus(id=f"m-{vm.name}", to=to, under_way=True)
                pool._put(vm, move=move, away_from=host)
        return HostWish(name=host, changed=True, sentence=f"{host} is in maintenance")

    def serve(self, host: str, *, bring_back: bool = False) -> HostWish:
        with self._pool.lock:
            self._pool.wishes.append(("resume", host, bring_back))
            self._pool.change_host(host, maintenance="")
            for vm in [v for v in self._pool.vms.values() if v.away_from == host]:
                move = MoveStatus(id=f"b-{vm.name}", to=host, under_way=True)
                back = {"move": move} if bring_back else {"away_from": ""}
                self._pool._put(vm, **back)
        return HostWish(name=host, changed=True, sentence=f"{host} is in service again")

    def power_off(self, host: str) -> HostWish:
        with self._pool.lock:
            self._pool.wishes.append(("power-off", host))
            self._pool.change_host(host, state="closed", sentence=f"{host} is off")
        return HostWish(name=host, changed=True, sentence=f"{host} shuts down")

    def power_on(self, host: str) -> HostWish:
        with self._pool.lock:
            self._pool.wishes.append(("power-on", host))
        return HostWish(name=host, changed=True, sentence=f"{host} is being woken")

    def confirm_off(self, host: str, why: str = "") -> HostWish:
        with self._pool.lock:
            if self._pool.hosts[host].state == "member":
                raise Conflict(f"{host} is on: it writes to the storage", hint="nothing is changed")
            self._pool.wishes.append(("confirm-off", host, why))
        return HostWish(name=host, changed=True, sentence=f"{host} counts as off")

    def remove_host(self, host: str) -> HostWish:
        with self._pool.lock:
            self._pool.wishes.append(("host-remove", host))
            del self._pool.hosts[host]
        return HostWish(name=host, changed=True, sentence=f"{host} is no host of this pool")

    def drill(self, wish: DrillWish) -> DrillInfo:
        with self._pool.lock:
            self._pool.wishes.append(("drill", wish.host, wish.kind, wish.who))
        return DrillInfo(id="d1", host=wish.host, kind=wish.kind, state="wished", for_s=70)
