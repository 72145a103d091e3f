"""Opens the database, brings its schema up to date, runs transactions in threads.

Promises:
1. Work is all or nothing. Trouble of the database is StorageTrouble with a sentence and a hint; the
   next call tries again, so nothing has to be restarted when the database is back.
2. An older schema is migrated in one transaction, by one manager at a time; a newer one and a file
   that is no database are refused before anything is written.
3. An SQLite file is made 0600 and never made anew behind a running manager's back; it keeps what
   was answered even when the power fails.

`Repository.read` and `write` take a function of a connection; callers hold no connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    exc,
    inspect,
    make_url,
    pool,
    text,
)

from outlast.errors import InvalidInput, OutlastError, StorageTrouble

T = TypeVar("T")
Work = Callable[[Connection], T]

THREADS = 8
MIGRATE_LOCK = 0x6F75746C_0001  # advisory locks of PostgreSQL; one number a purpose
LEADER_LOCK = 0x6F75746C_0002
STEPS = Path(__file__).parent / "migrations"
HEAD = "0005"  # the newest of them


class Repository:
    """One database. Raises InvalidInput for an address that is none."""

    def __init__(self, url: str) -> None:
        """url: sqlite:////path/to/file or postgresql://user@host/name."""
        self._engine, self.where, self._file = _engine(url)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="repository")

    @property
    def shared(self) -> bool:
        """Other managers may use it as well."""
        return self._engine.dialect.name != "sqlite"

    async def read(self, work: Work[T]) -> T:
        """Raises StorageTrouble, and what the work raises."""
        return await self._in_thread(self.read_now, work)

    async def write(self, work: Work[T]) -> T:
        """The same; everything the work wrote is durable when this returns."""
        return await self._in_thread(self.write_now, work)

    def read_now(self, work: Work[T]) -> T:
        with self._trouble(), self._engine.connect() as connection:
            return work(connection)

    def write_now(self, work: Work[T]) -> T:
        with self._trouble(), self._engine.connect() as connection:
            if not self.shared:
                connection = connection.execution_options(outlast_write=True)
            with connection.begin():
                return work(connection)

    def own_connection(self) -> Connection:
        """A connection that is not shared; the caller closes it. Raises StorageTrouble."""
        with self._trouble():
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()
            return connection

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()

    # ---- the schema

    def migrate(self, to: str = "head") -> None:
        """Bring the schema up to date, made anew where there is none.

        Raises StorageTrouble for a newer schema and for what is no database of a manager.
        """
        if self._file is not None:
            _make_file(self._file)
        if self.schema() != HEAD or to != "head":
            self.write_now(lambda connection: self._migrate(connection, to))

    def schema(self) -> str:
        """The step the schema is at; "" = there is none yet."""
        return self.read_now(_present_step)

    def _migrate(self, connection: Connection, to: str) -> None:
        # most starts and commands find nothing to do and are spared half a second of imports
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory
        from alembic.util.exc import CommandError

        if self.shared:
            connection.execute(text(f"select pg_advisory_xact_lock({MIGRATE_LOCK})"))
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(STEPS))
        config.set_main_option("path_separator", "os")
        script = ScriptDirectory.from_config(config)
        known = {step.revision for step in script.walk_revisions()}
        present = _present_step(connection)
        if present and present not in known:
            raise StorageTrouble(
                f"the database at {self.where} has schema {present}, made by a newer Outlast; "
                f"this one knows schemas up to {max(known)}",
                hint="upgrade this manager; nothing was changed",
            )
        try:
            command.upgrade(config, to)
        except CommandError as error:
            raise StorageTrouble(f"the schema cannot be brought up to date: {error}") from error

    # ---- trouble

    async def _in_thread(self, run: Callable[[Work[T]], T], work: Work[T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, run, work)

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError:
            raise  # means something to the work that ran into it
        except (exc.SQLAlchemyError, OSError) as error:
            raise trouble_of(error, self.where) from error


def _present_step(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("select version_num from alembic_version")).scalar() or "")


