"""What follows a pretend pool, in place of the manager's own follower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleet import PretendAgent, PretendPool

from outlast.errors import Unreachable


class PretendFollower:
    """What `manager.follower.Follower` is to tasks; `tell` brings an answer."""

    def __init__(self, pool: PretendPool, reads: Any, heard: Callable[[str], None]) -> None:
        self.pool, self._reads, self._heard = pool, reads, heard
        self.link = self

    def addresses(self) -> tuple[str, ...]:
        return ("https://pretend:7791",)

    def client(self, address: str, timeout_s: float = 4) -> PretendAgent:
        return PretendAgent(self.pool, address)

    def hurry(self) -> None:
        self.tell()

    def stop(self) -> None:
        pass

    def tell(self) -> None:
        """On the manager's loop."""
        try:
            self._reads.heard(self.pool.status(), self._reads.now_s())
            self._heard(self.pool.id)
        except Unreachable as error:
            self._reads.silent(self.pool.id, error.sentence)


def follow(manager: Any, pool: PretendPool) -> PretendFollower:
    """Have a manager see a pretend pool. On its loop."""
    follower = PretendFollower(pool, manager.reads, manager.tasks.heard)
    manager.reads.add(pool.id, pool.name)
    manager.reads.followers[pool.id] = follower
    follower.tell()
    return follower
