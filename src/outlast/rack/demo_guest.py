"""The demo's Linux guest: built beside everything else, and asked through its own console.

    python -m outlast.rack.demo_guest FOLDER       builds it; what is missing is said on stdout

Promises: the build can be given up at any moment and leaves nothing outside its folder. That it
cannot be had (no network, no such package) is an answer, not a failure: the demo goes on without.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import outlast
from outlast.errors import OutlastError
from outlast.rack.guest import build
from outlast.rack.lab import Lab
from outlast.wire.console import connect
from outlast.wire.target import parse_target

PATIENCE_S = 25.0  # of the demo, for a package that is still on its way when all else is ready
SHELL_S = 10.0


class LinuxGuest:
    """A build that runs while the hosts boot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        scratch = folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        paths = [str(Path(outlast.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        env = {
            **os.environ,
            "TMPDIR": str(scratch),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder)], env=env, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def wait(self, timeout_s: float = PATIENCE_S) -> str:
        """Why there is no such guest; "" when its files are in the folder."""
        try:
            said, _ = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.stop()
            return f"its kernel did not arrive within {timeout_s:g} s"
        if self._process.returncode == 0:
            return ""
        return said.strip() or "its build ended without a word"

    def files(self) -> tuple[Path, Path]:
        """Kernel and initrd."""
        return self._folder / "sentinel.kernel", self._folder / "sentinel.initrd"

    def stop(self) -> None:
        """Give up, with everything the build has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def ask_shell(lab: Lab, vm: str, command: str) -> str:
    """Type a command into the shell on a VM's serial console; its first line of answer.

    "" when no answer came in time. The answer is read where all output goes, in the serial log.
    """
    target = parse_target(lab.client().target.text)
    said = len(lab.log(vm))

    async def type_it() -> None:
        async with connect(target, vm) as socket:
            await socket.send_bytes(f'echo "SAYS $({command})"\n'.encode())
            end_s = time.monotonic() + SHELL_S
            while "\nSAYS " not in lab.log(vm)[said:] and time.monotonic() < end_s:
                await asyncio.sleep(0.1)

    asyncio.run(type_it())
    _, _, answer = lab.log(vm)[said:].partition("\nSAYS ")
    return answer.partition("\n")[0].strip()


def main(argv: list[str]) -> int:
    try:
        build.build_demo(Path(argv[1]))
    except OutlastError as error:
        sys.stdout.write(f"{error.sentence}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
