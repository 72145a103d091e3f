"""A folder of named things, each a folder of its own with disks and one JSON file about them.

Rules:
1. The JSON file is what makes a thing: a folder without it, or with a damaged one, is not listed.
2. Names that begin with a dot are workplaces and no things.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from outlast.errors import NotFound, StorageTrouble
from outlast.storage.files import trouble_of
from outlast.storage.names import check_name


@dataclass(frozen=True, slots=True)
class StoredDisk:
    file: str
    virtual_bytes: int


class Thing(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def disks(self) -> tuple[StoredDisk, ...]: ...


T = TypeVar("T", bound=Thing)


class Shelf(ABC, Generic[T]):
    """noun: what a thing is called; about: its JSON file; advice: for a damaged one."""

    noun: ClassVar[str]
    about: ClassVar[str]
    advice: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def read(self, name: str, raw: Mapping[str, Any]) -> T:
        """The thing in this JSON object. Raises ValueError, KeyError, TypeError."""

    def all(self) -> list[T]:
        """All of them by name; damaged ones are left out. Raises StorageTrouble."""
        found = []
        for path in sorted(entries(self.folder)):
            try:
                found.append(self.get(path.name))
            except (NotFound, StorageTrouble):
                continue
        return found

    def get(self, name: str) -> T:
        """Raises NotFound, StorageTrouble when what is written about it is damaged."""
        path = self.folder / check_name(name, f"{self.noun} name") / self.about
        try:
            return self.read(name, json.loads(path.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            hint = f"outlast {self.noun} list"
            raise NotFound(f"there is no {self.noun} '{name}'", hint=hint) from None
        except OSError as error:
            raise trouble_of(error, path) from error
        except (ValueError, KeyError, TypeError):
            raise StorageTrouble(f"{path} is damaged", hint=self.advice) from None

    def files(self, thing: T) -> list[Path]:
        return [self.folder / thing.name / disk.file for disk in thing.disks]


def stored_disks(raw: Mapping[str, Any]) -> tuple[StoredDisk, ...]:
    return tuple(StoredDisk(str(d["file"]), int(d["virtual_bytes"])) for d in raw["disks"])


def entries(folder: Path) -> list[Path]:
    """Folders in it that are not hidden. Raises StorageTrouble."""
    try:
        return [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise trouble_of(error, folder) from error
