"""The storage repositories of a pool: the registers `repository/<name>`.

Rules:
1. A repository is at the same path on every host: disks of VMs are named by their path.
2. One that holds a disk of a VM is not removed; what is on the storage itself is never touched.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from outlast.equipment import OWN_STORAGE, Repository
from outlast.errors import Conflict, InvalidInput, NotFound
from outlast.mounts.options import Choice, choose
from outlast.mounts.unit import check_path
from outlast.storage.agreed import put
from outlast.storage.names import check_name
from outlast.storage.records import repository_from, repository_to, vm_from
from outlast.storage.register import Register

BASE = "/srv"


def repositories(register: Register) -> list[Repository]:
    """By name. Raises StorageTrouble."""
    found = (register.read(name)[1] for name in register.names("repository"))
    known = [repository_from(value) for value in found if value is not None]
    return sorted((r for r in known if r.kind), key=lambda r: r.name)


def get(register: Register, name: str) -> Repository:
    """Raises NotFound, InvalidInput, StorageTrouble."""
    _, value = register.read(f"repository/{check_name(name, 'name of a repository')}")
    found = repository_from(value) if value is not None else None
    if found is None or not found.kind:
        raise NotFound(f"there is no storage '{name}' in this pool", hint="outlast storage list")
    return found


def choice_of(repository: Repository) -> Choice:
    """How it is mounted. Raises InvalidInput."""
    return choose(repository.kind, repository.source, repository.options, register=False)


def check(repository: Repository) -> Repository:
    """The repository with its path in plain form. Raises InvalidInput."""
    check_name(repository.name, "name of a repository")
    if repository.name == OWN_STORAGE:
        raise InvalidInput(f"'{OWN_STORAGE}' is the pool's own storage", hint="take another name")
    choice_of(repository)
    return replace(repository, path=check_path(repository.path or f"{BASE}/{repository.name}"))


def add(register: Register, wished: Repository, pool_dir: Path) -> Repository:
    """Raises InvalidInput, Conflict, StorageTrouble."""
    repository = check(wished)
    if Path(repository.path) == pool_dir or pool_dir.is_relative_to(repository.path):
        raise InvalidInput(f"{repository.path} is where the pool itself lives")
    version, value = register.read(f"repository/{repository.name}")
    if value is not None and repository_from(value).kind:
        raise Conflict(
            f"there is a storage '{repository.name}' already", hint="outlast storage list"
        )
    for other in repositories(register):
        a, b = Path(other.path), Path(repository.path)
        if a.is_relative_to(b) or b.is_relative_to(a):
            raise Conflict(f"{b} and the storage '{other.name}' at {a} would lie in each other")
    _put(register, version, repository)
    return repository


def remove(register: Register, name: str) -> None:
    """Raises NotFound, Conflict, StorageTrouble."""
    get(register, name)
    users = sorted(
        record.spec.name
        for value in (register.read(vm)[1] for vm in register.names("vm"))
        if value is not None and not (record := vm_from(value)).deleted
        and any(disk.repository == name for disk in record.spec.disks)
    )  # fmt: skip
    if users:
        raise Conflict(
            f"the storage '{name}' stays: it holds disks of {', '.join(users[:8])}",
            hint=f"outlast vm move-disk {users[0]} --to ANOTHER",
        )
    version, _ = register.read(f"repository/{name}")
    _put(register, version, Repository(name))


def _put(register: Register, version: int, repository: Repository) -> None:
    name = f"repository/{repository.name}"
    what = f"the storage '{repository.name}'"
    put(register, name, version, repository_to(repository), what, "outlast storage list")
