"""What killed work left on the pool's storage, in all folders of this room.

Rules:
1. Only hidden things that this room names so are ever deleted; never a file with a plain name.
2. Work that is alive stays.
"""

from __future__ import annotations

from pathlib import Path

from outlast.images import clones, work
from outlast.images.library import LIBRARY
from outlast.images.templates import TEMPLATES, Templates
from outlast.images.work import Leftover

FOLDERS = (LIBRARY, TEMPLATES)


def found(pool_dir: Path) -> list[Leftover]:
    """Everything that is hidden, work under way included. Raises StorageTrouble."""
    folders = (*FOLDERS, clones.IMAGES)
    return [left for folder in folders for left in work.leftovers(pool_dir / folder)]


def clean(pool_dir: Path) -> list[Leftover]:
    """Delete what is left over; what was deleted. Raises StorageTrouble."""
    Templates(pool_dir).mend()
    gone = [left for folder in FOLDERS for left in work.clean(pool_dir / folder)]
    return [*gone, *clones.clean(pool_dir)]
