"""Runs a command at a terminal of its own, and answers its question when it asks it, not before.

    python typed.py COMMAND        the answer, when there is one, is the first line of stdin

What is typed ahead is thrown away by a program that asks for a secret, as it should be: it is typed
when the terminal shows no more what is typed.
"""

from __future__ import annotations

import os
import pty
import select
import sys
import termios

ANSWER = sys.stdin.readline().encode()
ASKS, LOOK_S = b": ", 0.5  # how a question ends


def _hidden(terminal: int) -> bool:
    return not termios.tcgetattr(terminal)[3] & termios.ECHO


def main() -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "dumb"  # bars that move are work for a translated processor
        os.execv("/bin/sh", ["sh", "-c", sys.argv[1]])  # noqa: S606 - it is one
    said, answered = b"", len(ANSWER) < 2
    while True:
        if select.select([terminal], [], [], LOOK_S)[0]:
            try:
                more = os.read(terminal, 1 << 16)
            except OSError:  # it has ended
                break
            if not more:
                break
            said += more
        if not answered and said.endswith(ASKS) and _hidden(terminal):
            os.write(terminal, ANSWER)
            answered = True
    sys.stdout.write(said.decode(errors="replace").replace("\r\n", "\n"))
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
