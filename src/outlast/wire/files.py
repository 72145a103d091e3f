"""Files that are replaced at once and durably, and never readable by more than they should be."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from outlast.errors import OutlastError, StorageTrouble


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Replace a file at once and durably; it never has another mode than this.

    Raises StorageTrouble; then the old file, if any, is still whole.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(fd, mode)
                os.fsync(fd)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise trouble(error) from error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some file systems keep names by themselves
            os.fsync(fd)
    finally:
        os.close(fd)


def trouble(error: OSError) -> OutlastError:
    """The error to raise for what the file system said."""
    where = error.filename or "a file"
    return StorageTrouble(
        f"{where}: {error.strerror or error}", hint="is it mounted, writable and not full?"
    )
