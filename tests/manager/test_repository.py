"""The repository on SQLite and PostgreSQL: schema, trouble, what may happen once only."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, delete, insert, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from outlast.errors import InvalidInput, OutlastError, StorageTrouble
from outlast.manager.ports import Grant, Task
from outlast.manager.repository import moments, people, records, schema
from outlast.manager.repository.records import AuditRow
from outlast.manager.repository.store import HEAD, STEPS, Repository
from outlast.wire.shapes import TimelineEntry


@pytest.fixture
def repository(database: str) -> Iterator[Repository]:
    made = Repository(database)
    made.migrate()
    yield made
    made.close()


def test_the_steps_lead_to_the_tables_that_the_code_knows(repository: Repository) -> None:
    def differences(c: Connection) -> list[object]:
        return compare_metadata(MigrationContext.configure(c), schema.metadata)

    assert repository.read_now(differences) == []
    assert repository.schema() == HEAD
    steps = sorted((STEPS / "versions").glob("step_*.py"))
    assert steps[-1].stem == f"step_{HEAD}"


def test_an_older_schema_is_migrated_and_keeps_what_is_in_it(database: str) -> None:
    made = Repository(database)
    made.migrate("0001")
    made.write_now(lambda c: c.execute(text("insert into users values ('anna', 'h', false, 1)")))
    made.write_now(lambda c: people.set_grants(c, "user:anna", [Grant("admin")]))
    assert made.schema() == "0001"
    with pytest.raises(StorageTrouble, match=r"does not work|no tables|no such"):
        made.read_now(lambda c: c.execute(select(schema.webhooks)))
    made.migrate()
    assert made.schema() == HEAD
    assert made.read_now(lambda c: c.execute(select(schema.webhooks)).all()) == []
    found = made.read_now(lambda c: people.user(c, "anna"))
    assert found is not None
    assert (found.grants, found.origin, found.code_needed) == ((Grant("admin"),), "local", False)
    made.close()


def test_a_newer_schema_is_refused_and_left_alone(repository: Repository) -> None:
    repository.write_now(lambda c: c.execute(text("update alembic_version set version_num='9000'")))
    with pytest.raises(StorageTrouble, match="schema 9000, made by a newer Outlast") as caught:
        repository.migrate()
    assert "upgrade" in caught.value.hint
    assert repository.schema() == "9000"


def test_several_managers_that_start_at_once_migrate_once(
    new_postgres_database: Callable[[], str],
) -> None:
    url, failed = new_postgres_database(), []

    def start() -> None:
        made = Repository(url)
        try:
            made.migrate()
        except OutlastError as error:
            failed.append(error)
        made.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_the_audit_is_only_added_to(repository: Repository) -> None:
    line = AuditRow(1.0, "anna", "", "start", "web", True, "it was so")
    repository.write_now(lambda c: records.add_audit(c, line))
    wishes: list[Any] = [update(schema.audit).values(who="else"), delete(schema.audit)]
    if not repository.shared:  # takes a row away without asking the triggers on delete
        wishes.append(text("insert or replace into audit select * from audit"))
    else:
        wishes.append(text("truncate audit"))
        wishes.append(text("insert into audit select * from audit "
                           "on conflict (id) do update set who = 'else'"))  # fmt: skip
    for wish in wishes:
        with pytest.raises((StorageTrouble, SQLAlchemyError)):
            repository.write_now(lambda c, wish=wish: c.execute(wish))
    rows, total = repository.read_now(records.list_audit)
    assert (total, rows[0].sentence) == (1, "it was so")


def test_work_is_all_or_nothing(repository: Repository) -> None:
    def half(c: Connection) -> None:
        people.add_user(c, "anna", "hash", [Grant("admin")], 1.0)
        raise InvalidInput("and then something is wrong")

    with pytest.raises(InvalidInput):
        repository.write_now(half)
    assert repository.read_now(people.count_users) == 0


def test_of_many_who_use_the_code_one_does(repository: Repository) -> None:
    repository.write_now(lambda c: people.put_setup_code(c, "hash"))
    won: list[bool] = []

    def use() -> None:
        won.append(repository.write_now(lambda c: people.use_setup_code(c, "hash")))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_task_ends_once(repository: Repository) -> None:
    task = Task("t1", "start", "p", "web", "anna", 1.0, "asking", None, "")
    repository.write_now(lambda c: records.add_task(c, task, "m", {}))
    ended = Task("t1", "start", "p", "web", "anna", 1.0, "done", 100.0, "web runs", True, False, 9)
    assert repository.write_now(lambda c: records.change_task(c, ended, {}))
    again = Task("t1", "start", "p", "web", "anna", 1.0, "failed", None, "no", True, True, 9)
    assert not repository.write_now(lambda c: records.change_task(c, again, {}))
    found = repository.read_now(lambda c: records.fresh_tasks(c, 5.0))
    assert [t.sentence for t, _, _ in found] == ["web runs"]
    assert repository.read_now(lambda c: records.fresh_tasks(c, 9.0)) == []


def test_events_are_known_by_their_notes(repository: Repository) -> None:
    entries = [
        TimelineEntry(wall_s=n, host="a", code="x", sentence=f"n{n}", id=f"id{n}",
                      fields={"vm": "web"} if n % 2 else {})
        for n in range(1200)
    ]  # fmt: skip
    add = repository.write_now
    assert add(lambda c: records.add_events(c, "p", entries[:700])) == 700
    assert add(lambda c: records.add_events(c, "p", entries)) == 500
    assert add(lambda c: records.add_events(c, "q", entries[:1])) == 1
    assert add(lambda c: records.add_events(c, "p", [])) == 0
    rows, total = repository.read_now(
        lambda c: records.list_events(c, pools_seen=None, pool_id="p", vm="web", limit=2)
    )
    assert (total, [r.sentence for r in rows]) == (600, ["n1199", "n1197"])
    rows, total = repository.read_now(lambda c: records.list_events(c, pools_seen=["q"]))
    assert total == 1
    assert add(lambda c: records.forget_events(c, 1000.0)) == 1001
    assert repository.read_now(lambda c: records.newest_event_s(c, "p")) == 1199


def test_what_was_seen_is_found_by_the_moment(repository: Repository) -> None:
    def entry(n: int, seen: str = "") -> TimelineEntry:
        evidence: dict[str, object] = {"blocks": {"b": {"seq": seen}}} if seen else {"view": None}
        return TimelineEntry(wall_s=n // 2, host="a", code="x", sentence=f"n{n}", id=f"id{n}",
                             evidence=evidence)  # fmt: skip

    do, told = repository.write_now, [entry(n, "one" if n == 3 else "") for n in range(10)]
    assert do(lambda c: moments.add_events(c, "p", told[6:])) == 4
    assert do(lambda c: moments.add_events(c, "p", told)) == 6
    assert do(lambda c: moments.add_events(c, "p", told)) == 0
    assert do(lambda c: moments.add_events(c, "q", [entry(8, "another pool")])) == 1
    rows, _ = do(lambda c: records.list_events(c, pools_seen=["p"]))
    by_name = {row.sentence: row for row in rows}

    def seen(name: str) -> object:
        found = do(lambda c: moments.seen_at(c, by_name[name]))
        return found and (found.event.sentence, found.evidence)

    assert seen("n2") is None, "of two at the same time the one that came first"
    assert seen("n3") == seen("n9") == ("n3", {"blocks": {"b": {"seq": "one"}}})
    near = do(lambda c: moments.around(c, by_name["n4"], 2))
    assert [row.sentence for row in near] == ["n2", "n3", "n4", "n5", "n6"]
    some = do(lambda c: moments.one(c, "q", by_name["n4"].id))
    assert some is None, "of another pool"
    do(lambda c: moments.forget(c, by_name["n3"].id))
    assert seen("n9") is not None
    do(lambda c: moments.forget(c, by_name["n3"].id + 1))
    assert seen("n9") is None


def test_of_too_many_moments_the_oldest_are_forgotten(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "KEPT_MAX", 3)
    told = [
        TimelineEntry(wall_s=n, host="a", code="x", sentence=f"n{n}", id=f"id{n}",
                      evidence={"blocks": {"b": {}}})
        for n in range(5)
    ]  # fmt: skip
    do = repository.write_now
    do(lambda c: moments.add_events(c, "p", told))
    do(lambda c: moments.forget(c, 0))
    assert do(lambda c: c.execute(select(schema.moments.c.event_id)).scalars().all()) == [3, 4, 5]


def test_calls_with_a_key_are_noted_once(repository: Repository) -> None:
    write = repository.write_now
    assert write(lambda c: records.begin_call(c, "anna", "k", "r", 1.0)) is None
    assert write(lambda c: records.begin_call(c, "anna", "k", "r", 1.0)) == ("r", 0, "")
    assert write(lambda c: records.begin_call(c, "bert", "k", "r", 1.0)) is None
    write(lambda c: records.end_call(c, "anna", "k", 202, "{}"))
    assert write(lambda c: records.begin_call(c, "anna", "k", "s", 1.0)) == ("r", 202, "{}")
    write(lambda c: records.end_call(c, "bert", "k", 0, ""))
    assert write(lambda c: records.begin_call(c, "bert", "k", "r", 1.0)) is None


# ---- trouble


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    made = Repository(f"sqlite:///{tmp_path}/sub/manager.db")
    made.migrate()
    made.write_now(lambda c: people.put_setup_code(c, "x"))
    for file in (tmp_path / "sub").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made.close()


def test_a_file_that_vanishes_is_trouble_until_it_is_back(tmp_path: Path) -> None:
    made = Repository(f"sqlite:///{tmp_path}/manager.db")
    made.migrate()
    made.write_now(lambda c: people.put_setup_code(c, "x"))
    (tmp_path / "manager.db").rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(StorageTrouble, match=r"cannot be opened|removed or replaced"):
            made.read_now(people.setup_code)
    (tmp_path / "away").rename(tmp_path / "manager.db")
    assert made.read_now(people.setup_code) == "x"
    made.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manager.db").write_bytes(b"this is a text about something else\n" * 200)
    made = Repository(f"sqlite:///{tmp_path}/manager.db")
    with pytest.raises(StorageTrouble, match="the file is no database"):
        made.migrate()
    made.close()
    assert (tmp_path / "manager.db").read_bytes().startswith(b"this is a text")


def test_a_full_disk_is_said_loses_nothing_and_passes(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs {disk}") != 0:
        pytest.skip("this place allows no mounts")
    try:
        made = Repository(f"sqlite:///{disk}/manager.db")
        made.migrate()
        made.write_now(lambda c: people.put_setup_code(c, "kept"))
        (disk / "ballast").write_bytes(b"x" * 200_000)
        line = AuditRow(1.0, "anna", "", "start", "web", True, "y" * 20_000)
        with pytest.raises(StorageTrouble, match="its disk is full"):
            for _ in range(200):
                made.write_now(lambda c: records.add_audit(c, line))
        _, before = made.read_now(records.list_audit)
        assert made.read_now(people.setup_code) == "kept"
        (disk / "ballast").unlink()
        made.write_now(lambda c: records.add_audit(c, line))
        assert made.read_now(records.list_audit)[1] == before + 1
        made.close()
    finally:
        os.system(f"umount -l {disk}")


@pytest.mark.parametrize(
    "url", ["", "x", "mysql://a/b", "sqlite://", "sqlite:///relative.db", "postgresql//x", "\x00"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidInput):
        Repository(url)


def test_a_lost_postgresql_is_trouble_until_it_is_back(tmp_path: Path) -> None:
    import shutil
    import tempfile

    from desk import Postgres

    if not Postgres.BINARIES:
        pytest.skip("PostgreSQL is not installed")
    root = Path(tempfile.mkdtemp(prefix="outlast-pg-", dir="/tmp"))
    server = Postgres(root)
    try:
        made = Repository(server.create("lost"))
        made.migrate()
        made.write_now(lambda c: c.execute(insert(schema.settings).values(key="a", value="b")))
        server.stop()
        for _ in range(2):
            with pytest.raises(StorageTrouble, match="the manager's database at") as caught:
                made.read_now(people.setup_code)
        assert "outlast@" in caught.value.sentence
        server.start()
        assert made.read_now(lambda c: c.execute(select(schema.settings.c.value)).scalar()) == "b"
        made.close()
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)


def test_a_password_in_the_address_is_never_shown() -> None:
    made = Repository("postgresql://outlast:very-secret@127.0.0.1:1/x")
    with pytest.raises(StorageTrouble) as caught:
        made.migrate()
    assert "very-secret" not in caught.value.sentence + caught.value.hint + made.where
    made.close()
