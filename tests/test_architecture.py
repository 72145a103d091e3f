"""The house as a table: which room may use which, and what may be used of the world in pure files.

Rules:
1. All imports count: at the top, inside functions, under TYPE_CHECKING.
2. What is not in the table is refused, a room that the table doesn't know included.
3. No circles: neither between files nor between rooms.
4. Pure files use neither clock nor chance nor anything outside the process.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
GROUND = frozenset({"model", "errors", "settings", "report", "equipment", "words"})

# room -> what it may import besides itself: rooms, or single files of a room
MAY: Mapping[str, frozenset[str]] = {
    "__init__": frozenset(),
    "model": frozenset(),
    "errors": frozenset(),
    "report": frozenset(),
    "equipment": frozenset(),
    "words": frozenset(),
    "settings": frozenset({"errors", "model"}),
    "placement": GROUND,
    "pool": GROUND | {"placement"},
    "storage": GROUND,
    "wire": frozenset({"model", "errors"}),
    "hypervisor": frozenset({"model", "errors"}),
    "images": GROUND | {"storage"},
    "power": GROUND | {"storage", "wire.files"},
    "network": GROUND | {"storage"},
    "mounts": GROUND | {"storage"},
    "guard": GROUND
    | {"__init__", "storage.format", "storage.heartbeat", "wire.beat", "wire.grant"}
    | {"storage.etcd", "storage.etcd_access", "storage.etcd_heartbeat", "storage.etcd_register"},
    "incident": GROUND | {"pool", "__init__"},
    "agent": GROUND
    | {"placement", "pool", "storage", "wire", "hypervisor", "guard", "incident"}
    | {"images", "power", "network", "mounts", "readiness"},
    "readiness": GROUND | {"wire", "placement", "storage.drills"},
    "cli": GROUND
    | {"wire", "placement", "storage", "rack.client", "rack.lab", "incident"}
    | {"images", "power", "network", "mounts", "readiness"},
    "sim": GROUND
    | {"pool", "placement", "agent.tick", "storage.register", "storage.format"}
    | {"guard.core", "guard.facts", "guard.states"}
    | {"guard.pulse_core", "guard.pulse_drill", "guard.pulse_facts", "guard.pulse_grant"}
    | {"guard.pulse_windows"}
    | {"wire.grant"},
    "rack": GROUND | {"wire"},
    "manager": GROUND | {"wire", "placement", "readiness", "images.series", "__init__"},
}

# single files that must keep to less than their room may
FILE_MAY: Mapping[str, frozenset[str]] = {
    "agent.tick": GROUND | {"pool", "agent.picture"},
    # what the manager needs is not installed on every host: these files of the command line use it
    "cli.manager": GROUND | {"cli", "wire", "manager"},
    "cli.manager_people": GROUND | {"cli", "manager"},
    "cli.manager_place": GROUND | {"cli", "manager"},
}

# rooms that use only the standard library and their table entry
NO_THIRD_PARTY = frozenset(
    {"guard", "model", "errors", "settings", "report", "words", "placement", "pool", "sim"}
)
THIRD_PARTY = frozenset(
    {
        "aiohttp",
        "pydantic",
        "typer",
        "click",
        "rich",
        "cryptography",
        "libvirt",
        "libvirt_qemu",
        "pycdlib",
    }
    | {"jinja2", "markupsafe"}
    | {"fastapi", "starlette", "granian", "sqlalchemy", "alembic", "argon2", "prometheus_client"}
    | {"joserfc", "ldap3", "segno"}
)

PURE_FILES = GROUND | frozenset(
    {
        "storage.format",
        "storage.register",
        "storage.names",
        "storage.drills",
        "storage.health",
        "storage.records",
        "wire.beat",
        "wire.grant",
        "guard.core",
        "guard.facts",
        "guard.states",
        "guard.pulse_core",
        "guard.pulse_strangers",
        "guard.pulse_drill",
        "guard.pulse_grant",
        "guard.pulse_promise",
        "guard.pulse_facts",
        "guard.pulse_windows",
        "power.port",
        "network.plan",
        "mounts.ocfs2",
        "mounts.options",
        "mounts.table",
        "mounts.unit",
        "network.roles",
        "hypervisor.driver",
        "hypervisor.guests",
        "hypervisor.adoption",
        "hypervisor.disks",
        "hypervisor.domain_xml",
        "hypervisor.hardware_xml",
        "hypervisor.mover",
        "hypervisor.rpc_frames",
        "agent.tick",
        "agent.margin",
        "agent.picture",
        "agent.service",
        "rack.ledger",
        "rack.guest.record",
    }
)
PURE_ROOMS = frozenset({"placement", "pool"})
WORLD = frozenset(
    {
        "asyncio",
        "concurrent",
        "ctypes",
        "datetime",
        "fcntl",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "random",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
        "time",
    }
)


@dataclass(frozen=True)
class Import:
    line: int
    target: str  # dotted


def module_of(path: Path) -> str:
    """`pool.core` for src/outlast/pool/core.py, `pool` for its __init__.py."""
    parts = list(path.relative_to(SRC / "outlast").with_suffix("").parts)
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imports_of(source: str, module: str, is_package: bool) -> Iterator[Import]:
    """Every import of a file, wherever it stands; relative ones made absolute."""
    package = ["outlast", *module.split(".")]
    if not is_package:
        package.pop()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(node.lineno, f"{stem}.{alias.name}")
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            for name in node.args[:1]:
                if isinstance(name, ast.Constant):
                    yield Import(node.lineno, str(name.value))


def _called(node: ast.Call) -> str:
    func = node.func
    return func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")


def files() -> list[Path]:
    return sorted((SRC / "outlast").rglob("*.py"))


MODULES = {module_of(p): p for p in files()}


def target_module(dotted: str) -> str | None:
    """The file of ours that `outlast.x.y.name` comes from; None for others' modules."""
    parts = dotted.split(".")
    if parts[0] != "outlast":
        return None
    for end in range(len(parts), 1, -1):
        name = ".".join(parts[1:end])
        if name in MODULES:
            return name
    return "__init__"


