"""A whole manager on an event loop in a thread, called without a network; and a PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import subprocess
import threading
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from argon2 import PasswordHasher

from outlast.manager.accounts import Accounts
from outlast.manager.api.app import build
from outlast.manager.config import Config, Place
from outlast.manager.passwords import Passwords
from outlast.manager.ports import Grant, Person
from outlast.manager.repository import records
from outlast.manager.service import Manager

T = TypeVar("T")
QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
BOSS = Person("boss", (Grant("admin"),))


@dataclass(frozen=True)
class Said:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        found = self.json["error"]
        assert set(found) == {"code", "sentence", "hint", "field"}
        assert found["sentence"]
        return found


class Desk:
    """A manager that runs, and a way to call it. `close` ends it."""

    def __init__(self, root: Path, database: str = "", **config: Any) -> None:
        self.place = Place(root / "etc", root / "var")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.manager = Manager(
            self.place, Config(database=database, **config), period_s=0.05,
            passwords=Passwords(QUICK),
        )  # fmt: skip
        self.app = build(self.manager)
        self.run(self.manager.start())

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 60) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def close(self) -> None:
        self.run(self.manager.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def call(
        self, method: str, path: str, body: object = None, *, token: str = "", raw: bytes = b"",
        **headers: str,
    ) -> Said:  # fmt: skip
        """One call of the application; header names have _ for -."""
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        if token:
            sent["authorization"] = f"Bearer {token}"
        content = raw if body is None else json.dumps(body).encode()
        if content:
            sent.setdefault("content-type", "application/json")
        return self.run(ask(self.app, method, path, content, sent))

    def follow(self, link: Any) -> None:
        """Add a pool, as `outlast manager add-pool` does."""
        folder = self.place.pool_pki(link.pool_id)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            folder.symlink_to(link.pki)
        self.run(
            self.manager.repository.write(
                lambda c: records.put_pool(c, link.pool_id, link.name, link.agents, 1.0)
            )
        )
        self.run(self.manager.sync())

    def user(self, name: str, *roles: Grant) -> str:
        """A user with these roles, and a token that may all the user may."""
        return self.run(user(self.manager.people, name, *roles))


async def user(people: Accounts, name: str, *roles: Grant) -> str:
    """A user, and a token that may the same."""
    await people.add_user(BOSS, name, f"a long password of {name}", roles)
    return (await people.add_token(BOSS, name, "test", roles, 1))[0]


async def ask(app: Any, method: str, path: str, content: bytes, headers: dict[str, str]) -> Said:
    started: dict[str, Any] = {}
    chunks: list[bytes] = []
    async for message in _messages(app, method, path, content, headers):
        if message["type"] == "http.response.start":
            started = message
        else:
            chunks.append(message.get("body", b""))
    found: dict[str, str] = {}
    for name, value in ((k.decode().lower(), v.decode()) for k, v in started["headers"]):
        found[name] = f"{found[name]}, {value}" if name in found else value
    return Said(started["status"], found, b"".join(chunks))


async def _messages(
    app: Any, method: str, path: str, content: bytes, headers: dict[str, str]
) -> AsyncIterator[Any]:
    """What the application sends, as it sends it; ends when the reader has enough."""
    path, _, query = path.partition("?")
    length = {"content-length": str(len(content))} if content else {}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "https", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "client": ("10.1.1.1", 1), "server": ("manager", 443),
        "headers": [(k.lower().encode(), v.encode("latin-1"))
                    for k, v in ({"host": "manager"} | length | headers).items()],
    }  # fmt: skip
    queue: asyncio.Queue[Any] = asyncio.Queue()
    todo, gone = [{"type": "http.request", "body": content, "more_body": False}], asyncio.Event()

    async def receive() -> Any:
        if todo:
            return todo.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    running = asyncio.ensure_future(app(scope, receive, queue.put))
    running.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (message := await queue.get()) is not None:
            yield message
            if message["type"] == "http.response.body" and not message.get("more_body"):
                break
    finally:
        gone.set()
        await asyncio.wait([running], timeout=5)
        if not running.done():
            running.cancel()
    # what the application raises was answered as a bug already
    if running.done() and not running.cancelled():
        running.exception()


class Postgres:
    """A PostgreSQL of its own on a unix socket, run by a user that is not root."""

    BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))

    def __init__(self, root: Path) -> None:
        self._root, self._bin = root, self.BINARIES[-1]
        self._data = root / "data"
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(root, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._run("initdb", "-D", self._data, "-U", "outlast", "-A", "trust", "--no-sync")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, name: str) -> str:
        return f"postgresql://outlast@/{name}?host={self._root}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._data, "-k", self._root, "-c",
             "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"],
            stderr=(self._root / "log").open("ab"), cwd=self._root, **self._as,
        )  # fmt: skip
        for _ in range(200):
            ready = [self._bin / "pg_isready", "-q", "-h", self._root]
            if subprocess.run(ready, check=False).returncode == 0:
                return
            threading.Event().wait(0.05)
        raise AssertionError((self._root / "log").read_text())

    def stop(self) -> None:
        """At once, as when its machine dies."""
        assert self.process is not None
        self.process.send_signal(3)
        self.process.wait(20)

    def create(self, name: str) -> str:
        # the other template refuses while anybody else is connected to it
        self._run("createdb", "-h", self._root, "-U", "outlast", "-T", "template0", name)
        return self.url(name)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._bin / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, cwd=self._root, **self._as)
        assert done.returncode == 0, done.stderr
