"""The switch of a rack: two networks (mgmt, storage), a cable to each host, and faults.

Rules:
1. The switch is the network namespace of one thread of this process. It has no name, no mount and
   no way out: it vanishes with the process, and nothing of the machine's own network or firewall
   is touched. The same thread has its own mount namespace; what it mounts vanishes likewise.
2. That thread starts every process of the rack, each with a parent-death signal: a rack whose
   daemon is killed ends by itself.
3. Faults are a list of named facts, always applied as a whole in one nft transaction: one that
   cannot be applied changes nothing.

Addresses: 10.90.<third>.<host> mgmt, 10.91.<third>.<host> storage; the switch itself is .254 on
both, the storage server .253 on the storage network.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from outlast.errors import InvalidInput, OutlastError
from outlast.rack import kernel

T = TypeVar("T")

NETS = ("mgmt", "storage")
STORAGE_PORT = 7799
SERVER, SWITCH = 253, 254
# fixed: a bridge takes the lowest address of its ports else, and changes it when that one is pulled
SWITCH_MAC = {"mgmt": "02:00:00:00:5a:fe", "storage": "02:00:00:00:5b:fe"}
COMMAND_TIMEOUT_S = 20
TABLE = """
add table bridge rack
add chain bridge rack through { type filter hook forward priority 0; }
add chain bridge rack inward { type filter hook input priority 0; }
add chain bridge rack outward { type filter hook output priority 0; }
flush table bridge rack
"""
# joins the cgroup, ties its life to ours, becomes the program
START = 'echo 0 > "$0" && exec setpriv --pdeathsig KILL -- "$@"'


def address(net: str, number: int, third: int) -> str:
    return f"10.{90 + NETS.index(net)}.{third}.{number}"


def check_net(net: str) -> str:
    if net not in NETS:
        raise InvalidInput(f"there is no network '{net}'", hint="one of: " + ", ".join(NETS))
    return net


def port(host: str, net: str) -> str:
    """The switch's end of a host's cable."""
    return f"{host}-{net[0]}"


@dataclass(frozen=True, slots=True)
class Fault:
    """Frames that vanish: from `source` to `target` on `net`; an empty name means everybody."""

    net: str
    source: str
    target: str
    percent: int = 100

    def __str__(self) -> str:
        lost = "" if self.percent == 100 else f" loses {self.percent} %"
        return f"{self.net}: {self.source or 'all'} -> {self.target or 'all'}{lost}"

    def rules(self) -> list[str]:
        chance = "" if self.percent == 100 else f"numgen random mod 100 < {self.percent} "
        source = f'iifname "{port(self.source, self.net)}" ' if self.source else ""
        target = f'oifname "{port(self.target, self.net)}" ' if self.target else ""
        rules = [f"add rule bridge rack through {source}{target}{chance}counter drop"]
        if not self.target:  # the switch's own addresses (the storage server) are "everybody" too
            rules.append(f"add rule bridge rack inward {source}{chance}counter drop")
        if not self.source:
            rules.append(f"add rule bridge rack outward {target}{chance}counter drop")
        return rules


@dataclass(slots=True)
class Cables:
    """What is wrong with the network at the moment."""

    faults: list[Fault] = field(default_factory=list)
    unplugged: set[tuple[str, str]] = field(default_factory=set)  # (host, net)


class Switch:
    """The switch, and the thread that lives in its namespaces."""

    def __init__(self, third: int = 0) -> None:
        self.third = third
        self.state = Cables()
        self._guard = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "switch", initializer=_enter)
        self.thread_id = 0

    def up(self) -> None:
        self.thread_id = self._thread.submit(threading.get_native_id).result()
        lines = ["link set lo up"]
        for net in NETS:
            lines += [
                f"link add {net} address {SWITCH_MAC[net]} type bridge forward_delay 0",
                f"addr add {address(net, SWITCH, self.third)}/24 dev {net}",
                f"link set {net} up",
            ]
        lines.append(f"addr add {address('storage', SERVER, self.third)}/24 dev storage")
        self.ip(lines)
        self.run(["nft", "-f", "-"], TABLE)

    def close(self) -> None:
        """End the thread; its namespaces and their mounts vanish."""
        self._thread.shutdown(wait=True)

    # -- in the namespaces of the switch

    def run(self, argv: Sequence[str], text: str = "") -> str:
        """Run a short command in the switch. Raises OutlastError with what it printed."""
        return self._thread.submit(_command, argv, text).result()

    def ip(self, lines: Sequence[str], force: bool = False) -> None:
        """Several `ip` commands in one process; force: go on after errors, silently."""
        argv = ["ip", *(["-force"] if force else []), "-batch", "-"]
        try:
            self.run(argv, "\n".join(lines) + "\n")
        except OutlastError:
            if not force:
                raise

    def mount(self, source: str, target: str, kind: str, flags: int, data: str) -> None:
        self._thread.submit(kernel.mount, source, target, kind, flags, data).result()

    def unmount(self, target: str) -> None:
        self._thread.submit(kernel.unmount, target).result()

    def start(
        self,
        procs: Path,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a process of the rack in a cgroup; it dies when this process dies.

        procs: the cgroup's list of processes. Output goes to `log`.
        """
        return self._thread.submit(_start, procs, argv, log, env, pass_fds).result()

    # -- cables

    def plug(self, host: str, pid: int) -> None:
        """Two new cables from the switch to the namespace of `pid`, named after their networks."""
        lines = []
        for net in NETS:
            end = port(host, net)
            updown = "down" if (host, net) in self.state.unplugged else "up"
            lines += [
                f"link add {end} type veth peer name {net} netns {pid}",
                f"link set {end} master {net} {updown}",
            ]
        self.ip(lines)

    def silence(self, host: str) -> None:
        """Both cables dead, so that no farewell of dying processes gets out."""
        self.ip([f"link set {port(host, net)} down" for net in NETS], force=True)

    def pull(self, host: str) -> None:
        """Remove both cables (they may be gone already)."""
        self.ip([f"link del {port(host, net)}" for net in NETS], force=True)

    def link(self, host: str, net: str, up: bool) -> None:
        """Pull or plug one cable: the host sees its carrier go and come."""
        check_net(net)
        with self._guard:
            key = (host, net)
            (self.state.unplugged.discard if up else self.state.unplugged.add)(key)
            self.ip([f"link set {port(host, net)} {'up' if up else 'down'}"], force=True)

    # -- faults

    def add(self, *faults: Fault) -> None:
        """More frames vanish. A fault for the same direction replaces the former one."""
        with self._guard:
            where = {(f.net, f.source, f.target) for f in faults}
            kept = [f for f in self.state.faults if (f.net, f.source, f.target) not in where]
            self._apply([*kept, *faults])

    def heal(self, *hosts: str, net: str = "") -> None:
        """Remove faults and plug cables: all, or those between/of the named hosts, or on a net."""
        with self._guard:
            self._apply([f for f in self.state.faults if not _concerns(f, hosts, net)])
            if len(hosts) > 1:
                return
            again = {
                (h, n)
                for h, n in self.state.unplugged
                if (not hosts or h in hosts) and net in ("", n)
            }
            self.state.unplugged -= again
            if again:
                self.ip([f"link set {port(h, n)} up" for h, n in sorted(again)], force=True)

    def _apply(self, faults: list[Fault]) -> None:
        rules = [rule for fault in faults for rule in fault.rules()]
        self.run(["nft", "-f", "-"], "flush table bridge rack\n" + "\n".join(rules) + "\n")
        self.state.faults = faults


