"""What a story can do to a real pool: the verbs of the simulator, done to processes and cables.

Rules:
1. A verb does what it is called, by the rack's own faults and the product's own API.
2. A way to the storage that is stuck or fails stays so until it is ok, over any reset: a keeper
   hurts it anew as soon as the host boots.
3. A verb that cannot be done for real is refused in words: its story bears no mark for the rack.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading

from outlast.errors import InvalidInput, OutlastError
from outlast.rack.lab import Lab
from outlast.wire.shapes import VmChange

KEEP_S = 0.03


class Paths:
    """Ways to the storage that are hurt, and the keeper of that."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._hurt: dict[str, str] = {}  # host -> word
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="paths")

    def __enter__(self) -> Paths:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def set(self, host: str, word: str) -> None:
        """word: stuck | failing | ok"""
        with self._lock:
            if word == "ok":
                self._hurt.pop(host, None)
                self._lab.rack.storage("heal", host)
            else:
                self._hurt[host] = word
                self._harm(host, word)

    def _harm(self, host: str, word: str) -> None:
        if word == "stuck":
            self._lab.rack.storage("stall", host)
        else:
            self._lab.rack.storage("fail", host, errno="EIO")

    def _keep(self) -> None:
        while not self._stop.wait(KEEP_S):
            with self._lock:
                for host, word in self._hurt.items():
                    with contextlib.suppress(OutlastError, OSError):  # it is booting just now
                        self._harm(host, word)


class Faults:
    """The verbs of one lab."""

    def __init__(self, lab: Lab, paths: Paths) -> None:
        self._lab, self._paths = lab, paths

    def do(self, command: str) -> None:
        """Raises InvalidInput for what cannot be done on the rack."""
        words = command.split()
        if not any(part(words) for part in (self._host, self._storage, self._network, self._vm)):
            raise InvalidInput(f"a story on the rack does not know: {command}")

    def _host(self, words: list[str]) -> bool:
        match words:
            case ["power", "of", names, ("off" | "on") as word]:
                for host in names.split(","):
                    self._lab.rack.power(host, word)
            case ["host", names, "frozen"]:
                for host in names.split(","):
                    self._lab.rack.freeze(host)
            case ["host", names, "thawed"]:
                for host in names.split(","):
                    self._lab.rack.thaw(host)
            case ["agent", "of", names, "killed"]:
                for host in names.split(","):
                    os.kill(self._lab.rack.service_pid(host, "outlast-agent"), signal.SIGKILL)
            case _:
                return False
        return True

    def _storage(self, words: list[str]) -> bool:
        match words:
            case ["storage", "of", names, ("stuck" | "failing" | "ok") as word]:
                hosts = names.split(",")
            case ["storage", ("stuck" | "failing" | "ok") as word]:
                hosts = self._lab.hosts
            case _:
                return False
        for host in hosts:
            self._paths.set(host, word)
        return True

    def _network(self, words: list[str]) -> bool:
        rack = self._lab.rack
        match words:
            case ["link", pair, "down"]:
                rack.cut(*pair.split("-"))
            case ["link", pair, "up"]:
                rack.heal(*pair.split("-"))
            case ["way", pair, "cut"]:
                rack.cut(*pair.split(">"), one_way=True)
            case ["way", pair, "open"]:
                rack.heal(*pair.split(">"))
            case ["network", "of", names, "down"]:
                for host in names.split(","):
                    rack.isolate(host)
            case ["network", "of", names, "up"]:
                for host in names.split(","):
                    rack.heal(host)
            case _:
                return False
        return True

    def _vm(self, words: list[str]) -> bool:
        lab = self._lab
        match words:
            case ["qemu", "of", names, "dies"]:
                for vm in names.split(","):
                    lab.kill_qemu(vm)
            case ["wish", vm, "running"]:
                lab.client().start(vm)
            case ["wish", vm, "stopped"]:
                lab.client().stop(vm)
            case ["move", vm, "to", host]:
                lab.client().migrate(vm, host)
            case ["vm", vm, "prefers", names]:
                hosts = [] if names == "any" else names.split(",")
                lab.client().place(vm, VmChange(preferred=hosts))
            case _:
                return False
        return True
