"""qemu-img, the only program that reads and writes image formats here, under limits.

Rules:
1. The format of every file is said; paths are absolute, so that none is taken for a protocol.
2. It runs at the lowest priority for processor and disk, and dies with this process. Copies have
   a limit of bytes a second, one piece on its way at a time (`blkdebug` is QEMU's only driver that
   cuts requests), and go past the page cache where the file system allows that.
3. Looking at a file has limits of memory, processor and time: the file may have been made to harm.
4. Its complaints become sentences; a full disk is told as one.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from outlast.errors import InvalidInput, NotFound, OutlastError, PoolTrouble, StorageTrouble
from outlast.images.pace import Brake, share

LOOK_S, LOOK_CPU_S, LOOK_MEMORY = 30.0, 20, 1 << 30
AGAIN_S = 0.5
GENTLY = ("setpriv", "--pdeathsig", "KILL", "nice", "-n", "19", "ionice", "-c", "3")
_PERCENT = re.compile(r"\(([0-9.]+)/100%\)")

Percent = Callable[[float], None]


def info(path: Path, kind: str) -> dict[str, Any]:
    """What qemu-img says of a file. Raises InvalidInput for what is no such image."""
    found = _look(["info", "--output", "json", "-f", kind, str(path)], path)
    return found if isinstance(found, dict) else {}


def info_of_vm(path: str) -> dict[str, Any]:
    """As info, of a qcow2 disk from which a VM may be running. Raises InvalidInput."""
    found = _look(["info", "--output", "json", "-U", "-f", "qcow2", path], Path(path))
    return found if isinstance(found, dict) else {}


def needed_bytes(path: Path, kind: str) -> int:
    """How much room a qcow2 copy takes. Raises InvalidInput."""
    found = _look(["measure", "--output", "json", "-f", kind, "-O", "qcow2", str(path)], path)
    return int(found["required"])


def create(path: Path, size_bytes: int, kind: str = "qcow2") -> None:
    """A new, empty file. Raises StorageTrouble."""
    run(["create", "-q", "-f", kind, str(path), str(size_bytes)], about=str(path))


def overlay(path: Path, base: str, size_bytes: int) -> None:
    """A qcow2 file over another one, which is named as seen from where the file will be.

    Raises StorageTrouble.
    """
    run(
        ["create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", "qcow2", str(path),
         str(size_bytes)],
        about=str(path),
    )  # fmt: skip


def resize(path: Path, size_bytes: int) -> None:
    """Make a qcow2 file larger. Raises StorageTrouble, InvalidInput when that would cut it."""
    run(["resize", "-q", "-f", "qcow2", str(path), str(size_bytes)], about=str(path))


def convert(
    source: Path, kind: str, target: Path, to: str, rate_bytes_s: int, percent: Percent,
    leave: Sequence[str] = (), *, made: bool = False,
) -> None:  # fmt: skip
    """Copy an image into a new file, synced.

    leave: words that go before the program's own, good for one program. made: the file is there,
    empty and as large as the disk. Raises StorageTrouble, InvalidInput.
    """
    if not made:
        create(target, int(info(source, kind)["virtual-size"]), to)
    rate = ["-r", str(rate_bytes_s)] if rate_bytes_s else []
    cache = [
        "-T", "none" if takes_direct(source) else "writeback",
        "-t", "none" if takes_direct(target) else "writeback",
    ]  # fmt: skip
    with subprocess.Popen(
        [*GENTLY, *leave, *_tool(), "convert", "-p", "-m", "1", *rate, *cache, "-n",
         "--target-is-zero", "--image-opts", "--target-image-opts",
         _in_pieces(source, kind), _in_pieces(target, to)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            _follow(process, percent)
            assert process.stderr is not None
            said = process.stderr.read(1 << 16).decode(errors="replace")
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise _trouble(said, source, target)
    sync(target)


def snapshot(action: str, name: str, path: str, leave: Sequence[str] = ()) -> None:
    """-c: keep, -a: go back to, -d: forget a snapshot inside a qcow2 file, past the page cache.

    Raises InvalidInput, StorageTrouble.
    """
    run(["snapshot", "-q", "--image-opts", action, name, _past_cache(path)], leave, about=path)


def mend(path: str, leave: Sequence[str] = ()) -> None:
    """Give back the room in a qcow2 file that nothing uses, after a program that was ended.

    Raises InvalidInput, StorageTrouble.
    """
    run(["check", "-q", "-r", "leaks", "--image-opts", _past_cache(path)], leave, about=path)


def run(arguments: Sequence[str], leave: Sequence[str] = (), *, about: str) -> str:
    """One quick command; its output. leave: as for convert. about: the file that troubles name.

    Raises StorageTrouble, InvalidInput.
    """
    done = subprocess.run(
        [*GENTLY, *leave, *_tool(), *arguments], capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if done.returncode:
        raise _trouble(done.stderr, Path(about))
    return done.stdout


def takes_direct(path: Path) -> bool:
    """True when this file can be read and written past the page cache."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _past_cache(path: str) -> str:
    """A qcow2 file, written past the page cache where the file system allows that."""
    direct = "on" if takes_direct(Path(path)) else "off"
    return f"driver=qcow2,cache.direct={direct},file.driver=file,file.filename={_word(path)}"


