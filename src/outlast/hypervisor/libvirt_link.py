"""The connection to libvirtd: kept up, bounded in time, with its events in one thread.

Promises:
1. One event loop thread per process (libvirt's own loop), one keeper thread per link.
2. The keeper opens the connection, opens it again whenever it breaks, registers for events each
   time, then hands what `look(connection)` found to `arrived`; all events go to `happened`, and
   in quiet times it looks again, for `audited`. All run on the keeper's thread, one after the
   other, so the owner needs no order of its own.
3. A libvirtd that is frozen is noticed by keepalive (KEEPALIVE_S * KEEPALIVE_COUNT plus a little);
   every call in flight then fails. A worker of libvirtd that is stuck (storage!) is not noticed by
   keepalive, so `ask` also limits each call: the caller gets LibvirtGone, the call's own thread
   stays behind until libvirtd answers. When STUCK_MAX threads wait like that, no more are made.

It does not know what a VM is.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import libvirt

from outlast.hypervisor.driver import LibvirtGone
from outlast.hypervisor.qemu_process import boot_ns

log = logging.getLogger(__name__)

KEEPALIVE_S = 2
KEEPALIVE_COUNT = 3
RETRY_S = 0.2
AUDIT_S = 1.0  # a look around after this long without an event
LOOK_S = 10.0
STUCK_MAX = 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Happening:
    """A raw event: lifecycle (event, detail) or a disk error (event is None, text tells)."""

    uuid: str
    name: str
    event: int | None
    detail: int
    text: tuple[str, str, int, str]  # path, device, action, reason of a disk error
    at_ns: int
    domain: Any


_loop_lock = threading.Lock()
_loop: threading.Thread | None = None


def start_loop() -> None:
    """Run libvirt's event loop in a thread of this process; the first call does it.

    Must come before the first connection is opened.
    """
    global _loop
    with _loop_lock:
        if _loop is not None:
            return
        # libvirt prints every error to stderr unless told otherwise; we raise and log ourselves
        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()
        _loop = threading.Thread(target=_run_loop, name="libvirt-events", daemon=True)
        _loop.start()


def _run_loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.error("libvirt's event loop: %s", error)
            time.sleep(0.1)


class Link:
    """A connection that comes back by itself."""

    def __init__(
        self,
        uri: str,
        look: Callable[[Any], T],
        arrived: Callable[[T], None],
        audited: Callable[[T], None],
        happened: Callable[[Happening], None],
    ) -> None:
        self.uri = uri
        self._look = look
        self._arrived: Callable[[Any], None] = arrived
        self._audited: Callable[[Any], None] = audited
        self._happened = happened
        self._lock = threading.Lock()
        self._conn: Any = None
        self._why = "not connected yet"
        self._stuck = 0
        self._turn = threading.Lock()
        self._news: queue.SimpleQueue[Happening | None] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._closing = threading.Event()
        start_loop()
        self._keeper = threading.Thread(target=self._keep, name="libvirt-keeper", daemon=True)
        self._keeper.start()

    def wait(self, limit_s: float) -> bool:
        """True once the first connection is up and `arrived` is through."""
        return self._ready.wait(limit_s)

    def ask(self, what: str, call: Callable[[Any], T], limit_s: float) -> T:
        """The result of `call(connection)`; its libvirtError if the connection still lives.

        Raises LibvirtGone without a connection, when it breaks, or after `limit_s`.
        """
        with self._lock:
            conn = self._conn
            why = self._why
        if conn is None:
            raise self.gone(f"{what}: no connection to libvirt ({why})")
        return self._bounded(conn, what, call, limit_s)

    def _bounded(self, conn: Any, what: str, call: Callable[[Any], T], limit_s: float) -> T:
        answers: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()
        until = time.monotonic() + limit_s

        def run() -> None:
            try:
                answers.append(self._in_turn(conn, call, until))
            except BaseException as error:
                errors.append(error)
            finally:
                done.set()
                with self._lock:
                    self._stuck -= 1

        with self._lock:
            if self._stuck >= STUCK_MAX:
                raise self.gone(f"{what}: {self._stuck} earlier calls have had no answer")
            self._stuck += 1
        threading.Thread(target=run, name=f"libvirt {what}", daemon=True).start()
        if not done.wait(limit_s):
            raise self.gone(f"{what}: libvirt has not answered for {limit_s:g} s")
        if answers:
            return answers[0]
        error = errors[0]
        if isinstance(error, libvirt.libvirtError) and self._broken(conn, error):
            raise self.gone(f"{what}: the connection to libvirt broke ({error})") from error
        raise error

    def _in_turn(self, conn: Any, call: Callable[[Any], T], until: float) -> T:
        """One call at a time on the connection that all share; without one: on one of its own.

        The client side of libvirt before 10.3 may use freed memory when two threads wait on one
        connection while it breaks, and take this process along.
        """
        if conn is None:
            own = libvirt.open(self.uri)
            try:
                return call(own)
            finally:
                own.close()
        turn = self._turn
        if not turn.acquire(timeout=max(0.0, until - time.monotonic())):
            raise self.gone("an earlier call still waits for libvirt")
        try:
            if not conn.isAlive():
                raise self.gone("the connection to libvirt broke")
            return call(conn)
        finally:
            turn.release()

    def ask_alone(self, what: str, call: Callable[[Any], T], limit_s: float) -> T:
        """As `ask`, for calls that take long: on a connection of their own, beside all others."""
        return self._bounded(None, what, call, limit_s)

    def _broken(self, conn: Any, error: Any) -> bool:
        if error.get_error_domain() in (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE):
            return True
        if conn is None:
            return False
        try:
            return not conn.isAlive()
        except libvirt.libvirtError:
            return True

    def gone(self, sentence: str) -> LibvirtGone:
        return LibvirtGone(sentence, hint="is libvirtd running? `systemctl status libvirtd`")

    def close(self) -> None:
        """End the keeper; the connection goes with the last call that still uses it."""
        self._closing.set()
        self._news.put(None)
        self._keeper.join(2)

    # ---- the keeper's thread -------------------------------------------------------------

    def _keep(self) -> None:
        while not self._closing.is_set():
            news: queue.SimpleQueue[Happening | None] = queue.SimpleQueue()
            self._news = news
            watches: list[int] = []
            try:
                conn = self._open(news, watches)
            except libvirt.libvirtError as error:
                with self._lock:
                    self._why = str(error)
                self._closing.wait(RETRY_S)
                continue
            try:
                self._arrived(self._bounded(conn, "looking around", self._look, LOOK_S))
                # only now: whatever a caller starts from here on is news
                with self._lock:
                    self._conn = conn
                self._ready.set()
                self._serve(conn, news)
            except (libvirt.libvirtError, LibvirtGone) as error:
                log.warning("libvirt: %s; connecting again", error)
                self._closing.wait(RETRY_S)
            with self._lock:
                self._conn, self._why = None, "it broke a moment ago"
                self._turn = threading.Lock()  # a call that hangs on the old one keeps that turn
            self._drop(conn, watches)
            del conn

    def _open(self, news: queue.SimpleQueue[Happening | None], watches: list[int]) -> Any:
        conn = libvirt.open(self.uri)
        try:
            conn.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
        except libvirt.libvirtError as error:
            # a driver inside this process needs none
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
        conn.registerCloseCallback(lambda *_: news.put(None), None)

        def lifecycle(_: Any, dom: Any, event: int, detail: int, __: Any) -> None:
            news.put(_happening(dom, event, detail, ("", "", 0, "")))

        def disk(_: Any, dom: Any, path: str, dev: str, action: int, why: str, __: Any) -> None:
            news.put(_happening(dom, None, 0, (path or "", dev or "", action, why or "")))

        for kind, callback in (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, disk),
        ):
            watches.append(conn.domainEventRegisterAny(None, kind, callback, None))
        return conn

    def _serve(self, conn: Any, news: queue.SimpleQueue[Happening | None]) -> None:
        """Hand on events until the connection is gone; when none come, look around."""
        while not self._closing.is_set():
            try:
                item = news.get(timeout=AUDIT_S)
            except queue.Empty:
                if not conn.isAlive():
                    return
                found = self._bounded(conn, "looking around", self._look, LOOK_S)
                # what came during the look was true before its answer was
                while not news.empty():
                    item = news.get()
                    if item is None:
                        return
                    self._happened(item)
                self._audited(found)
                continue
            if item is None:
                return
            self._happened(item)

    def _drop(self, conn: Any, watches: list[int]) -> None:
        """Take our callbacks off a connection, so that nothing of ours keeps it.

        It is not closed here: a call in flight may still use it, and would use freed memory.
        """
        for step, argument in (
            (conn.unregisterCloseCallback, ()),
            *((conn.domainEventDeregisterAny, (watch,)) for watch in watches),
        ):
            try:
                step(*argument)
            except libvirt.libvirtError as error:
                log.debug("leaving a connection: %s", error)


def _happening(
    dom: Any, event: int | None, detail: int, text: tuple[str, str, int, str]
) -> Happening:
    return Happening(dom.UUIDString(), dom.name(), event, detail, text, boot_ns(), dom)
