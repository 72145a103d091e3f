"""A manager with a real pool, and databases of both kinds."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from calling import wait
from desk import Desk, Postgres
from pretend import RealPool

from outlast.manager.ports import Grant

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if not Postgres.BINARIES:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    root = Path(tempfile.mkdtemp(prefix="outlast-pg-", dir="/tmp"))  # sockets want short paths
    made = Postgres(root)
    yield made
    made.stop()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, one kind after the other."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/manager.db"
    made: Postgres = request.getfixturevalue("postgres")
    return made.create(f"test{next(_numbers)}")


@pytest.fixture
def new_postgres_database(postgres: Postgres) -> Callable[[], str]:
    return lambda: postgres.create(f"test{next(_numbers)}")


@pytest.fixture(autouse=True)
def alone(own_run: None) -> None:
    pass


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealPool]:
    made = RealPool(tmp_path)
    yield made
    made.close()


@pytest.fixture
def desk(tmp_path: Path, real: RealPool) -> Iterator[Desk]:
    """A manager that follows the real pool."""
    made = Desk(tmp_path / "manager")
    made.follow(real.link())
    yield made
    made.close()


@pytest.fixture
def admin(desk: Desk, real: RealPool) -> str:
    """A token that may everything, once the pool has answered."""
    token = desk.user("anna", Grant("admin"))
    wait(lambda: not desk.manager.reads.pool(real.id).stale)
    return token


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, RealPool, str]]:
    """One desk for tests that change nothing."""
    root = tmp_path_factory.mktemp("shared")
    real = RealPool(root)
    desk = Desk(root / "manager")
    desk.follow(real.link())
    token = desk.user("anna", Grant("admin"))
    wait(lambda: not desk.manager.reads.pool(real.id).stale)
    yield desk, real, token
    desk.close()
    real.close()
