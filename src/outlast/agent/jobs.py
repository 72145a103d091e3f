"""Long work on disks and images, one of a kind at a time for each of them, in threads of their own.

Rules:
1. `begin` returns at once; how it stands is known to this agent alone, and gone with it.
2. Whatever ends a job, a bug included, is its last sentence: whoever waits for it hears of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from outlast.errors import Conflict, NotFound, OutlastError
from outlast.storage.files import trouble_of
from outlast.wire.disks import JobStatus

S = TypeVar("S", bound=JobStatus)


class GivenUp(Exception):
    """From the work of a job: it ends by wish, and has cleaned up."""


class Job(Generic[S]):
    """One, as it stands."""

    def __init__(self, status: S) -> None:
        self.status = status
        self.given_up = threading.Event()
        self.ended = threading.Event()

    def tell(self, **changes: object) -> None:
        self.status = self.status.model_copy(update=changes)

    def check(self) -> None:
        """Raises GivenUp."""
        if self.given_up.is_set():
            raise GivenUp


class Jobs(Generic[S]):
    """noun: what is done, like "backup"."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._lock = threading.Lock()
        self._jobs: dict[str, Job[S]] = {}

    def begin(self, name: str, first: S, work: Callable[[Job[S]], None], place: Path) -> S:
        """name: of the VM or image; place: what errors of the file system are told about.

        Raises Conflict.
        """
        with self._lock:
            before = self._jobs.get(name)
            if before is not None and not before.ended.is_set():
                raise Conflict(
                    f"a {self._noun} of '{name}' is under way already", hint="wait for it"
                )
            job = self._jobs[name] = Job(first)
        threading.Thread(
            target=self._run, args=(name, job, work, place), name=f"{self._noun} {name}",
            daemon=True,
        ).start()  # fmt: skip
        return job.status

    def status(self, name: str) -> S:
        """Raises NotFound when this agent began none."""
        return self._job(name).status

    def give_up(self, name: str) -> S:
        """Break it off. Raises NotFound."""
        job = self._job(name)
        job.given_up.set()
        return job.status

    def _job(self, name: str) -> Job[S]:
        with self._lock:
            job = self._jobs.get(name)
        if job is None:
            raise NotFound(f"no {self._noun} of '{name}' was begun here since the agent began")
        return job

    def _run(self, name: str, job: Job[S], work: Callable[[Job[S]], None], place: Path) -> None:
        try:
            work(job)
        except GivenUp:
            job.tell(state="failed", sentence=f"the {self._noun} of {name} was broken off by wish")
        except OutlastError as error:
            hint = f" ({error.hint})" if error.hint else ""
            job.tell(state="failed", sentence=f"{error.sentence}{hint}")
        except OSError as error:
            job.tell(state="failed", sentence=trouble_of(error, place).sentence)
        except BaseException as error:  # a bug: whoever waits must hear of it
            job.tell(state="failed", sentence=f"a bug: {type(error).__name__}: {error}")
            raise
        finally:
            job.ended.set()
