"""Runs one program as if it was a VM: inside that VM's control group, by the guard's leave.

    python -m outlast.guard.errand SOCKET VM TERM PARENT PROGRAM ARGUMENTS...

For work on the disks of a VM that is stopped: whoever may run the VM may do it, and when the right
ends, the guard freezes and kills this process as it would kill the VM.

Rules:
1. It becomes the program only after the guard moved it into the VM's control group, in the very
   term for which the VM's lease is held.
2. It does nothing for a parent that is gone: nobody would free the lease at its end, and who finds
   the lease held may free it as soon as the control group is empty.
"""

from __future__ import annotations

import os
import sys

from outlast.guard.client import GuardClient, GuardGone

REFUSAL = "Outlast does not let work on the disks of"
REFUSED = 77


def refused(socket: str, vm: str, term: str, parent: int) -> str:
    """Why this process may not go on; "" when it may, and is in its group."""
    client = GuardClient(socket)
    try:
        entered = client.enter(vm)
        if not entered.get("ok"):
            return str(entered.get("error"))
        if client.status().get("term") != term:
            return "the term of its lease has ended"
    except GuardGone as trouble:
        return trouble.sentence
    finally:
        client.disconnect()
    return "" if os.getppid() == parent else "who asked for it is gone"


def main(words: list[str]) -> int:
    socket, vm, term, parent, *command = words
    if why := refused(socket, vm, term, int(parent)):
        sys.stderr.write(f"{REFUSAL} {vm} on this host: {why}\n")
        return REFUSED
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming it is the point
    except OSError as trouble:
        sys.stderr.write(f"{command[0]} cannot be started: {trouble.strerror}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
