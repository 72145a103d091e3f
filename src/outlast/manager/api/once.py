"""Wishes over HTTP: each answers with its task, and one with an Idempotency-Key happens once.

Rules:
1. The same key, caller and request get the same answer for a day. Another request with that key is
   refused; so is one while the first is under way.
2. A refusal that left nothing behind is forgotten, so that the call may be made again.
3. After a crash in between nobody knows what came of it: the caller is told to look.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from fastapi import Request as HttpRequest

from outlast.errors import Conflict, InvalidInput, OutlastError
from outlast.manager.api.answers import ERRORS, TaskOut
from outlast.manager.api.gate import manager_of, person_of
from outlast.manager.ports import Task
from outlast.manager.repository import records
from outlast.wire.client import OutcomeUnknown

KEY_MAX = 200
KEY = Annotated[
    str,
    Header(
        alias="Idempotency-Key", max_length=KEY_MAX,
        description="a text of your choice: the same wish with the same key is carried out once",
    ),
]  # fmt: skip
Act = Callable[[], Awaitable[Task]]


def accepted() -> dict[str, Any]:
    """How a route is declared that answers with a task."""
    return {
        "status_code": 202,
        "response_model": TaskOut,
        "responses": {202: {"model": TaskOut, "description": "wished; see the task"}, **ERRORS},
    }


class _Once:
    """One call with its key, if it has one."""

    def __init__(self, request: HttpRequest, key: str) -> None:
        self._request, self._key = request, key

    async def __call__(self, act: Act) -> Response:
        key = self._key
        if not key:
            return task_answer(await act())
        if len(key) > KEY_MAX or not key.isprintable():
            raise InvalidInput("the Idempotency-Key is none", hint="up to 200 signs")
        who = (await person_of(self._request)).name
        repository = manager_of(self._request).repository
        wanted, wall_s = await self._hash(), time.time()
        known = await repository.write(lambda c: records.begin_call(c, who, key, wanted, wall_s))
        if known is not None:
            return _again(known, wanted)
        try:
            answer = task_answer(await act())
        except OutcomeUnknown:
            raise  # the key stays taken: doing it again might do it twice
        except OutlastError:
            await repository.write(lambda c: records.end_call(c, who, key, 0, ""))
            raise
        body = bytes(answer.body).decode()
        await repository.write(lambda c: records.end_call(c, who, key, answer.status_code, body))
        return answer

    async def _hash(self) -> str:
        request = self._request
        said = f"{request.method} {request.url.path}\n".encode() + await request.body()
        return hashlib.sha256(said).hexdigest()


def _once(request: HttpRequest, key: KEY = "") -> _Once:
    return _Once(request, key)


Once = Annotated[_Once, Depends(_once)]


def task_answer(task: Task) -> Response:
    body = TaskOut(**asdict(task)).model_dump_json()
    headers = {"Location": f"/api/v1/tasks/{task.id}"}
    return Response(body, status_code=202, media_type="application/json", headers=headers)


def _again(known: tuple[str, int, str], wanted: str) -> Response:
    request, status, body = known
    if request != wanted:
        raise InvalidInput(
            "this Idempotency-Key belongs to another request", hint="choose a new key"
        )
    if status == 0:
        raise Conflict(
            "the first call with this key is still under way, or its manager ended meanwhile",
            hint="look at the tasks, then use a new key",
        )
    headers = {"Idempotent-Replay": "true"}
    return Response(body, status_code=status, media_type="application/json", headers=headers)
