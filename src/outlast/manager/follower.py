"""Follows one pool through any of its agents, over mutual TLS, from a thread of its own.

Promises:
1. An agent that does not answer is left for the next one at once; addresses are those that were
   given and those that the pool itself names.
2. An agent that has lost sight of its pool is not taken for the pool: others are asked, and when
   none knows more, its answer is shown as old.
3. An agent of another pool is never listened to.
4. Every PERIOD_S one agent is asked; more often for a while after `hurry`, which every wish calls.
5. An agent is asked for what has changed since its last answer (wire/difference.py), over a
   connection that is kept for CLIENT_CALLS questions: where little happens, it costs little.

One thread a pool: one that hangs on a dead host makes no other pool old.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from outlast.errors import OutlastError, Unreachable
from outlast.manager.fleet import Fleet
from outlast.manager.lean import lean
from outlast.wire.client import AgentClient
from outlast.wire.difference import PoolNews, whole
from outlast.wire.shapes import PoolStatus, parse

log = logging.getLogger("outlast.manager.follower")

PERIOD_S = 1.0
HURRY_S = 0.25  # between questions while somebody waits for a change
HURRY_FOR_S = 5.0
ASK_TIMEOUT_S = 4.0
OLD_MS = 15_000  # an agent whose own knowledge is older has lost its pool
CLIENT_CALLS = 120  # then the certificates are read again, also those of agents
# whole answers of large pools are read one by one: all at once they need memory that stays
_READING = threading.Lock()


@dataclass(frozen=True, slots=True)
class PoolLink:
    """How a pool is reached."""

    pool_id: str
    name: str
    agents: tuple[str, ...]  # https://host:port or unix:/path
    pki: Path  # this manager's certificate in that pool


@dataclass(slots=True)
class _Asked:
    """An agent, and what it said last."""

    client: AgentClient
    status: PoolNews | None = None
    calls: int = 0


class Follower:
    """Brings one pool's answers into the fleet."""

    def __init__(
        self, link: PoolLink, fleet: Fleet, loop: asyncio.AbstractEventLoop, *,
        period_s: float = PERIOD_S, heard: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.link = link
        self._fleet, self._loop, self._period_s = fleet, loop, period_s
        self._heard = heard
        self._stop, self._ask_now = threading.Event(), threading.Event()
        self._hurry_until_s = 0.0
        self._clients: dict[str, _Asked] = {}
        self._good = ""  # the address that answered last
        self._named: tuple[str, ...] = ()  # addresses that the pool names
        self._thread = threading.Thread(target=self._run, name=f"pool {link.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; a question that is under way is not waited for."""
        self._stop.set()
        self._ask_now.set()

    def hurry(self) -> None:
        """Somebody waits for a change: ask now, and often for a while."""
        self._hurry_until_s = self._fleet.now_s() + HURRY_FOR_S
        self._ask_now.set()

    def addresses(self) -> tuple[str, ...]:
        """Whom to ask, the likeliest first."""
        known = dict.fromkeys([self._good, *self.link.agents, *self._named])
        return tuple(address for address in known if address)

    def client(
        self, address: str, timeout_s: float = ASK_TIMEOUT_S, *, keep: bool = False
    ) -> AgentClient:
        """Raises InvalidInput for an address that is none."""
        return AgentClient(address, timeout_s=timeout_s, pki=self.link.pki, keep=keep)

    # ---- the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.ask()
            except Exception:  # a bug must not leave the pool unwatched
                log.exception("a bug while following pool %s", self.link.name)
                self._tell(self._fleet.silent, self.link.pool_id, "the manager failed; see its log")
            hurried = self._fleet.now_s() < self._hurry_until_s
            self._ask_now.wait(min(HURRY_S, self._period_s) if hurried else self._period_s)
            self._ask_now.clear()

    def ask(self) -> None:
        """One round: until an agent gives an answer that can be trusted, or all were asked."""
        best: tuple[PoolStatus, float, str] | None = None
        troubles: list[str] = []
        for address in self.addresses():
            if self._stop.is_set():
                return
            asked_s = self._fleet.now_s()
            try:
                status = self._ask(address)
                self._check(status, address)
            except (OutlastError, ValueError) as error:
                self._forget(address)
                troubles.append(str(getattr(error, "sentence", error)))
                continue
            doubt = doubt_of(status)
            if best is None or not doubt or status.view > best[0].view:
                best = status, asked_s, doubt
            if not doubt:
                self._good = address
                break
        if best is None:
            self._tell(self._fleet.silent, self.link.pool_id, _all_silent(troubles))
            return
        self._named = tuple(f"https://{h.api}" for h in best[0].hosts if h.api)
        self._tell(self._deliver, *best)

    def _ask(self, address: str) -> PoolStatus:
        asked = self._clients.get(address)
        if asked is None:
            asked = self._clients[address] = _Asked(self.client(address, keep=True))
        elif asked.calls % CLIENT_CALLS == 0:
            asked.client.close()
            asked.client = self.client(address, keep=True)
        asked.calls += 1
        before = asked.status
        since = quote(before.mark if before else "", safe="")
        raw = asked.client.call("GET", f"/v1/status?since={since}")
        with _READING:
            change = parse(PoolNews, raw)
            change = change.model_copy(update={"vms": lean(change.vms)})
        asked.status = whole(before, change) if before and change.since else change
        return asked.status

    def _forget(self, address: str) -> None:
        asked = self._clients.pop(address, None)
        if asked is not None:
            asked.client.close()

    def _check(self, status: PoolStatus, address: str) -> None:
        if status.uuid != self.link.pool_id:
            raise Unreachable(f"{address} belongs to another pool, {status.name}")

    def _deliver(self, status: PoolStatus, asked_s: float, doubt: str) -> None:
        self._fleet.heard(status, asked_s, doubt)
        if self._heard is not None:
            self._heard(self.link.pool_id)

    def _tell(self, act: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(act, *arguments)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self._stop.set()


def doubt_of(status: PoolStatus) -> str:
    """Why an agent's answer is not the present of its pool; "" when it is."""
    if status.trouble:
        return f"{status.answered_by} answers, but does not see its pool: {status.trouble}"
    if status.age_ms is not None and status.age_ms > OLD_MS:
        return (
            f"{status.answered_by} answers, but has known nothing new for {status.age_ms // 1000} s"
        )
    me = next((host for host in status.hosts if host.answering), None)
    if me is not None and me.state != "member":
        return f"{me.name} answers, but is no member of its pool now: {me.sentence}"
    return ""


def _all_silent(troubles: list[str]) -> str:
    if not troubles:
        return "no address of this pool is known"
    more = f" (and {len(troubles) - 1} more tried)" if len(troubles) > 1 else ""
    return f"{troubles[0]}{more}"
