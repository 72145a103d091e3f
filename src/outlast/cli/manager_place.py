"""Where the manager of this machine is, and its accounts, for commands that work on its files.

With `manager.py` and `manager_people.py` the only files of the command line that use the manager's
room; they import it inside their functions, so that hosts without its packages have all other
commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from outlast.errors import NotFound

if TYPE_CHECKING:
    from outlast.manager.accounts import Accounts
    from outlast.manager.config import Config, Place
    from outlast.manager.repository.store import Repository

T = TypeVar("T")


def find_place() -> Place:
    """Raises NotFound when the manager's packages are not installed."""
    try:
        from outlast.manager.config import Place
        from outlast.manager.repository import store  # noqa: F401
    except ImportError as error:
        raise NotFound(
            f"the manager is not installed here: {error.name} is missing",
            hint="install outlast[manager]",
        ) from None
    return Place.of_environment()


@contextmanager
def opened(place: Place, config: Config) -> Iterator[Repository]:
    """The manager's database, in its newest shape."""
    from outlast.manager.repository.store import Repository

    repository = Repository(place.database(config))
    try:
        repository.migrate()
        yield repository
    finally:
        repository.close()


def with_accounts(
    place: Place, config: Config, work: Callable[[Accounts], Coroutine[Any, Any, T]]
) -> T:
    from outlast.manager.accounts import Accounts

    with opened(place, config) as repository, closing(Accounts(repository)) as accounts:
        return asyncio.run(work(accounts))


def on_accounts(work: Callable[[Accounts], Coroutine[Any, Any, T]]) -> T:
    place = find_place()
    return with_accounts(place, place.config(), work)