def room(module: str) -> str:
    return module.split(".")[0]


def allowed(module: str, target: str) -> bool:
    """May `module` use `target`, both names of our files?"""
    may = FILE_MAY.get(module)
    if may is None:
        if room(module) == room(target):
            return True
        may = MAY[room(module)]
    # a whole room may be used, or one file of it; its __init__ holds a docstring only
    return target == "__init__" or target in may or room(target) in may


def graph() -> dict[str, set[str]]:
    uses: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        found = imports_of(path.read_text(), module, path.name == "__init__.py")
        targets = {target_module(i.target) for i in found}
        uses[module] = {t for t in targets if t is not None and t != module}
    return uses


def circle(uses: Mapping[str, Iterable[str]]) -> list[str]:
    """One circle as a list of names, or an empty list."""
    done: set[str] = set()

    def walk(at: str, trail: list[str]) -> list[str]:
        if at in trail:
            return [*trail[trail.index(at) :], at]
        if at in done:
            return []
        for other in sorted(uses.get(at, ())):
            found = walk(other, [*trail, at])
            if found:
                return found
        done.add(at)
        return []

    for name in sorted(uses):
        found = walk(name, [])
        if found:
            return found
    return []


def test_there_is_something_to_check() -> None:
    rooms = {room(m) for m in MODULES}
    assert {"model", "errors", "settings", "pool", "placement", "storage"} <= rooms
    assert len(MODULES) > 20
    assert sum(len(used) for used in graph().values()) > 40


def test_every_room_is_in_the_table() -> None:
    assert {room(m) for m in MODULES} <= set(MAY)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_keep_to_the_table(module: str) -> None:
    path = MODULES[module]
    broken = []
    for found in imports_of(path.read_text(), module, path.name == "__init__.py"):
        target = target_module(found.target)
        top = found.target.split(".")[0]
        if target is not None:
            if not allowed(module, target):
                broken.append(f"{path.name}:{found.line}: {module} may not use {target}")
        elif top in THIRD_PARTY:
            if room(module) in NO_THIRD_PARTY:
                broken.append(f"{path.name}:{found.line}: {room(module)} uses no {top}")
        elif top not in sys.stdlib_module_names:
            broken.append(f"{path.name}:{found.line}: {top} is not a dependency of Outlast")
    assert not broken, "\n".join(broken)


def test_the_guard_needs_nothing_that_has_to_be_installed() -> None:
    """Whatever its two processes load, by whatever way, comes with Python."""
    uses = graph()
    reached, todo = set(), [m for m in MODULES if room(m) == "guard"]
    while todo:
        module = todo.pop()
        if module not in reached:
            reached.add(module)
            todo += uses[module]
    broken = [
        f"{module} uses {found.target}"
        for module in sorted(reached)
        for found in imports_of(MODULES[module].read_text(), module, False)
        if found.target.split(".")[0] in THIRD_PARTY
    ]
    assert broken == []


def test_no_circle_between_files() -> None:
    assert circle(graph()) == []


def test_no_circle_between_rooms() -> None:
    rooms: dict[str, set[str]] = {}
    for module, used in graph().items():
        rooms.setdefault(room(module), set()).update(
            room(t) for t in used if room(t) != room(module)
        )
    assert circle(rooms) == []


def pure_modules() -> list[str]:
    return sorted(m for m in MODULES if m in PURE_FILES or room(m) in PURE_ROOMS)


def test_pure_files_are_there() -> None:
    assert len(pure_modules()) > 12


@pytest.mark.parametrize("module", pure_modules())
def test_pure_files_use_nothing_of_the_world(module: str) -> None:
    path = MODULES[module]
    source = path.read_text()
    broken = [
        f"{path.name}:{found.line}: {found.target}"
        for found in imports_of(source, module, path.name == "__init__.py")
        if found.target.split(".")[0] in WORLD
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _called(node) in ("open", "print", "input"):
            broken.append(f"{path.name}:{node.lineno}: calls {_called(node)}")
    assert not broken, "\n".join(broken)


def test_pure_files_use_only_pure_files() -> None:
    uses = graph()
    pure = set(pure_modules()) | {"__init__"}
    packages = {m for m, p in MODULES.items() if p.name == "__init__.py"}
    broken = [
        f"{module} uses {target}"
        for module in pure & set(uses)
        for target in uses[module]
        if target not in pure and target not in packages
    ]
    assert broken == []


# ---- the checks themselves are checked, on small sources


def test_hidden_imports_count() -> None:
    source = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from outlast.agent import tick
def late():
    import outlast.cli.main
    from ..storage import posix
    importlib.import_module("outlast.rack.shelf")
"""
    found = {i.target for i in imports_of(source, "pool.core", False)}
    assert {
        "outlast.agent.tick",
        "outlast.cli.main",
        "outlast.storage.posix",
        "outlast.rack.shelf",
    } <= found


def test_the_table_refuses() -> None:
    assert not allowed("pool.core", "storage.format")
    assert not allowed("placement.choose", "pool.core")
    assert not allowed("guard.core", "storage.posix")
    assert not allowed("agent.tick", "storage.posix")
    assert not allowed("cli.main", "rack.shelf")
    assert allowed("guard.core", "storage.format")
    assert allowed("agent.hands", "storage.posix")
    assert allowed("agent.tick", "pool.core")


def test_circles_are_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
