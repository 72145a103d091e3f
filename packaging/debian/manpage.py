"""The man page, and with `--completion SHELL` a completion script, made of the command line.

The page says what `--help` says: no option is told twice, none can be forgotten.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import typer
from typer.completion import get_completion_script

from outlast import __version__
from outlast.cli.main import app
from outlast.errors import ALL

BROUGHT = {"--install-completion", "--show-completion"}  # the package has it already
FILES = (
    ("/etc/outlast/host.json", "what is local to this host; written by 'outlast host join'"),
    ("/etc/outlast/pki", "its certificates"),
    ("/run/outlast", "sockets of its services"),
    ("/var/lib/outlast", "state that survives boots"),
)


def roff(text: str) -> str:
    """Words of ours as roff: nothing in them is a command."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def body(text: str) -> Iterator[str]:
    """A help text; paragraphs after click's mark are kept as they stand."""
    for part in text.strip().split("\n\n"):
        yield ".PP"
        if part.lstrip().startswith("\b"):
            yield ".nf"
            yield roff(part.replace("\b", "").strip("\n"))
            yield ".fi"
        else:
            yield roff(" ".join(part.split()))


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command with its words, groups left out."""
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
        return
    for name in sorted(children):
        if not children[name].hidden:
            yield from commands(children[name], f"{path} {name}")


def options(command: Any) -> Iterator[str]:
    for param in command.params:
        told = getattr(param, "help", None) or ""
        opts = [*param.opts, *param.secondary_opts]
        ready_made = {"--install-completion", "--show-completion"} & {
            *opts
        }  # the package brings it
        if not told or ready_made or getattr(param, "hidden", False):
            continue
        plain = param.param_type_name == "argument"
        head = (param.metavar or param.name.upper()) if plain else ", ".join(opts)
        if not plain and not param.is_flag and not param.count:
            head += " " + (param.metavar or param.name.upper())
        yield ".TP"
        yield f"\\fB{roff(head)}\\fR"
        yield roff(" ".join(told.split()))


def page() -> str:
    top = typer.main.get_command(app)
    lines = [
        f'.TH OUTLAST 1 "" "outlast {__version__}" "High availability for VMs"',
        ".SH NAME",
        "outlast \\- keep virtual machines running when their host dies",
        ".SH SYNOPSIS",
        ".B outlast",
        "[\\fIOPTION\\fR...] \\fICOMMAND\\fR [\\fIARGUMENT\\fR...]",
        ".SH DESCRIPTION",
        *body(top.help or ""),
        ".SH OPTIONS",
        *options(top),
        ".SH COMMANDS",
    ]
    for words, command in commands(top, "outlast"):
        lines += [f'.SS "{roff(words)}"', *body(command.help or ""), *options(command)]
    lines += [".SH EXIT STATUS", ".TP", "\\fB0\\fR", "It is done."]
    for kind in ALL:
        lines += [".TP", f"\\fB{kind.exit_code}\\fR", roff(kind.code.replace("-", " "))]
    lines.append(".SH FILES")
    for place, told in FILES:
        lines += [".TP", f"\\fI{roff(place)}\\fR", roff(told)]
    lines += [".SH SEE ALSO", "/usr/share/doc/outlast/docs, virsh(1), qemu-system-x86_64(1)"]
    return "\n".join(lines) + "\n"


def completion(shell: str) -> str:
    return get_completion_script(prog_name="outlast", complete_var="_OUTLAST_COMPLETE", shell=shell)


if __name__ == "__main__":
    sys.stdout.write(completion(sys.argv[2]) if sys.argv[1:2] == ["--completion"] else page())
