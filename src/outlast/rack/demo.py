"""A pool of three hosts on this machine: a QEMU is killed, a host loses its power, and you watch.

    python -m outlast.rack.demo [--hosts 3] [--vms 6] [--fast] [--plain] [--keep]

Promises:
1. Exit code 0 only if everything that is announced has happened, and the ledger of every VM is
   sound; 130 after Ctrl-C; else the code of the trouble.
2. However it ends (Ctrl-C, SIGTERM, a closed terminal or pipe included), nothing is left: the rack
   hangs on this process, and its folder, a fresh temporary one, is removed (not with --keep).
3. All of it takes less than five minutes: each wait has a limit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from outlast.errors import Conflict, InvalidInput, OutlastError
from outlast.rack import needs
from outlast.rack.demo_guest import LinuxGuest
from outlast.rack.demo_show import Pace, Show
from outlast.rack.demo_view import LiveView, PlainView, View
from outlast.rack.guest import build
from outlast.rack.lab import Lab

HOSTS_MAX, VMS_MAX = 8, 16
DOWN_S = 30.0
INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m outlast.rack.demo",
        description="A pool on this machine, one host of which loses its power.",
    )
    parser.add_argument("--hosts", type=int, default=3, help=f"2 to {HOSTS_MAX}")
    parser.add_argument("--vms", type=int, default=6, help=f"1 to {VMS_MAX}")
    parser.add_argument("--fast", action="store_true", help="no time to read, no Linux guest")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live page")
    parser.add_argument("--keep", action="store_true", help="keep logs and disks afterwards")
    wished = parser.parse_args(argv)
    for name, low, high in (("hosts", 2, HOSTS_MAX), ("vms", 1, VMS_MAX)):
        if not low <= getattr(wished, name) <= high:
            raise InvalidInput(f"the demo has {low} to {high} {name}")
    return wished


def view_for(console: Console, plain: bool) -> View:
    if plain or not console.is_terminal or console.is_dumb_terminal:
        return PlainView(console)
    return LiveView(console)


class Stopped(KeyboardInterrupt):
    """A signal that asks for the end."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Signals raise Stopped; once the body has been left they are ignored for good."""

    def stop(number: int, frame: object) -> None:
        for other in SIGNALS:  # one is enough: what follows must not be torn
            signal.signal(other, signal.SIG_IGN)
        raise Stopped

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


class Stage:
    """The folder and everything in it that has to be taken down."""

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.folder: Path | None = None
        self.lab: Lab | None = None
        self.guest: LinuxGuest | None = None
        self.show: Show | None = None

    def build(self, linux: bool) -> Lab:
        """The folder, and the guests that fit into it. Raises NotFound without a compiler."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # nothing may begin unknown to us
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="outlast-demo-"))
            if linux:
                self.guest = LinuxGuest(self.folder / "guest")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        build.build(self.folder / "guest")
        self.lab = Lab(self.folder)
        return self.lab

    def take_down(self) -> str:
        """End everything; says why something is left, "" when nothing is."""
        if self.show is not None:
            self.show.close()
        if self.guest is not None:
            self.guest.stop()
        trouble = self._down()
        if self.folder is not None and not self.keep and not trouble:
            shutil.rmtree(self.folder, ignore_errors=True)
        return trouble

    def _down(self) -> str:
        """A rack that was interrupted while it came up may need a moment before it can go down."""
        end_s = time.monotonic() + DOWN_S
        while self.lab is not None:
            try:
                self.lab.rack.down(purge=not self.keep)
                break
            except Conflict as error:
                if time.monotonic() > end_s:
                    return error.sentence
                time.sleep(0.1)
            except OutlastError as error:
                return f"{error.sentence}; look into {self.folder}"
        return ""


def perform(stage: Stage, view: View, wished: argparse.Namespace) -> bool:
    """Everything from the first word to the verdict. True: sound."""
    needs.check(libvirt=True)
    lab = stage.build(linux=not wished.fast and wished.vms > 1)
    pace = Pace.fast() if wished.fast else Pace()
    show = stage.show = Show(lab, view, pace, wished.hosts, wished.vms)
    show.introduce()
    show.set_up(stage.guest)
    show.play()
    return show.judge()


def main(argv: Sequence[str] | None = None) -> int:
    console = Console(highlight=False)
    try:
        wished = parse(argv)
    except InvalidInput as error:
        sys.stderr.write(f"outlast: {error.sentence}\n")
        return error.exit_code
    view = view_for(console, wished.plain)
    stage = Stage(wished.keep)
    code, trouble = 1, None
    try:
        with stoppable():
            code = 0 if perform(stage, view, wished) else 1
    except Stopped:
        code = INTERRUPTED
    except (BrokenPipeError, SystemExit):  # the latter is how rich tells of the former
        pass  # nobody reads any more: no word, but everything is taken down
    except Exception as error:
        trouble = error
        code = error.exit_code if isinstance(error, OutlastError) else 1
    return end(stage, view, code, trouble)


def end(stage: Stage, view: View, code: int, trouble: Exception | None) -> int:
    """Take everything down, whatever happened, and say so if somebody still listens."""
    with heard():
        view.close()
        if code == INTERRUPTED:
            view.text("\nInterrupted: everything is being taken down.")
        if trouble is not None:
            tell_trouble(view, trouble, begun=stage.folder is not None)
    left = stage.take_down()
    with heard():
        if left:
            view.text(f"\nSomething is left: {left}")
        elif stage.folder is not None and stage.keep:
            view.text(f"\nEverything is down; logs and disks are kept in {stage.folder}")
        elif stage.folder is not None:
            view.text("\nEverything has been taken down; nothing is left on this machine.")
        sys.stdout.flush()
    return code or (1 if left else 0)


def tell_trouble(view: View, trouble: Exception, begun: bool) -> None:
    if not isinstance(trouble, OutlastError):
        traceback.print_exception(trouble)
        view.text(f"\nThis is a bug of the demo: {type(trouble).__name__}: {trouble}")
        return
    what = "\nThe demo did not get through" if begun else "The demo cannot begin"
    view.text(f"{what}: {trouble.sentence}.")
    if trouble.hint:
        view.text(f"  Hint: {trouble.hint}")


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """What is said in here may get lost: the terminal or the pipe may be gone."""
    try:
        yield
    except (OSError, SystemExit):
        _forget_stdout()


def _forget_stdout() -> None:
    """Nobody reads any more; Python must not complain of it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
