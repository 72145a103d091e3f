"""Order and conditions of all tests.

Tests marked `rack` come last, so that cheap failures show first. They need root: a user's run says
that it skips them; CI, which is root, must never skip one.
"""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("rack") is not None)
    if os.geteuid() == 0:
        return
    if os.environ.get("CI"):
        pytest.exit("CI must run as root: the rack's tests are the ones that matter", 1)
    needs_root = pytest.mark.skip(reason="needs root: make rack-test")
    for item in items:
        if item.get_closest_marker("rack"):
            item.add_marker(needs_root)
