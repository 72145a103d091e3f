"""How the agent's API says things over HTTP, and reads what stands in an address."""

from __future__ import annotations

import json
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from outlast.errors import InvalidInput, OutlastError
from outlast.wire.shapes import error_body

T = TypeVar("T")


def json_of(shape: BaseModel, status: int = 200) -> web.Response:
    return web.Response(
        text=shape.model_dump_json(), status=status, content_type="application/json"
    )


def json_list(shapes: list[T]) -> web.Response:
    return web.json_response([s.model_dump() for s in shapes if isinstance(s, BaseModel)])


def failure(error: OutlastError, status: int = 0) -> web.Response:
    body = json.dumps({"error": error_body(error).model_dump()})
    return web.Response(text=body, status=status or error.status, content_type="application/json")


def number_of(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1
    if not 0 <= value < 1e12:  # also refuses nan
        raise InvalidInput(f"{name}: {text[:40]!r} is not a number that can be used")
    return value
