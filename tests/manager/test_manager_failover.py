"""Several managers on one PostgreSQL; the leader is killed. Nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from calling import wait
from desk import QUICK, Postgres, user
from pretend import RealPool
from process import Process
from sqlalchemy import insert

from outlast.manager.accounts import Accounts
from outlast.manager.passwords import Passwords
from outlast.manager.ports import Grant
from outlast.manager.repository import records, schema
from outlast.manager.repository.store import Repository
from outlast.wire.client import AgentClient
from outlast.wire.shapes import VmCreate, make

V = "/api/v1"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPool]:
    made = RealPool(tmp_path_factory.mktemp("pool"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def three(
    tmp_path_factory: pytest.TempPathFactory, real: RealPool, postgres: Postgres
) -> Iterator[tuple[list[Process], str]]:
    url = postgres.create("failover")
    repository = Repository(url)
    repository.migrate()
    link = real.link()
    repository.write_now(lambda c: records.put_pool(c, link.pool_id, link.name, link.agents, 1.0))
    people = Accounts(repository, passwords=Passwords(QUICK))
    token = asyncio.run(user(people, "anna", Grant("admin")))
    root = tmp_path_factory.mktemp("managers")
    made = [Process(root / f"m{n}", url, real=real) for n in range(3)]
    for one in made:
        one.start()
    yield made, token
    for one in made:
        one.kill()
    people.close()
    repository.close()


def leaders(managers: list[Process], token: str) -> list[Process]:
    found = []
    for one in managers:
        if one.process is None:
            continue
        connection = one.connect()
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
        if b"outlast_manager_leads 1.0" in connection.getresponse().read():
            found.append(one)
        connection.close()
    return found


def ended(at: Process, task_id: str, token: str) -> dict[str, Any]:
    """A task as this manager knows it, once it knows that it ended; each learns it by itself."""
    found: list[dict[str, Any]] = []

    def over() -> bool:
        status, task = at.call("GET", f"{V}/tasks/{task_id}?wait_s=5", token=token)
        found.append(task)
        return status == 200 and bool(task["done"])

    wait(over, 60)
    return found[-1]


def test_a_killed_leader_is_replaced_and_no_wish_is_lost(
    three: tuple[list[Process], str], real: RealPool
) -> None:
    managers, token = three
    wait(lambda: len(leaders(managers, token)) == 1)
    wait(lambda: all(
        one.call("GET", f"{V}/pools/{real.id}", token=token)[1]["stale"] is False
        for one in managers
    ))  # fmt: skip
    leader = leaders(managers, token)[0]
    others = [one for one in managers if one is not leader]
    # a browser at the leader; wishes go to the others all the time
    last: list[str] = []

    def follow() -> None:
        try:
            for line in leader.stream(token):
                if line.startswith("id: "):
                    last.append(line[4:])
        except OSError:
            pass

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    wished: dict[str, str] = {}

    def wish(n: int) -> None:
        at = others[n % 2]
        body = {"name": f"vm{n}", "memory": "512MiB", "start": True}
        status, task = at.call("POST", f"{V}/pools/{real.id}/vms", body, token=token)
        assert status == 202, task
        wished[f"vm{n}"] = task["id"]

    for n in range(3):
        wish(n)
    wait(lambda: bool(last))
    leader.kill()
    killed = time.monotonic()
    for n in range(3, 8):
        wish(n)
    wait(lambda: len(leaders(managers, token)) == 1)
    assert time.monotonic() - killed < 5
    # the browser goes on at another manager and misses nothing
    told: set[str] = set()
    for line in others[0].stream(token, last[-1]):
        told |= {f"vm{n}" for n in range(8) if f'"vm{n}"' in line}
        if {f"vm{n}" for n in range(3, 8)} <= told:
            break
    for at in others:  # every task ends, and both know it
        for name, task_id in wished.items():
            task = ended(at, task_id, token)
            assert not task["failed"], (name, task)
    starts = {n: real.a.read_vm(n).value.start_seq for n in wished}  # type: ignore[union-attr]
    assert starts == dict.fromkeys(wished, 1)
    lines = others[0].call("GET", f"{V}/audit?action=create&limit=500", token=token)[1]["items"]
    for name in wished:
        said = [line["sentence"] for line in lines if line["object"] == f"{real.id}/{name}"]
        assert len(said) == 2, said  # wished once, ended once
    leader.start()  # and it is one of them again
    wait(lambda: leader.call("GET", f"{V}/vms", token=token)[1]["total"] == 8)
    wait(lambda: len(leaders(managers, token)) == 1)


def test_a_wish_of_a_manager_that_was_killed_is_looked_for_in_the_pool(
    three: tuple[list[Process], str], real: RealPool
) -> None:
    """Killed between writing a wish down and the pool's answer: one that the pool took, one not."""
    managers, token = three
    client = AgentClient(real.url("a"), pki=real.pki)
    for name in ("web", "db"):
        client.create(make(VmCreate, name=name, memory="512MiB"))
    client.start("web")
    config = (managers[0].root / "etc/manager.json").read_text()
    repository = Repository(config.split('"database": "')[1].split('"')[0])
    for task_id, name in (("taken", "web"), ("lost", "db")):
        row = {
            "id": task_id, "verb": "start", "pool_id": real.id, "object": name, "who": "anna",
            "started_wall_s": time.time() - 60, "ended_wall_s": 0, "phase": "asking",
            "sentence": "", "hint": "", "done": False, "failed": False, "manager": "dead",
            "wish": "{}",
        }  # fmt: skip
        repository.write_now(lambda c, row=row: c.execute(insert(schema.tasks).values(**row)))
    repository.close()

    for at in managers:
        taken, lost = ended(at, "taken", token), ended(at, "lost", token)
        assert (taken["failed"], lost["failed"]) == (False, True)
        assert "shows no such wish" in lost["sentence"]
    assert real.a.read_vm("db").value.start_seq == 0  # type: ignore[union-attr]
