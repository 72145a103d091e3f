"""What killed work left on the pool's storage and in its repositories, in all folders of this room.

Rules:
1. Only hidden things that this room names so are ever deleted; never a file with a plain name.
2. Work that is alive stays; what has no owner to be asked stays for a minute.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from outlast.images import clones, work
from outlast.images.library import LIBRARY
from outlast.images.templates import TEMPLATES, Templates
from outlast.images.uploads import Uploads
from outlast.images.work import Leftover
from outlast.storage.files import trouble_of

FOLDERS = (LIBRARY, TEMPLATES)
_PART = re.compile(r"\.(.+)\.[0-9a-f]{12}\.part")


def found(pool_dir: Path, repositories: Sequence[Path] = ()) -> list[Leftover]:
    """Everything that is hidden, work under way included. Raises StorageTrouble."""
    images = [pool_dir / clones.IMAGES, *repositories]
    folders = [*(pool_dir / folder for folder in FOLDERS), *images]
    hidden = [left for folder in folders for left in work.leftovers(folder)]
    hidden += Uploads(pool_dir).leftovers()
    return [*hidden, *(part for folder in images for part in _parts(folder))]


def clean(pool_dir: Path, repositories: Sequence[Path] = ()) -> list[Leftover]:
    """Delete what is left over; what was deleted. Raises StorageTrouble."""
    images = [pool_dir / clones.IMAGES, *repositories]
    Templates(pool_dir).mend()
    gone = [left for folder in FOLDERS for left in work.clean(pool_dir / folder)]
    uploads = Uploads(pool_dir).leftovers()
    for upload in uploads:
        work.forget(upload)
    parts = [part for folder in images for part in _parts(folder)]
    for part in parts:
        part.path.unlink(missing_ok=True)
    made = [left for folder in images for left in clones.clean(pool_dir, folder)]
    return [*gone, *uploads, *made, *parts]


def _parts(folder: Path) -> list[Leftover]:
    """New disks that a killed agent had not named yet (agent/images.py)."""
    try:
        files = [path for path in folder.glob(".*.part") if _PART.fullmatch(path.name)]
        now_s = work.clock_of(folder) if files else 0.0
        return [
            Leftover(path, match[1], path.stat().st_blocks * 512, "")
            for path in files
            if (match := _PART.fullmatch(path.name)) and now_s - path.stat().st_mtime > work.STILL_S
        ]
    except OSError as error:
        raise trouble_of(error, folder) from error
