"""What tests of the API share: waiting, tasks that end, a VM to begin with."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from desk import Desk, Said
from pretend import RealPool

V = "/api/v1"


def wait(true: Callable[[], bool], within_s: float = 10) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def ended(desk: Desk, said: Said, token: str) -> Any:
    """A wish's task once it ended."""
    assert said.status == 202, said.body
    place = said.headers["location"]
    assert place == f"{V}/tasks/{said.json['id']}"
    task = desk.call("GET", f"{place}?wait_s=10", token=token).json
    assert task["done"], task
    return task


def create(desk: Desk, real: RealPool, token: str, name: str = "web", **more: Any) -> Said:
    body = {"name": name, "memory": "512MiB", "disks": [{"size": "1M"}]} | more
    return desk.call("POST", f"{V}/pools/{real.id}/vms", body, token=token)
