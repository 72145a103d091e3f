"""Style as a test: sizes, one noun per thing, docstrings, and things that must not be in the tree.

The limits hold from the first commit, so nothing is tolerated and nothing ratchets.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60  # wished: 50

# identifiers that have a better word here; matched as whole words of an identifier
BANNED = {
    "node": "host",
    "nodes": "hosts",
    "cluster": "pool",
    "clusters": "pools",
    "incarnation": "term",
    "hypervisors": "hosts",
    "utils": "the name of what it does",
    "util": "the name of what it does",
    "helper": "the name of what it does",
    "helpers": "the name of what it does",
    "misc": "the name of what it does",
    "foo": "a name",
    "bar": "a name",
}
# words of other worlds that keep their names: word -> files below src/outlast
FOREIGN = {
    # FUSE's own word for an inode
    "node": (
        *(_FUSE := ("rack/fuse.py", "rack/file*.py", "rack/fake_watchdog.py")),
        # words of OCFS2 for its own hosts
        *(_OCFS2 := ("mounts/ocfs2.py", "cli/ocfs2.py")),
    ),
    "nodes": (*_FUSE, *_OCFS2),
    # words of OCFS2, and etcd's own for its members together
    "cluster": (*_OCFS2, "storage/etcd*.py"),
}
SHOUTED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
# addresses a file may hold; never a package registry or a mirror: those are the reader's choice
ADDRESS = re.compile(r"\b(?:https?|ftp)://([^/\s\"'`<>)\]}:]+)")
KNOWN_HOSTS = re.compile(
    r"([^.]*|127\.[0-9.]+|10\.[0-9.]+|\[.*|\{.*|.*\.example|"
    r"www\.apache\.org|www\.w3\.org|keepachangelog\.com|semver\.org|libvirt\.org)\Z"
)
TEXT = {".py", ".md", ".sh", ".toml", ".txt", ".in", ".lock", ".c", ".h", ".ld", ".service", ""}


def tracked() -> Iterator[Path]:
    """Files that belong to the project; caches, .venv and git's own left out."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(p.startswith(".") and p != ".ci" for p in parts[:-1])
        built = {"__pycache__", "build"} & set(parts) or any(p.endswith(".egg-info") for p in parts)
        if path.is_file() and not hidden and not built:
            yield path


def code() -> list[Path]:
    return [p for p in tracked() if p.suffix == ".py"]


def sources() -> list[Path]:
    return [p for p in code() if p.is_relative_to(ROOT / "src")]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def words(identifier: str) -> list[str]:
    """`hostName_list` -> host, name, list."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", identifier)
    return [w.lower() for w in spaced.split("_") if w]


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name the file gives to something of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def too_long(tree: ast.AST) -> Iterator[tuple[int, str, int]]:
    """Functions whose body is too long; a signature may list as many options as it has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno, node.name, lines


def test_there_is_something_to_check() -> None:
    assert len(sources()) > 20
    assert len(code()) > len(sources()) + 10


@pytest.mark.parametrize("path", code(), ids=named)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= FILE_LINES_MAX, f"{lines} lines: split it by what its parts promise"
    long = [f"line {at}: {name} has {n} lines" for at, name, n in too_long(ast.parse(text))]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", sources(), ids=named)
def test_every_source_says_what_it_promises(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert len(said) >= 20, "a file begins with what it promises and what it leaves out"


@pytest.mark.parametrize("path", sources(), ids=named)
def test_one_noun_per_thing(path: Path) -> None:
    short = path.relative_to(ROOT / "src" / "outlast")
    found = [
        f"line {line}: {name}: say {BANNED[word]}"
        for line, name in identifiers(ast.parse(path.read_text()))
        for word in words(name)
        if word in BANNED and not any(short.match(p) for p in FOREIGN.get(word, ()))
    ]
    assert not found, "\n".join(found)
    assert not set(words(path.stem)) & set(BANNED), f"the file name {path.name}"


def test_no_strange_address_and_nothing_left_open() -> None:
    broken = []
    for path in tracked():
        if path.suffix not in TEXT or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            for host in ADDRESS.findall(line):
                if not KNOWN_HOSTS.match(host):
                    broken.append(f"{named(path)}:{number}: holds an address of {host}")
            if SHOUTED.search(line):
                broken.append(f"{named(path)}:{number}: is left open: {line.strip()[:60]}")
    assert not broken, "\n".join(broken)


def test_the_changelog_knows_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"[{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_lock_files_pin_and_hash_everything() -> None:
    for name in ("run.lock", "manager.lock", "dev.lock", "tools.lock", "build.lock"):
        text = (ROOT / "requirements" / name).read_text()
        pins = re.findall(r"^[a-z0-9._-]+==\S+", text, flags=re.MULTILINE)
        blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert pins and len(blocks) == len(pins), name
        assert all("--hash=sha256:" in block for block in blocks), name


def test_the_checks_find_what_they_look_for() -> None:
    tree = ast.parse("def join_cluster(hostNode):\n    thing.utils = 1\n")
    found = {w for _, name in identifiers(tree) for w in words(name)}
    assert {"cluster", "node", "utils"} <= found
    assert [
        h for h in ADDRESS.findall("see http://a.b/c ftp://x/") if not KNOWN_HOSTS.match(h)
    ] == ["a.b"]
    assert SHOUTED.search("# TODO later") and not SHOUTED.search("todo_list")
    body = "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX + 1)
    assert [name for _, name, _ in too_long(ast.parse(body))] == ["f"]
