"""How long things are kept, where an administrator has said so: a line of JSON in the settings.

What is not said here is as in each manager's manager.json. All managers of a database share it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select

from outlast.manager.repository.schema import settings

KEY = "retention"


def said(c: Connection) -> dict[str, int]:
    """Days by the names of manager.json."""
    found = c.execute(select(settings.c.value).where(settings.c.key == KEY)).scalar()
    return dict(json.loads(found)) if found else {}


def say(c: Connection, days: Mapping[str, int]) -> None:
    """From now on; what is not named is as in manager.json again."""
    c.execute(delete(settings).where(settings.c.key == KEY))
    if days:
        c.execute(insert(settings).values(key=KEY, value=json.dumps(dict(days))))
