"""Each command that a page or a help text shows is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from outlast.cli.main import app, hoist

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "src/outlast/cli").glob("*.py")
TOLD = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(SOURCES)]
LINE = re.compile(r" {4,}(?:\$ )?((?:sudo )?outlast [^\n]*)", re.MULTILINE)
REMARK = re.compile(r"\s{2,}(?![-\[]).*|\s#\s.*| >.*")  # two spaces, unless an option follows
ALL = typer.main.get_command(app)
NEXT = re.compile(r"&&|\||;")


def told(path: Path) -> Iterator[str]:
    text = re.sub(r"\\{1,2}\n\s*", "", path.read_text(encoding="utf-8"))
    for line in LINE.findall(text):
        for command in NEXT.split(REMARK.sub("", line)):
            name, _, rest = command.strip().removeprefix("sudo ").partition(" ")
            if name == "outlast":
                yield rest


def understood(command: str) -> None:
    """Raises what the parser has against it."""
    _, words = hoist(shlex.split(command))
    context: Any = None
    found: Any = ALL
    while subcommands := getattr(found, "commands", None):
        context = found.context_class(found, info_name=found.name, parent=context)
        if not words or words[0] not in subcommands:
            context.fail(f"there is no '{command}'")
        found, words = subcommands[words[0]], words[1:]
    found.make_context(found.name, list(words), parent=context)


def test_what_is_told_is_understood() -> None:
    commands = [(path, command) for path in TOLD for command in told(path)]
    assert len(commands) > 300
    assert [(path, c, said) for path, c in commands if (said := _against(c))] == []


def test_what_there_is_not_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "    outlast vm create web --sise 3     # no such option\n"
        "    $ sudo outlast host check && outlast vm fly web | less\n"
        "    outlast storage mount nfs \\\n        nas:/export\n"
    )
    assert [command for command in told(page) if _against(command)] == [
        "vm create web --sise 3", "vm fly web", "storage mount nfs nas:/export",
    ]  # fmt: skip


def _against(command: str) -> str:
    try:
        understood(command)
    except SystemExit:  # help, or a group alone
        return ""
    except Exception as trouble:
        said: Any = getattr(trouble, "message", trouble)
        return f"{type(trouble).__name__}: {said}"
    return ""
