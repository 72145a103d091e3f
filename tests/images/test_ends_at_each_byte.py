"""Work on images whose qemu-img ends after exactly so many bytes of the file that it writes.

Either its caller goes with it, as when the host dies, or it alone is refused more bytes, as by a
full disk. Then nothing half-made may be visible, nothing may be lost, and a second try does it all.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from copying_pool import Shop

from outlast.errors import OutlastError
from outlast.images import work
from outlast.images.clean import clean, found

CLUSTER = 65536
# in the header, around borders of clusters, near the end; the last one is never reached
BYTES = (0, 1, CLUSTER - 1, CLUSTER, 3 * CLUSTER + 1, 6 * CLUSTER, 1 << 30)

Act = Callable[[Shop], None]
Seen = Callable[[Shop], bool]
ACTS = [
    (Shop.take, Shop.has_image),
    (Shop.upload, Shop.has_image),
    (Shop.clone, Shop.has_vm),
    (Shop.deploy, Shop.has_vm),
    (Shop.restore, Shop.has_vm),
    (Shop.export, Shop.has_file),
    (Shop.backup, Shop.has_backup),
    (Shop.cast, Shop.has_template),
]


class Ending:
    """A qemu-img that ends after so many bytes."""

    def __init__(self, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._program, self._patch = program, monkeypatch

    def after(self, count: int, *, with_its_host: bool) -> None:
        end = "kill -9 $PPID" if with_its_host else "exit 1"
        trap = "" if with_its_host else "trap '' XFSZ"
        self._program.write_text(f"""#!/bin/sh
case "$1" in create|convert) ;; *) exec qemu-img "$@" ;; esac
{trap}
prlimit --fsize={count} --core=0 qemu-img "$@" || {end}
""")
        self._program.chmod(0o755)
        self._patch.setenv("OUTLAST_QEMU_IMG", str(self._program))

    def never(self) -> None:
        self._patch.delenv("OUTLAST_QEMU_IMG", raising=False)


@pytest.fixture
def ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ending:
    return Ending(tmp_path / "qemu-img", monkeypatch)


def dies(act: Callable[[], object]) -> bool:
    """Do it in a child; False: it came to its end."""
    child = os.fork()
    if not child:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}, "it failed by itself"
    return code != 0


def again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, act: Act, after: Seen
) -> None:  # fmt: skip
    """A second try does it, and what the first one left is gone."""
    shop.check()
    with monkeypatch.context() as later:
        later.setattr(work, "STILL_S", -1.0)  # a minute later
        if not after(shop):
            act(shop)
        clean(shop.dir)
        work.clean(shop.backups)  # as the next backup does
    assert after(shop)
    shop.check()
    assert found(shop.dir, [shop.backups]) == []


@pytest.mark.parametrize(("act", "after"), ACTS, ids=lambda one: one.__name__)
def test_whatever_was_written_nothing_is_half_and_a_second_try_works(
    shop: Shop, ending: Ending, monkeypatch: pytest.MonkeyPatch, act: Act, after: Seen
) -> None:
    died = []
    for count in BYTES:
        shop.forget()
        assert not after(shop)
        ending.after(count, with_its_host=True)
        died.append(dies(lambda: act(shop)))
        assert after(shop) is not died[-1], "what was not whole is seen"
        ending.never()
        again(shop, monkeypatch, act, after)
    assert (died[0], died[-1]) == (True, False)


@pytest.mark.parametrize(("act", "after"), ACTS, ids=lambda one: one.__name__)
def test_what_takes_no_more_bytes_says_so_and_a_second_try_works(
    shop: Shop, ending: Ending, monkeypatch: pytest.MonkeyPatch, act: Act, after: Seen
) -> None:
    for count in (0, 3 * CLUSTER + 1):
        shop.forget()
        ending.after(count, with_its_host=False)
        try:
            act(shop)
        except (OutlastError, AssertionError) as error:  # of copies as jobs: ended() says it
            assert "takes no file so large" in str(error)
        assert after(shop) is (act is Shop.deploy and count > 0)
        assert found(shop.dir, [shop.backups]) == [], "it has tidied up"
        ending.never()
        again(shop, monkeypatch, act, after)