def _concerns(fault: Fault, hosts: Sequence[str], net: str) -> bool:
    if net and fault.net != net:
        return False
    ends = {fault.source, fault.target}
    return ends == set(hosts) if len(hosts) > 1 else not hosts or hosts[0] in ends


def _enter() -> None:
    kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWNS)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)


def _command(argv: Sequence[str], text: str) -> str:
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise OutlastError(
            f"'{argv[0]}' is not installed", hint="apt install iproute2 nftables util-linux"
        ) from None
    except subprocess.TimeoutExpired:
        raise OutlastError(f"{' '.join(argv)}: no end after {COMMAND_TIMEOUT_S} s") from None
    if done.returncode:
        raise OutlastError(f"{' '.join(argv)} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _start(
    procs: Path, argv: Sequence[str], log: Path, env: Mapping[str, str], pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    with open(log, "ab") as out:
        return subprocess.Popen(
            ["sh", "-c", START, str(procs), *argv],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env=dict(env), pass_fds=pass_fds, cwd="/",
        )  # fmt: skip


def dial(process: int, thread: int, target: tuple[str, int], timeout_s: float) -> socket.socket:
    """A TCP connection from the switch to `target`, usable from anywhere in this process.

    `process`/`thread`: where the switch lives. Raises OSError.
    """
    return inside(process, thread, lambda: socket.create_connection(target, timeout_s))


def inside(process: int, thread: int, act: Callable[[], T]) -> T:
    """What `act` gives when it is done in the switch's network; its sockets stay there.

    Raises OSError.
    """
    path = f"/proc/{process}/task/{thread}/ns/net"

    def enter() -> T:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.setns(fd, kernel.CLONE_NEWNET)
        finally:
            os.close(fd)
        return act()

    with ThreadPoolExecutor(1) as one:
        return one.submit(enter).result()
