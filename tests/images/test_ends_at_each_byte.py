"""Work on images whose qemu-img ends after exactly so many bytes of the file that it writes.

Either its caller goes with it, as when the host dies, or it alone is refused more bytes, as by a
full disk. Then nothing half-made may be visible, nothing may be lost, and a second try does it all.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from copying_pool import Act, Seen, Shop, again, dies

from outlast.errors import OutlastError
from outlast.images.clean import found

CLUSTER = 65536
# in the header, around borders of clusters, near the end; the last one is never reached
BYTES = (0, 1, CLUSTER - 1, CLUSTER, 3 * CLUSTER + 1, 6 * CLUSTER, 1 << 30)

ACTS = [
    (Shop.take, Shop.has_image),
    (Shop.upload, Shop.has_image),
    (Shop.clone, Shop.has_vm),
    (Shop.deploy, Shop.has_vm),
    (Shop.restore, Shop.has_vm),
    (Shop.export, Shop.has_file),
    (Shop.backup, Shop.has_backup),
    (Shop.cast, Shop.has_template),
    (Shop.move, Shop.has_moved),
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
        with pytest.raises((OutlastError, AssertionError)) as told:  # of jobs: ended() says it
            act(shop)
        assert "takes no file so large" in str(told.value)
        assert not after(shop)
        assert found(shop.dir, [shop.backups]) == [], "it has tidied up"
        ending.never()
        again(shop, monkeypatch, act, after)
