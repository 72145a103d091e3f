"""A host has the repositories the pool wants: mounted, watched, told of, and let go of."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outlast.agent import repository_keeper
from outlast.agent.repository_keeper import RepositoryKeeper
from outlast.agent.senses import boottime_ns
from outlast.equipment import Repository
from outlast.errors import Conflict, OutlastError, StorageTrouble
from outlast.mounts.answer import SETTLING
from outlast.mounts.options import Choice
from outlast.pool.facts import Answering
from outlast.pool.journal import Note

X_NS = 500_000_000


class Machine:
    """What mounts.systemd does, without any file system."""

    def __init__(self) -> None:
        self.mounted: dict[str, str] = {}
        self.trouble: OutlastError | None = None

    def ours(self) -> dict[str, str]:
        return dict(self.mounted)

    def mount(self, choice: Choice, path: str, name: str) -> bool:
        if self.trouble is not None:
            raise self.trouble
        self.mounted[path] = name
        return True

    def unmount(self, path: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        del self.mounted[path]


class Host:
    def __init__(self, *wished: Repository) -> None:
        self.wished, self.machine = list(wished), Machine()
        self.readable = True
        self.told: list[Note] = []
        self.keeper = RepositoryKeeper(
            "a", self._wishes, self.machine, self.told.append, boottime_ns, X_NS
        )

    def _wishes(self) -> list[Repository]:
        if not self.readable:
            raise StorageTrouble("it hangs")
        return self.wished

    def look(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not until():
            assert time.monotonic() < end, self.keeper.known
            self.keeper.look()
            time.sleep(0.02)

    @property
    def codes(self) -> list[str]:
        return [note.code for note in self.told]


def test_a_directory_is_watched_and_its_absence_told(tmp_path: Path) -> None:
    place = tmp_path / "vms"
    host = Host(Repository("old", "dir", path=str(place)))
    try:
        host.look(lambda: host.codes == ["repository-lacks"])
        assert "No such file" in host.told[0].sentence
        assert host.keeper.known["old"].trouble
        place.mkdir()
        host.look(lambda: host.codes == ["repository-lacks", "repository-there"])
        assert host.keeper.known["old"].trouble == ""
        host.look(lambda: host.keeper.known["old"].settled_ns > 0)
        assert not host.machine.mounted, "it is mounted by somebody else"
        assert host.keeper.since_ns("old") >= host.keeper.known["old"].settled_ns - 1 > 0
        host.wished.clear()
        host.keeper.look()
        assert host.keeper.since_ns("old") > 0, "the pool has it no more"
    finally:
        host.keeper.close()


def test_a_new_one_that_answers_is_nothing_to_tell(tmp_path: Path) -> None:
    host = Host(Repository("old", "dir", path=str(tmp_path)))
    try:
        host.look(lambda: host.keeper.known.get("old", NEVER).trouble == "")
        assert host.codes == []
    finally:
        host.keeper.close()


def test_a_new_one_that_never_answers_in_time_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __init__(self, *_: object, **__: object) -> None: ...
        def close(self) -> None: ...
        def state(self) -> tuple[int, str]:
            return 0, SETTLING

    monkeypatch.setattr(repository_keeper, "Asking", Slow)
    host = Host(Repository("old", "dir", path="/slow"))
    host.look(lambda: host.codes == ["repository-lacks"])


def test_one_that_cannot_be_mounted_says_why_and_is_not_asked() -> None:
    host = Host(Repository("fast", "nfs", "flash:/vms", "/srv/fast"))
    host.machine.trouble = NotMounted
    assert host.keeper.since_ns("gone") == 0, "nothing is known yet"
    host.keeper.look()
    assert host.keeper.since_ns("fast") == 0 and host.keeper.since_ns("gone") > 0
    assert host.codes == [], "a moment is not worth a note"
    host.keeper.look()
    host.keeper.look()
    assert [note.sentence for note in host.told] == [
        "a does not have the storage fast: the server does not answer"
    ]
    assert host.keeper.known["fast"].trouble == "the server does not answer"


def test_what_is_unwanted_goes_when_nothing_uses_it_and_never_on_a_guess() -> None:
    host = Host(Repository("fast", "nfs", "flash:/vms", "/srv/fast"))
    host.machine.mounted["/srv/pool"] = "the pool's storage"
    host.keeper.look()
    assert host.machine.mounted["/srv/fast"] == "repository/fast"
    host.wished = []
    host.readable = False
    host.keeper.look()
    assert "/srv/fast" in host.machine.mounted, "not knowing is not 'no storage'"
    host.readable = True
    host.machine.trouble = Conflict("qemu uses it")
    host.keeper.look()
    assert "/srv/fast" in host.machine.mounted
    host.machine.trouble = None
    host.keeper.look()
    assert host.machine.mounted == {"/srv/pool": "the pool's storage"}
    assert host.keeper.known == {}


NEVER = Answering(0, "it was never looked at")
NotMounted = StorageTrouble("the server does not answer")
