"""The routes of an application, for tests that hold every one of them against something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi.routing import APIRoute


def flat(found: Any) -> Iterator[Any]:
    """Routes and those of the routers that were taken in, whose paths have their prefix."""
    for route in found:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "effective_route_contexts"):
            yield from route.effective_route_contexts()
