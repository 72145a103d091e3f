"""One pretended VM: a process that signs its disk and has a console. A script, stdlib only.

    python -I -S fake_vm.py -name guest=NAME -uuid UUID -run DIR -boot HEX
           [-drive FILE]... [-log FILE] [-interval MS] [-lock]

It behaves towards the outside as a QEMU does where that matters to a pool:
- every -interval it appends one record to its first disk, written through, as one line
      OUTLAST <boot> <seq> <hash of the record before> <hash of this one>
  where <boot> is new for each start and the chain goes on over all boots. A record is
  acknowledged by a line "W <boot> <seq>" on the serial console, after it is on the disk.
- it never looks for others. Two of them on one disk break the chain, and check_disk of
  fake_driver.py sees it.
- a failed write pauses it until it is told to go on; nothing acknowledged is lost.
- a VM whose run folder was removed ends: an aborted test leaves nothing behind.
- with -lock it needs an exclusive lock of the disk, as QEMU does.

DIR/NAME.ctl (unix socket): it sends lines `running`, `paused REASON`, `io-error REASON`, `spoke`
(its console had a first byte) and takes `shutdown` and `resume`. DIR/NAME.con: the console; what is
sent comes back.
DIR/NAME.end is written when it shuts down by request; its absence means a crash.
It prints `up` on stdout once it runs; before that it exits with 1 and a sentence on stderr.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

GREET_S = 2.0  # the first record waits this long for the driver to listen


class Words:
    """The command line."""

    def __init__(self) -> None:
        self.name = self.uuid = self.run = self.boot = self.log = ""
        self.interval_ms = 100
        self.lock = False
        self.drives: list[str] = []


def record(boot: str, seq: int, before: str) -> tuple[bytes, str]:
    """One line of the chain and its hash."""
    body = f"OUTLAST {boot} {seq} {before}"
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    return f"{body} {digest}\n".encode(), digest


class FakeVm:
    def __init__(self, words: Words) -> None:
        self.name, self.boot = words.name, words.boot
        self.interval_s = words.interval_ms / 1000
        self.log = -1
        if words.log:
            self.log = os.open(words.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.disk = -1
        self.seq = 0
        self.before = "0" * 16
        self.torn = False  # the disk ends in half a record
        self.paused = ""
        self.spoke = False
        self.clients: dict[str, list[socket.socket]] = {"ctl": [], "con": []}
        self.events = selectors.DefaultSelector()
        for path in words.drives:
            self.open_disk(path, words.lock)
        os.chdir(words.run)  # a unix socket's address may have 107 bytes only
        os.umask(0o077)
        for kind in ("ctl", "con"):
            address = Path(f"{self.name}.{kind}")
            address.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(address))
            listener.listen(8)
            self.events.register(listener, selectors.EVENT_READ, (self.accept, kind))

    def open_disk(self, path: str, lock: bool) -> None:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_DSYNC)
        if lock:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.exit(
                    f'Failed to get "write" lock\nIs another process using the image [{path}]?'
                )
        if self.disk < 0:
            self.disk = fd
            self.before = self.last_hash(fd)

    def last_hash(self, fd: int) -> str:
        end = os.lseek(fd, 0, os.SEEK_END)
        tail = os.pread(fd, 4096, max(0, end - 4096)).split(b"\n")
        for line in reversed(tail):
            words = line.split()
            if len(words) == 5 and words[0] == b"OUTLAST":
                return words[4].decode()
        return "0" * 16

    # ---- sockets -------------------------------------------------------------------------

    def accept(self, listener: socket.socket, kind: str) -> None:
        client, _ = listener.accept()
        client.settimeout(0.2)  # a reader that sleeps is dropped, the VM goes on
        if kind == "con":
            self.drop_all("con")  # the newest opener has the console
        self.clients[kind].append(client)
        self.events.register(client, selectors.EVENT_READ, (self.read, kind))
        if kind == "ctl":
            self.send(kind, f"paused {self.paused}" if self.paused else "running")
            if self.spoke:
                self.send(kind, "spoke")

    def read(self, client: socket.socket, kind: str) -> None:
        try:
            data = client.recv(4096)
        except OSError:
            data = b""
        if not data:
            self.drop(client, kind)
        elif kind == "con":
            self.serial(data)
        else:
            for word in data.decode("utf-8", "replace").split():
                self.obey(word)

    def obey(self, word: str) -> None:
        if word == "shutdown" and not self.paused:
            self.shutdown()
        if word == "resume" and self.paused:
            self.paused = ""
            self.send("ctl", "running")

    def shutdown(self) -> None:
        self.serial(b"bye\r\n")
        Path(f"{self.name}.end").write_text(self.boot)
        sys.exit(0)

    def send(self, kind: str, line: str) -> None:
        self.send_all(kind, line.encode() + b"\n")

    def send_all(self, kind: str, data: bytes) -> None:
        for client in list(self.clients[kind]):
            try:
                client.sendall(data)
            except OSError:
                self.drop(client, kind)

    def drop(self, client: socket.socket, kind: str) -> None:
        self.clients[kind].remove(client)
        self.events.unregister(client)
        client.close()

    def drop_all(self, kind: str) -> None:
        for client in list(self.clients[kind]):
            self.drop(client, kind)

    def serial(self, data: bytes) -> None:
        if not self.spoke:
            self.spoke = True
            self.send("ctl", "spoke")
        self.send_all("con", data)
        if self.log >= 0:
            try:
                os.write(self.log, data)
            except OSError:
                return  # a full log is no reason to stop

    # ---- life ----------------------------------------------------------------------------

    def work(self) -> None:
        """Sign the disk once more."""
        self.seq += 1
        line, digest = record(self.boot, self.seq, self.before)
        if self.disk >= 0:
            try:
                self.append(line)
            except OSError as error:
                self.seq -= 1
                self.paused = error.strerror or "error"
                self.send("ctl", f"io-error {self.paused}")
                self.send("ctl", f"paused {self.paused}")
                return
        self.before = digest
        self.serial(f"W {self.boot} {self.seq}\r\n".encode())

    def append(self, line: bytes) -> None:
        data = b"\n" + line if self.torn else line
        written = os.write(self.disk, data)
        if written != len(data):
            self.torn = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.torn = False

    def live(self) -> None:
        self.serial(b"hello\r\n")
        due = time.monotonic() + GREET_S
        while True:
            if self.seq == 0 and self.clients["ctl"]:
                due = min(due, time.monotonic())  # somebody watches: what happens is heard
            now = time.monotonic()
            if Path().stat().st_nlink == 0:
                sys.exit("the folder it lives in is gone")
            if self.paused:
                due = now + 1
            elif now >= due:
                self.work()
                due = max(due + self.interval_s, now)
            for key, _ in self.events.select(max(0, due - time.monotonic())):
                act, kind = key.data
                act(key.fileobj, kind)


def parse(argv: list[str]) -> Words:
    words = Words()
    rest = iter(argv)
    for word in rest:
        if word == "-lock":
            words.lock = True
        elif word == "-name":
            words.name = next(rest).split(",")[0].removeprefix("guest=")
        elif word == "-interval":
            words.interval_ms = int(next(rest))
        elif word == "-drive":
            words.drives.append(next(rest))
        elif word in ("-uuid", "-run", "-boot", "-log"):
            setattr(words, word[1:], next(rest))
        else:
            sys.exit(f"unknown option {word}")
    return words


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        vm = FakeVm(parse(sys.argv[1:]))
    except OSError as error:
        sys.exit(f"Could not open '{error.filename}': {error.strerror}")
    os.write(1, b"up\n")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    vm.live()


if __name__ == "__main__":
    main()
