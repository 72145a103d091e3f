"""Work on images, killed before each call of the operating system that it makes, one after another.

Rule: a child of this process does the work and dies by SIGKILL before the Nth call that changes
something. Then nothing half-made may be visible, nothing that was there may be lost, and a second
try does the whole of it. What qemu-img does by itself: test_ends_at_each_byte.py; a real QEMU that
goes on with a copy: tests/hypervisor/test_libvirt_disks.py.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest
from copying_pool import Act, Seen, Shop, again, dies

# what changes something that the next process sees
CHANGES = frozenset(
    {"mkdir", "rmdir", "rename", "replace", "link", "unlink", "remove", "write", "pwrite",
     "truncate", "ftruncate", "chmod", "utime"}
)  # fmt: skip


def dies_before(number: int, act: Callable[[], object]) -> bool:
    """Do it in a child that is killed before that call; False: it had made all its calls."""
    left = number

    def watch(_frame: object, event: str, function: object) -> None:
        nonlocal left
        if event == "c_call" and getattr(function, "__name__", "") in CHANGES:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        threading.setprofile(watch)  # jobs have threads of their own
        sys.setprofile(watch)
        try:
            act()
        finally:
            sys.setprofile(None)

    return dies(watched)


@pytest.mark.parametrize(
    ("before", "act", "after"),
    [
        (Shop.forget, Shop.take, Shop.has_image),
        (Shop.forget, Shop.fetch, Shop.has_image),
        (Shop.forget, Shop.upload, Shop.has_image),
        (Shop.forget, Shop.template, Shop.has_template),
        (Shop.forget, Shop.deploy, Shop.has_vm),
        (Shop.forget, Shop.clone, Shop.has_vm),
        (Shop.forget, Shop.restore, Shop.has_vm),
        (Shop.forget, Shop.export, Shop.has_file),
        (Shop.forget, Shop.backup, Shop.has_backup),
        (Shop.forget, Shop.backup_of_running, Shop.has_backup),
        (Shop.forget, Shop.cast, Shop.has_template),
        (Shop.forget, Shop.cast_of_running, Shop.has_template),
        (Shop.forget, Shop.move, Shop.has_moved),
        (Shop.take, Shop.remove_image, Shop.has_no_image),
        (Shop.template, Shop.remove_template, Shop.has_no_folder),
    ],
    ids=lambda one: getattr(one, "__name__", "").strip("<>"),
)
def test_killed_before_each_call_nothing_is_half_and_a_second_try_works(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, before: Act, act: Act, after: Seen
) -> None:
    number, died = 0, True
    while died:
        number += 1
        before(shop)
        assert not after(shop)
        died = dies_before(number, lambda: act(shop))
        again(shop, monkeypatch, act, after)
    assert number >= 5
