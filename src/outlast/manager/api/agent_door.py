"""The agents' own API, through the manager: the command line says here what it says to an agent.

    /api/v1/pools/{pool}/agent/v1/...        what is behind `agent` is a path of the agents' API

Rules:
1. Paths, bodies, answers and errors are an agent's; rights, tasks and the audit are the manager's.
2. Only what the two tables of agent_calls.py name is passed on, and each names its right.
3. Names are quoted anew on the way on: none can lead to another path.
4. A VM that was made here is known here before that is answered: the next call names it.
5. How work stands is asked of the agent that was given it last; others may not know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from outlast.errors import InvalidInput, NotFound
from outlast.manager.api.agent_calls import (
    FOREIGN,
    IMAGE,
    QUESTIONS,
    WISHES,
    WORK,
    Act,
    Call,
    Then,
    Work,
    said,
)
from outlast.manager.api.gate import Caller, lacks, logged_in, needs
from outlast.manager.api.uploads import begin_upload, send_upload
from outlast.wire.shapes import VmStatus, parse_list

DOOR = "/pools/{pool}/agent"

router = APIRouter(include_in_schema=False)
Answering = Callable[[Request, Caller], Awaitable[Response]]


def _question(path: str) -> Answering:
    async def ask(request: Request, caller: Caller) -> Response:
        on = path.format(**_quoted(request.path_params, caller))
        query = f"?{request.url.query}" if request.url.query else ""
        raw = await caller.manager.reads.ask(caller.pool_id, lambda c: c.call("GET", on + query))
        return _json(raw)

    return ask


def _wish(act: Act, then: Then | None) -> Answering:
    async def wish(request: Request, caller: Caller) -> Response:
        call = await _call(request, caller)
        task = await act(call)
        answer = said(call, task) if then is None else await then(call, task)
        return _json(answer.model_dump_json().encode())

    return wish


def _stands(work: Work) -> Answering:
    async def ask(request: Request, caller: Caller) -> Response:
        answer = await work.stands(await _call(request, caller))
        return _json(answer.model_dump_json().encode())

    return ask


async def _call(request: Request, caller: Caller) -> Call:
    _quoted(request.path_params, caller)
    names, query = dict(request.path_params), dict(request.query_params)
    return Call(caller, names, await request.body(), query)


@router.get(f"{DOOR}/v1/vms")
async def vms(request: Request, caller: Annotated[Caller, logged_in()]) -> Response:
    """Those that the caller sees."""
    reads, scope = caller.manager.reads, caller.scope
    try:
        pool_id = reads.find(request.path_params["pool"]).id
    except NotFound:
        if scope.everything:
            raise
        raise lacks(caller.person, "see", there=True) from None
    if not caller.touches(pool_id):
        raise lacks(caller.person, "see", there=True)
    found = parse_list(VmStatus, await reads.ask(pool_id, lambda c: c.call("GET", "/v1/vms")))
    shown = [vm.model_dump_json() for vm in found if scope.sees_vm(pool_id, vm.name)]
    return _json(f"[{','.join(shown)}]".encode())


def _quoted(names: dict[str, Any], caller: Caller) -> dict[str, str]:
    """Rule 3. Raises InvalidInput."""
    known = {"vm": caller.vm, "host": caller.host}
    found = {kind: known.get(kind) or str(name) for kind, name in names.items()}
    if any(name in {"", ".", ".."} for name in found.values()):
        raise InvalidInput("a name in the path is none", hint="names are more than dots")
    return {kind: quote(name, safe="") for kind, name in found.items()}


def _json(raw: bytes) -> Response:
    return Response(raw, media_type="application/json")


def _route(method: str, path: str, action: str, answer: Answering) -> None:
    gate = needs(action)

    async def at(request: Request, caller: Caller = gate) -> Response:
        if path.startswith(FOREIGN) and not request.query_params.get("host"):
            raise InvalidInput("the libvirt of which host?", hint="--host HOST; outlast host list")
        return await answer(request, caller)

    router.add_api_route(DOOR + path, at, methods=[method], response_model=None)


for _path, _action in QUESTIONS:
    _route("GET", _path, _action, _question(_path))
for _one in WISHES:
    _route(_one.method, _one.path, _one.action, _wish(_one.act, _one.then))
for _work in WORK:
    _route("POST", _work.path, _work.action, _wish(_work.begin, _work.begun))
    _route("GET", _work.path, _work.see, _stands(_work))
    _route("DELETE", _work.path, _work.action, _wish(_work.cancel, _work.begun))
router.add_api_route(f"{DOOR}{IMAGE}/upload", begin_upload, methods=["POST"])
router.add_api_route(f"{DOOR}{IMAGE}/upload", send_upload, methods=["PUT"])
