"""Moves, what they cost, and their replay: a plan is believed only after it was followed.

Rules:
1. Moves are made in their order. While a VM is copied it takes its memory on both hosts, so each
   move needs the room on its target before anything leaves its source.
2. `waves` says which moves may run at the same time: room that a move of the same wave would
   free is not counted.
3. `undo` gives the moves back, last first; it is feasible because each step was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outlast.placement import fit
from outlast.placement.layout import Layout
from outlast.placement.picture import Picture
from outlast.words import plural


@dataclass(frozen=True, slots=True)
class Move:
    vm: str
    source: str
    target: str
    mib: int
    why: str

    def __str__(self) -> str:
        return f"{self.vm}: {self.source} -> {self.target} ({self.mib} MiB): {self.why}"


@dataclass(frozen=True, slots=True)
class Plan:
    moves: tuple[Move, ...]
    left: tuple[tuple[str, str], ...]  # VMs that should move and cannot, with the reason
    before: float  # deviation of load, see Layout.deviation
    after: float
    copy_s: float  # of all moves one after the other
    emptied: tuple[str, ...] = ()  # hosts that run nothing afterwards and did before

    @property
    def mib(self) -> int:
        return sum(m.mib for m in self.moves)

    @property
    def sentence(self) -> str:
        if not self.moves and not self.left:
            return f"nothing to move (deviation {self.before:.3f})"
        said = f"{plural(len(self.moves), 'move')}, {self.mib / 1024:.1f} GiB to copy, "
        said += f"{self.copy_s:.0f} s; "
        said += f"deviation {self.before:.3f} -> {self.after:.3f}"
        if self.emptied:
            said += f"; empty afterwards: {', '.join(self.emptied)}"
        for name, why in self.left[:12]:
            said += f"; {name} stays because {why}"
        return said


def planned(
    before: Picture, after: Layout, moves: Sequence[Move],
    left: Sequence[tuple[str, str]] = (), emptied: Sequence[str] = (),
) -> Plan:  # fmt: skip
    seconds = sum(m.mib for m in moves) / before.policy.copy_mib_s
    first = Layout(before).deviation()
    return Plan(tuple(moves), tuple(left), first, after.deviation(), seconds, tuple(emptied))


def step_refusal(layout: Layout, move: Move, *, grouped: bool = False) -> str:
    """Why this move cannot be made now, "" when it can. `grouped`: its group moves with it."""
    vm = layout.vm_at.get(move.vm, -1)
    target = layout.host_at.get(move.target, -1)
    source = layout.host_at.get(move.source, -1)
    if vm < 0 or target < 0 or source < 0:
        return f"{move.vm}, {move.source} or {move.target} is not there"
    if layout.where[vm] != source:
        return f"{move.vm} is not on {move.source}"
    if target == source:
        return f"{move.vm} is there already"
    if not layout.picture.vms[vm].movable:
        return f"{move.vm} cannot migrate"
    return fit.refusal(layout, vm, target, {source} if grouped else fit.NONE)


def follow(picture: Picture, moves: Sequence[Move], *, grouped: bool = True) -> Picture:
    """The picture after the moves. ValueError names the first step that a hard rule forbids."""
    layout = Layout(picture)
    for n, move in enumerate(moves):
        why = step_refusal(layout, move, grouped=grouped)
        if why:
            raise ValueError(f"move {n + 1}, {move}: {why}")
        layout.move(layout.vm_at[move.vm], layout.host_at[move.target])
    return layout.as_picture()


def waves(picture: Picture, moves: Sequence[Move], at_once: int) -> list[list[Move]]:
    """The same moves in the same order, in groups of at most `at_once` that may run together."""
    if at_once < 1:
        raise ValueError(f"{at_once} moves at once move nothing")
    layout = Layout(picture)
    found: list[list[Move]] = []
    wave: list[Move] = []
    for move in moves:
        vm, target = layout.vm_at[move.vm], layout.host_at[move.target]
        leaves = {layout.host_at[m.source] for m in wave}
        touched = leaves & {target} or any(_related(layout, vm, m) for m in wave)
        if wave and (len(wave) >= at_once or touched):
            found.append(wave)
            wave = []
        wave.append(move)
        layout.move(vm, target)
    return [*found, wave] if wave else found


def _related(layout: Layout, vm: int, move: Move) -> bool:
    """The same VM, or one of a group with it: order between them matters."""
    other = layout.vm_at[move.vm]
    if other == vm:
        return True
    mine = {*layout.apart.get(vm, ()), *layout.together.get(vm, ())}
    theirs = {*layout.apart.get(other, ()), *layout.together.get(other, ())}
    return bool(mine & theirs)


def undo(moves: Sequence[Move]) -> tuple[Move, ...]:
    return tuple(
        Move(m.vm, m.target, m.source, m.mib, "back to where it was") for m in reversed(moves)
    )
