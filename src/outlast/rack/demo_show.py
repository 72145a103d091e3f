"""The demo's play: what is done to the pool, what is waited for, what is measured.

Promises: each wait has a limit and ends in TimedOut naming what did not happen; what is done to the
pool is done to the machine's processes, not through Outlast, which has to find out by itself.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from outlast.errors import OutlastError, TimedOut
from outlast.rack.demo_guest import LinuxGuest, ask_shell
from outlast.rack.demo_report import (
    TEXT_COLUMN,
    Blow,
    Return,
    conclusion,
    measured_lines,
    timeline,
    verdict_lines,
)
from outlast.rack.demo_view import View
from outlast.rack.demo_watch import Scene, Watch
from outlast.rack.lab import Lab
from outlast.settings import S, preset
from outlast.words import plural

LOOK_S = 0.03
START_S, RETURN_S, FAILOVER_S, REJOIN_S, STOP_S = 60.0, 30.0, 60.0, 40.0, 40.0
LINUX = "linux"
LINUX_MEMORY = "128MiB"
PROOF_S = preset("lab").dead_ns / S
SLOW_HINT = "is this machine very busy? --keep keeps the logs, to be looked at"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds to read and look, after each thing that happened."""

    read_s: float = 6.0
    calm_s: float = 12.0
    after_s: float = 12.0

    @classmethod
    def fast(cls) -> Pace:
        return cls(0.0, 1.5, 1.0)


