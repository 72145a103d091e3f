"""The rack daemon: holds one rack and obeys a unix socket in the rack's folder.

    python -m outlast.rack FOLDER [--hosts N] [--storage rackfs|bind] ... [--report FD] [--leash FD]

One JSON object a line: {"do": "freeze", "host": "a"} -> {"ok": true, "result": {...}} or
{"ok": false, "code", "error", "hint"}. Ctrl-C and SIGTERM take the rack down at any moment, also in
the middle of `up`. If the starter (behind --report) is gone before the rack is up, it goes down.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from outlast.errors import InvalidInput, OutlastError
from outlast.rack import sockets
from outlast.rack.host import Host
from outlast.rack.shelf import Rack, Shape

SOCKET = "rack.sock"


class Stopped(BaseException):
    """SIGINT or SIGTERM."""


class Desk:
    """What may be asked of the daemon: one public method a request."""

    def __init__(self, rack: Rack) -> None:
        self._rack = rack
        self.done = threading.Event()

    def status(self) -> object:
        return self._rack.status()

    def down(self, purge: bool = False) -> object:
        self._rack.down(purge)
        return {}

    def power(self, host: str, action: str) -> object:
        actions: dict[str, Callable[[Host], object]] = {
            "on": Host.power_on,
            "off": Host.power_off,
            "reset": Host.reset,
        }
        if action not in actions:
            raise InvalidInput(f"no power action '{action}'", hint="on, off or reset")
        return actions[action](self._rack.host(host)) or {}

    def freeze(self, host: str) -> object:
        return {"complete": self._rack.host(host).freeze(True)}

    def thaw(self, host: str) -> object:
        return {"complete": self._rack.host(host).freeze(False)}

    def cut(self, a: str, b: str, one_way: bool = False, net: str = "mgmt") -> None:
        self._rack.cut(a, b, one_way, net)

    def isolate(self, host: str, net: str = "mgmt") -> None:
        self._rack.isolate(host, net)

    def loss(self, host: str, percent: int, net: str = "mgmt") -> None:
        self._rack.loss(host, percent, net)

    def link(self, host: str, up: bool, net: str = "mgmt") -> None:
        self._rack.link(host, up, net)

    def heal(self, hosts: list[str] | None = None, net: str = "") -> None:
        self._rack.heal(hosts or [], net)

    def storage(
        self, action: str, host: str = "", detail: dict[str, object] | None = None
    ) -> object:
        return self._rack.storage(action, host, **(detail or {}))

    def service_pid(self, host: str, service: str) -> object:
        return {"pid": self._rack.host(host).service_pid(service)}

    def pids(self, host: str) -> object:
        return {"pids": self._rack.host(host).pids()}

    def door(self, host: str) -> object:
        """How to enter a host: pid of its PID 1, its control group, its environment."""
        one = self._rack.host(host)
        return {"pid": one.need_power().pid, "procs": str(one.group.procs),
                "env": dict(one.site.env), "power": one.state()}  # fmt: skip

    def answer(self, question: dict[str, object]) -> dict[str, object]:
        """Do what is asked; every trouble becomes an answer."""
        name = question.pop("do", "")
        method = getattr(self, str(name), None)
        if (
            not isinstance(name, str)
            or name.startswith("_")
            or name == "answer"
            or not callable(method)
        ):
            return refusal(InvalidInput(f"the rack cannot '{name}'"))
        try:
            inspect.signature(method).bind(**question)
            return {"ok": True, "result": method(**question) or {}}
        except OutlastError as error:
            return refusal(error)
        except TypeError as error:
            return refusal(InvalidInput(f"{name}: {error}"))
        except OSError as error:
            traceback.print_exc()
            return refusal(OutlastError(f"{name}: {error}", hint="see rack.log in the folder"))


def refusal(error: OutlastError) -> dict[str, object]:
    return {"ok": False, "code": error.code, "error": error.sentence, "hint": error.hint}


def serve(listener: socket.socket, desk: Desk) -> None:
    """Accept for ever; one thread a connection."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=attend, args=(sock, desk), daemon=True).start()


def attend(sock: socket.socket, desk: Desk) -> None:
    """Answer the questions of one connection, one after the other."""
    with contextlib.suppress(OSError, ValueError):
        while True:
            question = sockets.read_line(sock)
            last = question.get("do") == "down"
            answer = desk.answer(question)
            sock.sendall(json.dumps(answer).encode() + b"\n")
            if last and answer["ok"]:
                desk.done.set()
                return  # the socket stays open: its end tells the asker that we are gone
    if not desk.done.is_set():
        sock.close()


def parse(argv: list[str]) -> tuple[Shape, int, int]:
    parser = argparse.ArgumentParser(prog="python -m outlast.rack")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--storage", default="rackfs")
    parser.add_argument("--prefix", default="")
    parser.add_argument("--third", type=int, default=0)
    parser.add_argument("--lock-lease", type=float, default=2.0)
    parser.add_argument("--no-libvirt", action="store_true")
    parser.add_argument("--local-locks", action="store_true")
    parser.add_argument("--nowayout", action="store_true")
    parser.add_argument("--report", type=int, default=-1)
    parser.add_argument("--leash", type=int, default=-1, help="go down when this file ends")
    o = parser.parse_args(argv)
    shape = Shape(
        o.folder, o.hosts, o.storage, o.prefix, o.third, o.lock_lease, not o.no_libvirt,
        not o.local_locks, o.nowayout,
    )  # fmt: skip
    return shape, o.report, o.leash


def report(fd: int, answer: dict[str, object]) -> bool:
    """Tell the starter. False: it is gone."""
    if fd < 0:
        print(json.dumps(answer), flush=True)  # noqa: T201
        return True
    try:
        os.write(fd, json.dumps(answer).encode() + b"\n")
        os.close(fd)
    except OSError:
        return False
    return True


def hold_leash(leash: int) -> None:
    """Stop this process as Ctrl-C would when the other end of a pipe is closed."""
    while os.read(leash, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def run(shape: Shape, report_fd: int) -> int:
    """Up, serve, down. Returns the exit code."""
    rack = None
    try:
        rack = Rack(shape)
        rack.up()
        desk = Desk(rack)
        listener = sockets.listen(rack.folder / SOCKET)
        threading.Thread(target=serve, args=(listener, desk), daemon=True).start()
        if report(report_fd, {"ok": True, "result": {"pid": os.getpid()}}):
            desk.done.wait()
        return 0
    except OutlastError as error:
        report(report_fd, refusal(error))
        return error.exit_code
    except OSError as error:
        traceback.print_exc()
        report(report_fd, refusal(OutlastError(f"the rack cannot be built: {error}")))
        return 1
    except Stopped:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if rack is not None:
            (rack.folder / SOCKET).unlink(missing_ok=True)
            rack.down()


def main(argv: list[str] | None = None) -> int:
    shape, report_fd, leash = parse(sys.argv[1:] if argv is None else argv)
    for fd in (report_fd, leash):
        if fd >= 0:
            os.set_inheritable(fd, False)

    def stop(number: int, frame: object) -> None:
        raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if leash >= 0:
        threading.Thread(target=hold_leash, args=(leash,), daemon=True).start()
    return run(shape, report_fd)
