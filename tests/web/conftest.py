"""A manager with its pages on an event loop of its own, and a pretend fleet that it sees."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "manager"))

from browsing import browser, opened, stage
from desk import BOSS, Desk, Said
from fleet import PretendPool
from fleet_follower import follow
from fleet_story import failure

from outlast.manager.ports import COOKIE, Grant
from outlast.manager.repository import moments
from outlast.manager.serve import pages

__all__ = ["browser", "opened", "stage"]  # fixtures
PASSWORD = "correct horse battery"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(autouse=True)
def alone(own_run: None) -> None:
    pass


class Site:
    """The console, called without a network: get and post as somebody."""

    def __init__(self, root: Path, *, pretend: bool = True) -> None:
        self.desk = Desk(root)
        self.manager = self.desk.manager
        self._cookies: dict[str, tuple[str, str]] = {}
        self.app = pages(self.desk.app, self.manager)
        if pretend:
            self._pretend()

    def _pretend(self) -> None:
        # these would find the pools silent, and take away those that the database lacks
        for loop in self.manager._loops[:2]:
            self.desk._loop.call_soon_threadsafe(loop.cancel)
        self.pools = {"frankfurt-a": PretendPool(1, "frankfurt-a", hosts=8, vms=120)}
        self.pools["lab"] = PretendPool(2, "lab", hosts=3, vms=12)
        failure(self.pools["frankfurt-a"])
        self.followers = {n: self.run(self._follow(p)) for n, p in self.pools.items()}

    async def _follow(self, pool: PretendPool) -> object:
        await self.manager.repository.write(lambda c: moments.add_events(c, pool.id, pool.notes))
        return follow(self.manager, pool)

    @property
    def run(self) -> Callable[..., object]:
        return self.desk.run

    def tell(self) -> None:
        """The manager hears all pools."""

        async def hear() -> None:
            for follower in self.followers.values():
                follower.tell()

        self.run(hear())

    def person(self, name: str, *roles: Grant) -> tuple[str, str]:
        """Cookie and form token of somebody who is signed in."""
        if name not in self._cookies:

            async def enter() -> tuple[str, str]:
                people = self.manager.people
                if name not in [u.name for u in await people.users()]:
                    await people.add_user(BOSS, name, PASSWORD, roles or (Grant("viewer"),))
                session = await people.login(name, PASSWORD, "10.1.1.1")
                return session.cookie_token, session.csrf

            self._cookies[name] = self.run(enter())
        return self._cookies[name]

    def get(self, path: str, who: str = "anna", target: str = "", **headers: str) -> Said:
        """target: as a script that fills this element."""
        if target:
            headers |= {"hx-request": "true", "hx-target": f"div#{target}"}
        if who:
            headers["cookie"] = f"{COOKIE}={self.person(who)[0]}"
        return self.desk.call("GET", path, raw=b"", **headers)

    def post(
        self, path: str, form: dict[str, str] | None = None, who: str = "anna", *,
        csrf: str | None = None, scripted: bool = False,
        rename: dict[str, str] | None = None, **headers: str,
    ) -> Said:  # fmt: skip
        """rename: fields that are sent under another name, as one that is there more than once."""
        sent = dict(form or {})
        if who:
            cookie, token = self.person(who)
            headers["cookie"] = f"{COOKIE}={cookie}"
            sent["csrf"] = token if csrf is None else csrf
        if scripted:
            headers |= {"hx-request": "true"}
        headers |= {"content-type": FORM, "origin": headers.get("origin", "https://manager")}
        pairs = [((rename or {}).get(key, key), value) for key, value in sent.items()]
        return self.desk.call("POST", path, raw=urlencode(pairs).encode(), **headers)

    def until(self, path: str, words: str, who: str = "anna", within_s: float = 10) -> str:
        """The page, once it says so."""
        end = time.monotonic() + within_s
        while words not in (page := self.get(path, who).body.decode()):
            assert time.monotonic() < end, page
            time.sleep(0.02)
        return page

    def wishes(self) -> int:
        return sum(len(pool.wishes) for pool in self.pools.values())

    def close(self) -> None:
        beats = self.app.state.web.beats._running
        if beats is not None:
            self.desk._loop.call_soon_threadsafe(beats.cancel)
        for catching in list(self.app.state.web._catching.values()):
            self.desk._loop.call_soon_threadsafe(catching.cancel)
        self.desk.close()


def made(root: Path) -> Site:
    site = Site(root)
    for name in ("admin", "operator", "viewer"):
        site.person({"admin": "anna", "operator": "otto", "viewer": "vera"}[name], Grant(name))
    return site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For tests that leave it as it was."""
    found = made(tmp_path_factory.mktemp("site"))
    yield found
    found.close()


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """For tests that change what there is."""
    found = made(tmp_path)
    yield found
    found.close()
