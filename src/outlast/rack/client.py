"""How the command line and the tests use a rack: start its daemon, ask it, enter its hosts.

    rack = RackClient("/var/lib/outlast-rack")
    rack.up(hosts=3)
    rack.exec("a", ["hostname"])
    rack.power("b", "off"); rack.cut("a", "c"); rack.storage("stall", "a"); rack.heal()
    rack.down()

Standard library only. Every call raises an OutlastError with a sentence and a hint: Refused (not
root), Conflict (rack already up, host off), NotFound (no such host), Unreachable (no rack is up),
InvalidInput, TimedOut.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.errors import Conflict, OutlastError, Refused, TimedOut, Unreachable, by_code
from outlast.rack import net, shelf, sockets
from outlast.rack.daemon import SOCKET
from outlast.rack.host import enter

DEFAULT_FOLDER = Path("/var/lib/outlast-rack")
ASK_TIMEOUT_S = 60.0


class RackClient:
    """The rack of one folder, up or not."""

    def __init__(self, folder: str | Path = DEFAULT_FOLDER) -> None:
        self.folder = Path(folder).absolute()
        self._daemon: subprocess.Popen[bytes] | None = None
        self._leash = -1

    # -- up and down

    def is_up(self) -> bool:
        try:
            sockets.connect(self.folder / SOCKET, 5).close()
        except OSError:
            return False
        return True

    def up(
        self,
        hosts: int = 3,
        storage: str = "rackfs",
        *,
        prefix: str = "",
        third: int = 0,
        lock_lease_s: float = 2.0,
        libvirt: bool = True,
        shared_locks: bool = True,
        nowayout: bool = False,
        leashed: bool = False,
    ) -> dict[str, Any]:
        """Scrub, start the daemon, boot all hosts; returns `status()`.

        leashed: the rack goes down by itself when this process ends, however it ends.

        An interruption (Ctrl-C) at any moment takes everything down again before it is raised.
        """
        if os.geteuid() != 0:
            raise Refused("a rack needs root: it makes namespaces and mounts", hint="use sudo")
        if self.is_up():
            raise Conflict(f"a rack is already up in {self.folder}", hint="outlast rack down")
        argv = [
            sys.executable, "-m", "outlast.rack", str(self.folder), "--hosts", str(hosts),
            "--storage", storage, "--third", str(third), "--lock-lease", str(lock_lease_s),
        ]  # fmt: skip
        argv += ["--prefix", prefix] if prefix else []
        flags = (
            (not libvirt, "--no-libvirt"), (not shared_locks, "--local-locks"),
            (nowayout, "--nowayout"),
        )  # fmt: skip
        argv += [flag for wanted, flag in flags if wanted]
        passed = []
        if leashed:
            leash, self._leash = os.pipe()
            argv += ["--leash", str(leash)]
            passed.append(leash)
        try:
            self._check(self._start(argv, passed))
            return self.status()
        except KeyboardInterrupt:  # after the start: it stood, and nobody was told
            self._stop_daemon()
            raise
        finally:
            for fd in passed:
                os.close(fd)

    def _start(self, argv: list[str], passed: list[int]) -> dict[str, Any]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = str(Path(shelf.__file__).resolve().parent.parent.parent)
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        reader, writer = os.pipe()
        with open(reader, "rb") as report, open(self.folder / "rack.log", "ab") as log:
            try:
                self._daemon = subprocess.Popen(
                    [*argv, "--report", str(writer)], stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, pass_fds=[writer, *passed], start_new_session=True, env=env,
                    cwd="/",
                )  # fmt: skip
                os.close(writer)
                writer = -1
                line = report.readline()
            except BaseException:
                if writer >= 0:
                    os.close(writer)
                self._stop_daemon()
                raise
        if not line:
            self._daemon.wait()
            raise OutlastError("the rack did not start", hint=f"see {self.folder}/rack.log")
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            self._daemon.wait()
        return answer

    def down(self, purge: bool = False) -> bool:
        """Take the rack down; False: none was up (leftovers of a crashed one are scrubbed)."""
        try:
            sock = sockets.connect(self.folder / SOCKET, ASK_TIMEOUT_S)
        except OSError:
            self.scrub(purge)
            return False
        with sock:
            self._talk(sock, {"do": "down", "purge": purge})
            with contextlib.suppress(OSError):
                sock.recv(1)  # ends when the daemon is gone
        if self._daemon is not None:
            self._daemon.wait(ASK_TIMEOUT_S)
            self._daemon = None
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1
        return True

    def scrub(self, purge: bool = False) -> bool:
        """Remove what a crashed rack left. True: there was something. Conflict if it is up."""
        return shelf.scrub(self.folder, purge)

    def _stop_daemon(self) -> None:
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.terminate()
            try:
                self._daemon.wait(ASK_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
                self.scrub()

    # -- looking

    def status(self) -> dict[str, Any]:
        """See shelf.Rack.status: "folder", "prefix", "pid", "storage", "hosts", "faults"."""
        return self._ask("status")

    def hosts(self) -> list[str]:
        return list(self.status()["hosts"])

    def pids(self, host: str) -> list[int]:
        """Living processes of a host, as the machine numbers them."""
        return list(self._ask("pids", host=host)["pids"])

    def service_pid(self, host: str, service: str) -> int:
        """The machine's pid of "outlast-guard", "outlast-pulse", "outlast-agent" or "libvirtd"."""
        return int(self._ask("service_pid", host=host, service=service)["pid"])

    def libvirt_uri(self, host: str) -> str:
        """For a connection from outside of the host."""
        return f"qemu:///system?socket={self.folder}/{host}/run/libvirt/libvirt-sock"

    # -- power

    def power(self, host: str, action: str) -> dict[str, Any]:
        """action: on | off | reset. off returns {"cables_ms", "kill_ms", "total_ms"}."""
        return self._ask("power", host=host, action=action)

    def freeze(self, host: str) -> bool:
        """Stop every process of a host; its kernel goes on. False: something stuck goes on too."""
        return bool(self._ask("freeze", host=host)["complete"])

    def thaw(self, host: str) -> bool:
        return bool(self._ask("thaw", host=host)["complete"])

    # -- network

    def cut(self, a: str, b: str, one_way: bool = False, net: str = "mgmt") -> None:
        self._ask("cut", a=a, b=b, one_way=one_way, net=net)

    def isolate(self, host: str, net: str = "mgmt") -> None:
        self._ask("isolate", host=host, net=net)

    def loss(self, host: str, percent: int, net: str = "mgmt") -> None:
        self._ask("loss", host=host, percent=percent, net=net)

    def link(self, host: str, up: bool, net: str = "mgmt") -> None:
        self._ask("link", host=host, up=up, net=net)

    def heal(self, *hosts: str, net: str = "") -> None:
        """Heal the network: everything, one host's, or between two hosts; storage stays as is."""
        self._ask("heal", hosts=list(hosts), net=net)

    # -- storage

    def storage(
        self,
        action: str,
        host: str = "",
        *,
        path: str = "",
        ops: Sequence[str] = (),
        errno: str = "",
        ms: float = 0,
    ) -> dict[str, Any]:
        """One host: stall | fail | slow | lose-replies | heal. No host: stall | stop | heal server.

        path: regular expression; ops: names such as "write"; errno: "EIO", "ENOSPC"; ms: for slow.
        """
        given = {"path": path, "ops": list(ops), "errno": errno, "ms": ms}
        detail = {name: value for name, value in given.items() if value}
        return self._ask("storage", action=action, host=host, detail=detail)

    # -- inside a host

    def popen(self, host: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command in a host; options as of subprocess.Popen ("env" adds to the host's)."""
        door = self._ask("door", host=host)
        if door["power"] == "frozen":
            raise Conflict(f"host {host} is frozen", hint=f"outlast rack thaw {host}")
        env = {**door["env"], **_strings(options.pop("env", None))}
        command = enter(int(door["pid"]), Path(door["procs"]), argv, env)
        return subprocess.Popen(command, **options)

    def exec(
        self,
        host: str,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout_s: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a host, output captured. Raises TimedOut (then it has been killed)."""
        process = self.popen(
            host, argv, env=env, text=True, start_new_session=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = process.communicate(input, timeout_s)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=1)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimedOut(f"no end of '{argv[0]}' on {host} in {timeout_s} s") from None
            raise
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def attach(self, host: str, argv: Sequence[str]) -> int:
        """Run a command in a host on this terminal; returns its exit code."""
        return self.popen(host, argv, env={"TERM": os.environ.get("TERM", "dumb")}).wait()

    def dial(
        self, host: str, port: int, net_name: str = "mgmt", timeout_s: float = 5
    ) -> socket.socket:
        """A TCP connection into the rack, as from a machine plugged into its switch."""
        status = self.status()
        if host not in status["hosts"]:
            self._ask("pids", host=host)  # raises NotFound with the known names
        address = status["hosts"][host]["addresses"][net.check_net(net_name)]
        try:
            where = (int(status["pid"]), int(status["switch_thread"]))
            return net.dial(*where, (address, port), timeout_s)
        except OSError as error:
            raise Unreachable(f"no connection to {host} port {port}: {error}") from None

    # -- the daemon

    def _ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        try:
            sock = sockets.connect(self.folder / SOCKET, ASK_TIMEOUT_S)
        except PermissionError:
            raise Refused("a rack belongs to root", hint="use sudo") from None
        except OSError:
            raise Unreachable(f"no rack is up in {self.folder}", hint="outlast rack up") from None
        with sock:
            return self._talk(sock, {"do": what, **arguments})

    def _talk(self, sock: socket.socket, question: Mapping[str, Any]) -> dict[str, Any]:
        try:
            sock.sendall(json.dumps(question).encode() + b"\n")
            answer = sockets.read_line(sock)
        except TimeoutError:
            raise TimedOut(f"the rack does not answer within {ASK_TIMEOUT_S:g} s") from None
        except (OSError, ValueError):
            raise Unreachable("the rack ended while it was asked", hint="see rack.log") from None
        return self._check(answer)

    @staticmethod
    def _check(answer: Mapping[str, Any]) -> dict[str, Any]:
        if not answer["ok"]:
            raise by_code(answer["code"])(answer["error"], hint=answer["hint"])
        return dict(answer["result"])


def _strings(env: Mapping[str, str] | None) -> dict[str, str]:
    return {} if env is None else dict(env)