class Show:
    """One performance on a lab that is empty yet."""

    def __init__(self, lab: Lab, view: View, pace: Pace, hosts: int, vms: int) -> None:
        self._lab, self._view, self._pace = lab, view, pace
        self._hosts, self._vms = hosts, vms
        self._watch = Watch(lab)
        self._scene = Scene()
        self.blows: list[Blow] = []

    def close(self) -> None:
        """Give the terminal back, stop looking. Idempotent."""
        self._view.close()
        self._watch.stop()

    # ---- before

    def introduce(self) -> None:
        self._view.text(INTRODUCTION.format(hosts=self._hosts, vms=plural(self._vms, "VM")))
        time.sleep(self._pace.read_s)

    def set_up(self, linux: LinuxGuest | None) -> None:
        """Rack, pool, VMs; returns when each VM has signed its disk. Raises TimedOut."""
        lab, step = self._lab, self._step
        self._watch.start()
        lab.begin(self._hosts, say=step, leashed=True)
        why_not = self._fetch_linux(linux)
        tiny = [f"vm{n}" for n in range(1, self._vms + (1 if linux is None or why_not else 0))]
        step(f"starting {plural(len(tiny), 'VM')} with a tiny kernel that only signs its disk")
        lab.create(tiny)
        if linux is not None and not why_not:
            step(f"starting a VM with a whole Linux in it, named {LINUX}")
            lab.create(
                [LINUX], "console=ttyS0 quiet lines=10 ms=200", kernel="sentinel.kernel",
                initrd="sentinel.initrd", memory=LINUX_MEMORY,
            )  # fmt: skip
        self._watch.follow(lab.vms)
        self._view.open()
        self._act("The VMs come up", f"{_list(lab.vms)} are booting.")
        self._until(self._all_sign, START_S, "not all VMs have started")

    def _step(self, line: str) -> None:
        self._view.draw(self._look())
        self._view.step(line)

    def _fetch_linux(self, linux: LinuxGuest | None) -> str:
        """Put the Linux guest into the pool; says why there is none."""
        if linux is None:
            return ""
        why_not = linux.wait()
        if why_not:
            self._step(f"no VM with a whole Linux today, only tiny ones: {why_not}")
            return why_not
        for file in linux.files():
            shutil.copyfile(file, self._lab.pool_dir / "images" / file.name)
        return ""

    # ---- the acts

    def play(self) -> None:
        self._calm()
        self._kill_a_qemu()
        dark = self._cut_the_power()
        self._give_power_back(dark)

    def _calm(self) -> None:
        said = ""
        if LINUX in self._lab.vms:
            answer = ask_shell(self._lab, LINUX, "uname -sr")
            said = f" The shell on the console of {LINUX} answers: {answer}." if answer else ""
        self._act(
            "All is well",
            f"{plural(len(self._lab.vms), 'VM')} on {self._hosts} hosts sign their disks, record "
            f"after record. Each host renews its heartbeat five times a second.{said}",
            picture=True,
        )
        self._linger(self._pace.calm_s)

    def _kill_a_qemu(self) -> None:
        title, places, master = "1 of 3, kill -9", self._places(), self._master()
        tiny = [vm for vm in self._lab.vms if vm != LINUX]
        victim = next((vm for vm in tiny if places.get(vm) not in (None, master)), tiny[0])
        host = places.get(victim, "")
        blow = self._blow("kill -9", f"kill -9 ends the QEMU of {victim} on {host}")
        self._lab.kill_qemu(victim)
        self._act(
            title,
            f"The QEMU of {victim} on {host} has been killed. Nobody told Outlast. It has to see "
            "that by itself and start the VM again from the same disk.",
        )
        self._await_returns(blow, [victim], RETURN_S)
        back = blow.returns[0]
        self._act(
            title,
            f"{victim} signs its disk again after {back.after_s:.1f} s, on {back.host}. Its last "
            f"record before was {back.before:,}, its first after is {back.first:,}.",
        )
        self._linger(self._pace.after_s)
        blow.over_wall_s = time.time()

    def _cut_the_power(self) -> str:
        title, homes, master = "2 of 3, a power cut", self._places(), self._master()
        hosts = sorted(set(homes.values()), key=lambda h: list(homes.values()).count(h))
        dark = master if master in hosts else hosts[-1]
        lost = sorted(vm for vm, host in homes.items() if host == dark)
        others = [h for h in self._lab.hosts if h != dark]
        blow = self._blow("power cut", f"the power of {dark} is cut; it ran {_list(lost)}", dark)
        self._watch.dark.add(dark)
        self._lab.rack.power(dark, "off")
        self._act(
            title,
            f"Host {dark} has lost its power. It ran {_list(lost)}"
            f"{', and it was the master' if dark == master else ''}. {_list(others)} cannot ask it "
            "whether its VMs still run; they need a proof that they do not.",
        )
        self._await_returns(blow, lost, FAILOVER_S)
        slowest = max(r.after_s for r in blow.returns)
        self._act(
            title,
            f"What {dark} ran, runs again on {_list(sorted({r.host for r in blow.returns}))} after "
            f"{slowest:.1f} s: {_list(lost)}.{self._bystanders(blow, lost)}",
            picture=True,
        )
        self._linger(self._pace.after_s)
        blow.over_wall_s = time.time()
        return dark

    def _bystanders(self, blow: Blow, lost: list[str]) -> str:
        """What the VMs on other hosts saw of it."""
        others = [vm for vm in self._lab.vms if vm not in lost]
        hit = [vm for vm in others if self._watch.logs[vm].again(blow.begun_s)]
        if hit:
            return f" {_list(hit)} had to be started again as well."
        return f" {_list(others)} went on without a pause." if others else ""

    def _give_power_back(self, dark: str) -> None:
        title = "3 of 3, the power is back"
        blow = self._blow("power back", f"the power of {dark} is back", dark)
        self._act(
            title,
            f"Host {dark} boots. On its disk is still what it knew. Before it may run a VM it has "
            "to begin a new term, and a member has to admit it.",
        )
        begun_s = time.monotonic()
        self._lab.rack.power(dark, "on")
        self._watch.dark.discard(dark)
        self._until(lambda: self._is_member(dark), REJOIN_S, f"{dark} is no member again")
        blow.rejoined_s = time.monotonic() - begun_s
        self._act(
            title,
            f"{dark} is a member again after {blow.rejoined_s:.1f} s. It takes nothing that others "
            "hold: its former VMs stay where they run.",
            picture=True,
        )
        self._linger(self._pace.after_s)
        blow.over_wall_s = time.time()

    # ---- the end

    def judge(self) -> bool:
        """Stop all VMs, read their disks, tell everything. True: sound, and everything ran."""
        self._until(self._all_run, RETURN_S, "not all VMs run at the end")
        self._act("The end", "All VMs are shut down now, so that their disks can be read.")
        for vm in self._lab.vms:
            self._lab.client().stop(vm)
        self._until(self._all_stopped, STOP_S, "not all VMs have stopped")
        self.close()
        verdicts = self._lab.verdicts()
        text = self._view.text
        for blow in self.blows:
            text(f"\n{blow.title}, second by second:\n")
            for line in timeline(blow, self._watch.notes()):
                self._view.line(f"  {line}", hang=2 + TEXT_COLUMN)
        text(LEDGER)
        for line in verdict_lines(verdicts):
            self._view.line(f"  {line}")
        text("\nMeasured, from the blow to the first signed record after it:\n")
        for line in measured_lines(self.blows):
            self._view.line(f"  {line}")
        text("\n" + "\n".join(conclusion(verdicts, self.blows, self._unasked())))
        return all(v.sound and v.acknowledged for v in verdicts.values())

    # ---- looking and waiting

    def _look(self) -> Scene:
        self._scene = self._watch.look()
        return self._scene

    def _blow(self, title: str, what: str, host: str = "") -> Blow:
        self._look()
        blow = Blow(title, what, time.time(), host, begun_s=time.monotonic())
        blow.newest = {vm: log.last.seq if log.last else 0 for vm, log in self._watch.logs.items()}
        self.blows.append(blow)
        return blow

    def _await_returns(self, blow: Blow, vms: list[str], limit_s: float) -> None:
        """Until each of the VMs has signed its disk in a new boot."""

        def all_back() -> bool:
            told = {r.vm for r in blow.returns}
            for vm in vms:
                sign = self._watch.logs[vm].again(blow.begun_s)
                if sign is not None and vm not in told:
                    blow.returns.append(
                        Return(vm, self._lab.where(vm), sign.at_s - blow.begun_s,
                               blow.newest[vm], sign.seq, sign.wall_s)
                    )  # fmt: skip
            return len(blow.returns) == len(vms)

        self._until(
            all_back, limit_s, f"not all of {_list(vms)} run again", lambda: self._why(blow, vms)
        )

    def _why(self, blow: Blow, vms: list[str]) -> str:
        """What is being waited for."""
        status, back = self._scene.status, {r.vm for r in blow.returns}
        said = [f"{r.vm} runs again on {r.host} after {r.after_s:.1f} s" for r in blow.returns]
        for host in status.hosts if status else ():
            age_s = self._scene.beat_age_s(host) or PROOF_S
            if host.state == "silent" and host.name in self._scene.dark and age_s < PROOF_S:
                said.append(
                    f"the heartbeat of {host.name} has stood still for {age_s:.1f} s; after "
                    f"{PROOF_S:g} s its VMs have surely ended"
                )
        for vm in status.vms if status else ():
            if vm.name in vms and vm.name not in back and vm.state == "starting":
                said.append(f"{vm.name}: {vm.sentence}")
        return "\n".join(said)

    def _until(
        self,
        happened: Callable[[], bool],
        limit_s: float,
        otherwise: str,
        meanwhile: Callable[[], str] = lambda: "",
    ) -> None:
        """Look at everything until it happened. Raises TimedOut."""
        end_s = time.monotonic() + limit_s
        while True:
            scene = self._look()
            self._view.meanwhile(meanwhile())
            self._view.draw(scene)
            if happened():
                return
            if time.monotonic() > end_s:
                raise TimedOut(f"after {limit_s:g} s: {otherwise}", hint=SLOW_HINT)
            time.sleep(LOOK_S)

    def _linger(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self._until(lambda: time.monotonic() >= end_s, seconds + 5, "the clock stands still")

    def _act(self, title: str, headline: str, picture: bool = False) -> None:
        self._view.act(title, headline, self._look(), picture)

    def _all_sign(self) -> bool:
        return all(log.last for log in self._watch.logs.values()) and self._all_run()

    def _states(self) -> set[str]:
        status = self._scene.status
        return {vm.state for vm in status.vms} if status else set()

    def _all_run(self) -> bool:
        return self._states() == {"running"}

    def _all_stopped(self) -> bool:
        return self._states() == {"stopped"}

    def _is_member(self, name: str) -> bool:
        """By its own word, and by that of the host that is asked all the time."""
        status = self._scene.status
        seen = status is not None and any(
            h.name == name and h.state == "member" for h in status.hosts
        )
        if not seen:
            return False
        try:
            mine = self._lab.client(name).status().hosts
        except OutlastError:
            return False
        return any(h.answering and h.state == "member" for h in mine)

    def _places(self) -> dict[str, str]:
        """Where QEMUs are, by the machine's own process list: vm -> host."""
        return {vm: found[0][0] for vm, found in self._lab.processes().items()}

    def _master(self) -> str:
        status = self._scene.status
        return status.master if status else ""

    def _unasked(self) -> dict[str, int]:
        """VMs that came up more often than they were made to."""
        expected = {
            vm: 1 + sum(r.vm == vm for b in self.blows for r in b.returns) for vm in self._lab.vms
        }
        self._look()
        counted = {vm: log.boots - expected[vm] for vm, log in self._watch.logs.items()}
        return {vm: more for vm, more in counted.items() if more > 0}


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


INTRODUCTION = """\
Outlast keeps VMs running when their hosts die. Here you can watch it.

For the next two minutes this machine is a small data centre: {hosts} hosts, each with processes, \
a network and a disk of its own, with its own libvirt and its own Outlast; a switch; and a storage \
that all of them share. {vms} will run on them. Then three things happen:

  1. kill -9 hits the QEMU of a VM.
  2. A host loses its power: everything on it ends at once, without a word to anybody.
  3. The power comes back.

Starting a VM again is easy. The hard part is to know that it no longer runs where it was: a \
host that is silent may be dead, or slow, or only cut off, and two copies of a VM that write to \
one disk destroy it. So no host here takes over a VM without a proof that the former one has \
ended it.

You need not take that on trust. Each VM does one thing only: it writes numbered records to its \
disk, each of them linked to the one before, and says on its serial line when one is safely there. \
At the end the disks are compared with what the VMs said. A lost write shows, and so does a second \
writer.
"""

LEDGER = """
The ledger: what is on the disks, compared with what the VMs said they had written. (A record on \
the disk that no VM spoke of is no harm: its host died between the writing and the saying.)
"""