def _engine(url: str) -> tuple[Engine, str, Path | None]:
    """The engine, its address without a password, and the file of SQLite."""
    hint = "sqlite:////var/lib/outlast/manager/manager.db or postgresql://user@host/name"
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        raise InvalidInput("the database's address is none", hint=hint) from None
    kind = parsed.get_backend_name()
    if kind == "postgresql":
        # a peer that is gone must be noticed in seconds, not in the hours of TCP's defaults
        arguments = {
            "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2,
            "keepalives_count": 3, "tcp_user_timeout": 10_000, "application_name": "outlast",
        }  # fmt: skip
        try:
            engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"), pool_size=THREADS, max_overflow=2,
                pool_pre_ping=True, pool_timeout=10, connect_args=arguments,
            )  # fmt: skip
        except ImportError:
            raise InvalidInput(
                "PostgreSQL needs the package psycopg", hint="install outlast[postgres]"
            ) from None
        return engine, parsed.render_as_string(hide_password=True), None
    if kind == "sqlite" and parsed.database and parsed.database.startswith("/"):
        file = Path(parsed.database)
        return _sqlite(file), str(file), file
    raise InvalidInput("the database's address is none that can be used", hint=hint)


def _sqlite(file: Path) -> Engine:
    # mode=rw: a file that vanished is trouble, not a new and empty database
    engine = create_engine(
        f"sqlite:///file:{file}?mode=rw&uri=true", poolclass=pool.QueuePool, pool_size=THREADS,
        connect_args={"check_same_thread": False, "timeout": 10, "isolation_level": None},
    )  # fmt: skip

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        connection.execute("pragma secure_delete=on")
        record.info["inode"] = file.stat().st_ino

    @event.listens_for(engine, "checkout")
    def checked_out(connection: Any, record: Any, proxy: Any) -> None:
        try:
            same = file.stat().st_ino == record.info.get("inode")
        except OSError:
            same = False
        if not same:  # what would be written to it is lost
            raise exc.DisconnectionError(f"{file} is not the file it was")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        write = connection.get_execution_options().get("outlast_write", False)
        connection.exec_driver_sql("begin immediate" if write else "begin")

    return engine


def _make_file(file: Path) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise trouble_of(error, str(file)) from error


_WORDS = (
    ("disk is full", "its disk is full", "make room; nothing was written"),
    ("no space left", "its disk is full", "make room; nothing was written"),
    ("could not extend file", "its disk is full", "make room; nothing was written"),
    ("unable to open", "it cannot be opened", "is its disk mounted, and may this user read it?"),
    ("is not the file it was", "it was removed or replaced", "put it back, or start again"),
    ("not a database", "the file is no database", "was it overwritten? see the backup"),
    ("malformed", "it is damaged", "put back the backup"),
    ("readonly database", "it may not be written", "is its disk mounted read-only?"),
    ("database is locked", "another program holds it", "does another manager use this file?"),
    ("no such table", "it has no tables", "start the manager again, which makes them"),
    ("password authentication", "it refuses the password", "see the database's address"),
    ("does not exist", "it has no such database or table", "createdb, then start again"),
    ("read-only transaction", "it is a standby that may not be written", "name the primary"),
)


def trouble_of(error: Exception, where: str) -> OutlastError:
    """What a database's error means, in plain words."""
    said = str(getattr(error, "orig", None) or error)
    for part, sentence, hint in _WORDS:
        if part in said.lower():
            return StorageTrouble(f"the manager's database at {where}: {sentence}", hint=hint)
    first = said.strip().splitlines()[0][:200] if said.strip() else type(error).__name__
    return StorageTrouble(
        f"the manager's database at {where} does not work: {first}",
        hint="pools go on without it; this works again by itself when the database does",
    )
