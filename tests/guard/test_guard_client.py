"""The client: a guard that is gone, silent, or not the guard at all is one kind of trouble."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from outlast.errors import Unreachable
from outlast.guard.client import GuardClient, GuardGone


def test_no_guard_is_guard_gone(tmp_path: Path) -> None:
    with pytest.raises(GuardGone, match="does not answer") as caught:
        GuardClient(tmp_path / "none").status()
    assert isinstance(caught.value, Unreachable)
    assert isinstance(caught.value, OSError)
    assert caught.value.hint
    assert caught.value.exit_code == Unreachable.exit_code


@pytest.mark.parametrize("answer", [b"", b"garbage\n", b"[1]\n", b'{"ok": tr'])
def test_a_stranger_on_the_socket_is_guard_gone(tmp_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(GuardGone):
            GuardClient(tmp_path / "sock", 2).status()
        thread.join()


def test_a_silent_guard_is_given_up_and_asked_afresh(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        client = GuardClient(tmp_path / "sock", 0.1)
        with pytest.raises(GuardGone):
            client.status()
        listener.accept()[0].close()

        def serve() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b'{"ok": true}\n')
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        client.timeout_s = 5
        assert client.status() == {"ok": True}
        thread.join()
