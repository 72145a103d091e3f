"""What a repository has behind it reaches the guard: the real core, and what the pool shows."""

from __future__ import annotations

import sys
from pathlib import Path

from outlast.agent.settling import Settling

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))
from guard_kit import FENCE_NS, T1, open_term
from memory_guard import MemoryGuard


class Stage:
    """A guard whose term has closed; a VM with a disk in `fast` ran."""

    def __init__(self) -> None:
        self.guard = MemoryGuard()
        open_term(self.guard, T1, drains=True)
        self.guard.ask("admit", vm="web", stores=["fast"])
        self.guard.start("web")
        self.answers = {"fast": 0}
        self.settling = Settling(
            lambda: {"guard": self.guard.ask("status")}, lambda: self, self.answers.__getitem__
        )

    def settled(self, store: str, since_ns: int) -> dict[str, object]:
        return self.guard.ask("settled", store=store, since_ns=since_ns)

    @property
    def stores(self) -> object:
        return self.guard.ask("status")["stores"]

    # what else a drill would need
    def status(self) -> dict[str, object]:
        return self.guard.ask("status")

    def kill(self, vm: str) -> dict[str, object]:
        return self.guard.ask("kill", vm=vm)


def test_the_guard_hears_of_an_answer_that_began_after_the_last_vm() -> None:
    stage = Stage()
    stage.answers["fast"] = 1 << 60
    stage.settling.look()
    assert stage.stores == ["fast"], "web is here"
    stage.kill("web")
    stage.guard.wait(FENCE_NS // 10)
    stage.answers["fast"] = 1
    stage.settling.look()
    assert stage.stores == ["fast"], "asked while web was here"
    stage.answers["fast"] = 0
    stage.settling.look()
    assert stage.stores == ["fast"], "it does not answer"
    stage.answers["fast"] = stage.guard.reading().boot_ns
    stage.settling.look()
    assert stage.stores == []


def test_nothing_is_told_while_nothing_is_known() -> None:
    stage = Stage()
    stage.kill("web")
    stage.guard.wait(FENCE_NS // 10)
    stage.answers["fast"] = 1 << 60
    for word in (None, {}, {"guard": None}, {"guard": {"empty": False, "stores": ["fast"]}}):
        Settling(lambda word=word: word, lambda: stage, stage.answers.__getitem__).look()
    assert stage.stores == ["fast"]