def _in_pieces(path: Path, kind: str) -> str:
    """An image of which no more is read or written at once than a piece."""
    image = f"image.driver={kind},image.file.driver=file,image.file.filename={_word(path)}"
    return f"driver=blkdebug,max-transfer={share().piece_bytes},{image}"


def _word(path: Path | str) -> str:
    return str(path).replace(",", ",,")


def _tool() -> list[str]:
    return [os.environ.get("OUTLAST_QEMU_IMG") or "qemu-img"]


def _look(arguments: list[str], path: Path) -> Any:
    limits = ["prlimit", f"--as={LOOK_MEMORY}", f"--cpu={LOOK_CPU_S}"]
    try:
        done = subprocess.run(
            [*GENTLY, *limits, *_tool(), *arguments], capture_output=True, text=True,
            timeout=LOOK_S, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if done.returncode:
            raise _trouble(done.stderr, path)
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise InvalidInput(f"{path} could not be looked at within {LOOK_S:g} s") from None
    except ValueError:
        raise InvalidInput(f"{path}: what qemu-img says of it makes no sense") from None


def _follow(process: subprocess.Popen[bytes], percent: Percent) -> None:
    """Tells the last word again while there is none: whoever hears it may break the copy off, and
    one with a limit may be silent for a minute."""
    out, last = process.stdout, 0.0
    assert out is not None
    brake = Brake(lambda s: process.send_signal(signal.SIGSTOP if s else signal.SIGCONT))
    while True:
        if not select.select([out], [], [], min(AGAIN_S, brake.look()))[0]:
            percent(last)
            continue
        said = os.read(out.fileno(), 4096)
        if not said:
            return
        for match in _PERCENT.findall(said.decode(errors="replace")):
            last = float(match)
            percent(last)


def _trouble(said: str, path: Path, written: Path | None = None) -> OutlastError:
    """path: what the words are about; written: what was written, when that is another file."""
    target = written or path
    lines = [line.removeprefix("qemu-img: ") for line in said.strip().splitlines()]
    words = lines[-1][:300] if lines else "it ended without a word; was it killed?"
    if "Outlast does not let" in said:
        return PoolTrouble(words, hint="see 'outlast status'")
    if "No space left" in said or "Disk quota exceeded" in said:
        hint = "free some space, then do it again"
        return StorageTrouble(f"the storage is full: {target} does not fit", hint=hint)
    # of a VMDK whose first bytes it cannot write, QEMU knows no word and aborts
    if "File too large" in said or "too large for file format" in said or "Assertion" in said:
        return StorageTrouble(
            f"the storage takes no file so large as {target}",
            hint="is it full (df -h), or has it a limit (ulimit -f)? Another storage may take it",
        )
    if "failed to execute" in said and "qemu-img" in said:
        return NotFound("there is no qemu-img on this host", hint="install qemu-utils")
    if "Failed to get" in said and "lock" in said:
        return StorageTrouble(f"{path} is in use by another program", hint="is its VM running?")
    return InvalidInput(f"{path}: {words}", hint="is the file whole, and of the format it seems?")
