"""This host has the pool's storage repositories: mounted, watched, let go of when unwanted.

Rules:
1. In threads of its own: a server that hangs keeps the agent from its work no longer. Each mount is
   asked in a thread of its own, so one that hangs hides no other.
2. What is wrong is a note when it lasts for two looks; so is its end. That a new one has only begun
   to answer is none, unless that lasts.
3. When the wishes cannot be read nothing is changed: not knowing never looks like "no storage".
4. A repository that is removed is unmounted when nothing uses it any more, never by force.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from outlast.equipment import Repository
from outlast.errors import OutlastError
from outlast.mounts.answer import BEGINNINGS, Asking
from outlast.mounts.options import Choice
from outlast.mounts.registry import choice_of
from outlast.pool.facts import Answering
from outlast.pool.journal import Note, note

LOOK_S = 5.0
NEW = 3  # so many X a storage is new for at most
OURS = "repository/"  # names of units begin so


class MountPort(Protocol):
    def ours(self) -> Mapping[str, str]: ...
    def mount(self, choice: Choice, path: str, name: str) -> bool: ...
    def unmount(self, path: str) -> None: ...


class RepositoryKeeper:
    """wishes: the pool's repositories; may raise OutlastError. settle_ns: X, how long a storage
    must have answered without a break."""

    def __init__(
        self, host: str, wishes: Callable[[], list[Repository]], mounts: MountPort,
        tell: Callable[[Note], None], now_ns: Callable[[], int], settle_ns: int,
    ) -> None:  # fmt: skip
        self._host, self._wishes, self._mounts, self._tell = host, wishes, mounts, tell
        self._now_ns, self._settle_ns = now_ns, settle_ns
        self._asking: dict[str, tuple[Repository, Asking]] = {}
        self._unmounted: dict[str, str] = {}  # name -> why it could not be mounted
        self._wished: frozenset[str] | None = None  # all there are; None: not read yet
        self._before: dict[str, str] = {}  # what was wrong at the last look
        self._new_ns: dict[str, int] = {}  # since when it is; 0 once it has answered for X
        self._told: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="repositories", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        for _, asking in self._asking.values():
            asking.close()

    @property
    def known(self) -> Mapping[str, Answering]:
        """Every repository as it is at this moment. Never blocks."""
        asked = {name: asking.state() for name, (_, asking) in self._asking.items()}
        found = {
            name: Answering(settled_ns, trouble) for name, (settled_ns, trouble) in asked.items()
        }
        return found | {name: Answering(0, why) for name, why in self._unmounted.items()}

    def since_ns(self, name: str) -> int:
        """What was gone before this has its writes behind it; 0 while it does not answer. One that
        the pool has no more asks for no answer: now."""
        if self._wished is None:
            return 0
        if name not in self._wished:
            return self._now_ns()
        state = self.known.get(name)
        return state.settled_ns if state is not None and not state.trouble else 0

    def look(self) -> None:
        """Make this host as it shall be, as far as that can be done."""
        try:
            wishes = {repository.name: repository for repository in self._wishes()}
        except OutlastError:
            return
        self._wished = frozenset(wishes)
        unmounted = {}
        for name, repository in wishes.items():
            if trouble := self._have(repository):
                unmounted[name] = trouble
        kept = set(wishes) - set(unmounted)
        for name in set(self._asking) - kept:
            self._asking[name][1].close()
        # others read it at any moment: it is exchanged, never changed
        self._asking = {name: one for name, one in self._asking.items() if name in kept}
        self._unmounted = unmounted
        self._say(wishes)
        self._let_go(set(wishes))

    def _have(self, repository: Repository) -> str:
        """What keeps it from being mounted here; "" when it is, and is asked."""
        mounted = repository.kind != "dir"
        try:
            if mounted:
                name = OURS + repository.name
                self._mounts.mount(choice_of(repository), repository.path, name)
        except OutlastError as trouble:
            return trouble.sentence
        known = self._asking.get(repository.name)
        if known is not None and known[0] == repository:
            return ""
        folder = Path(repository.path)
        asking = Asking(folder, self._host, self._now_ns, self._settle_ns, mounted=mounted)
        self._asking = {**self._asking, repository.name: (repository, asking)}
        if known is not None:
            known[1].close()
        return ""

    def _say(self, wishes: Mapping[str, Repository]) -> None:
        """Rule 2: what was there at two looks in a row."""
        now = {name: state.trouble for name, state in self.known.items()}
        for name, trouble in now.items():
            told = self._told.get(name, "")
            if not told and self._before.get(name) and trouble and not self._begins(name, trouble):
                self._told[name] = trouble
                fields = {"host": self._host, "repository": name, "why": trouble}
                self._tell(note("repository-lacks", **fields))
            elif told and not trouble:
                del self._told[name]
                self._tell(note("repository-there", host=self._host, repository=name))
        self._told = {name: why for name, why in self._told.items() if name in wishes}
        self._new_ns = {
            name: self._new_ns.get(name, self._now_ns()) if trouble else 0
            for name, trouble in now.items()
        }
        self._before = now

    def _begins(self, name: str, trouble: str) -> bool:
        new_ns = self._now_ns() - self._new_ns[name]
        return trouble in BEGINNINGS and new_ns <= NEW * self._settle_ns

    def _let_go(self, names: set[str]) -> None:
        try:
            for path, name in self._mounts.ours().items():
                if name.startswith(OURS) and name.removeprefix(OURS) not in names:
                    self._mounts.unmount(path)
        except OutlastError:
            return  # in use, or it hangs: tried again at the next look

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(LOOK_S)
