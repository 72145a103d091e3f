"""What a swap costs beside the bare system calls it is made of, on one file system in one run."""

from __future__ import annotations

import os
import secrets
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import StorageTrouble
from outlast.storage.posix import PosixRegister

_VALUE = {"vm": "web", "slot": 3, "term": "0" * 32, "via": "start", "def_version": 1, "proof": None}
_PER_REGISTER = 8  # versions of one lease before the next one is taken: as long as they get


@dataclass(frozen=True, slots=True)
class BenchSwap:
    """Milliseconds (least, median, most) and the ratio swap : bare of each pair."""

    rounds: int
    swap_ms: tuple[float, float, float]
    bare_ms: tuple[float, float, float]
    ratio: tuple[float, float, float]


def bench_swap(directory: Path | str, rounds: int = 200) -> BenchSwap:
    """Time an uncontended acquire of a lease (read, swap) against create+fsync+link+fsync.

    Both in turns, in a directory of their own in `directory`, which is removed. Raises OSError,
    StorageTrouble.
    """
    work = Path(directory).absolute() / f".outlast-bench-{secrets.token_hex(8)}"
    work.mkdir()
    try:
        for name in ("reg", "tmp", "bare", "bare-tmp"):
            (work / name).mkdir()
        register = PosixRegister(work, "1")
        deeds = (lambda n: _swap(register, n), lambda n: _bare(work, n))
        took: tuple[list[float], list[float]] = ([], [])
        for number in range(-_PER_REGISTER, rounds):  # the first ones only warm up
            for which in (0, 1) if number % 2 else (1, 0):
                start = time.perf_counter()
                deeds[which](number + _PER_REGISTER)
                if number >= 0:
                    took[which].append(1000 * (time.perf_counter() - start))
        ratios = [swap / bare for swap, bare in zip(*took, strict=True)]
        return BenchSwap(rounds, _three(took[0]), _three(took[1]), _three(ratios))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def bench_text(result: BenchSwap) -> str:
    """The result as lines for people."""
    lines = [f"uncontended lease acquire beside create+fsync+link+fsync, {result.rounds} pairs"]
    for name, three, unit in (
        ("acquire", result.swap_ms, "ms"), ("bare", result.bare_ms, "ms"),
        ("ratio", result.ratio, ""),
    ):  # fmt: skip
        least, median, most = three
        lines.append(
            f"  {name:8} min {least:.2f}  med {median:.2f}  max {most:.2f} {unit}".rstrip()
        )
    return "\n".join(lines) + "\n"


def _swap(register: PosixRegister, number: int) -> None:
    name = f"lease/vm{number // _PER_REGISTER}"
    version, _ = register.read(name)
    if not register.swap(name, version, _VALUE).ok:
        raise StorageTrouble("an uncontended swap did not succeed", hint=register.trouble)


def _bare(work: Path, number: int) -> None:
    folder = work / "bare" / str(number // _PER_REGISTER)
    if number % _PER_REGISTER == 0:
        folder.mkdir()
    temporary = work / "bare-tmp" / str(number)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b"x" * 300)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.link(temporary, folder / f"{number:020d}")
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _three(values: list[float]) -> tuple[float, float, float]:
    return (
        round(min(values), 3), round(statistics.median(values), 3), round(max(values), 3)
    )  # fmt: skip
