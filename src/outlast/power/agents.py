"""One call of a fence agent: a program `fence_*` of the package fence-agents.

Rules:
1. Options and secrets go to its standard input, one `name=value` a line, as all of them read it.
   Nothing is in its arguments, nor in those of programs that it calls (hiding.py); what it says is
   masked before it is shown.
2. It has a time limit, after which it is killed with all that it started.
3. Its name and options are checked: no path, no line break, no option that changes what is asked
   (`action`), that logs secrets (`verbose`, `debug_file`) or runs programs (`*_script`).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import InvalidInput
from outlast.power.hiding import KG_KEY, hide, kg_key

ON, OFF = 0, 2  # exit codes of the action `status`
SAID_MAX = 300
FORBIDDEN = frozenset(
    {"action", "option", "verbose", "verbose_level", "debug", "debug_file", "quiet", "help"}
    | {"version", "delay", "disable_timeout"}
)
SECRET_WORDS = ("passw", "secret", "token", "private", "community", "hexadecimal_kg")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"}
_AGENT = re.compile(r"fence_[a-z0-9_]{1,40}\Z")
_OPTION = re.compile(r"[a-z][a-z0-9_-]{0,40}\Z")


@dataclass(frozen=True, slots=True)
class Answer:
    """code: its exit status, None when it was killed for taking too long or could not be run."""

    code: int | None
    said: str
    took_ms: int


def folder_of_agents() -> Path:
    """Where the distribution puts them; OUTLAST_FENCE_AGENTS is for agents of one's own."""
    return Path(os.environ.get("OUTLAST_FENCE_AGENTS") or "/usr/sbin")


def check_agent(name: str, folder: Path | None = None) -> Path:
    """The program. Raises InvalidInput when it is none, or is not installed here."""
    if not _AGENT.match(name):
        raise InvalidInput(f"{name[:60]!r} is no fence agent", hint="like fence_ipmilan")
    folder = folder or folder_of_agents()
    path = folder / name
    if not path.is_file():
        known = sorted(p.name for p in folder.glob("fence_*"))
        raise InvalidInput(
            f"there is no fence agent {name} on this machine",
            hint=f"ls {folder}/fence_*" if known else "apt-get install fence-agents",
        )
    return path


def check_option(name: str, value: str, *, secret: bool) -> None:
    """Raises InvalidInput for what must not be given to a fence agent, or not in this way."""
    if not _OPTION.match(name):
        raise InvalidInput(f"{name[:60]!r} is no name of an option", hint="like ip or username")
    if name in FORBIDDEN or name.endswith(("_script", "_path")):
        raise InvalidInput(f"the option '{name}' is not for people to set")
    if not secret and any(word in name for word in SECRET_WORDS):
        raise InvalidInput(f"'{name}' is a secret", hint=f"--secret {name}: you are asked for it")
    if not value or len(value) > 1000 or not value.isprintable():
        raise InvalidInput(f"the value of '{name}' must be one line of printable characters")
    if name == KG_KEY:
        kg_key(value)


def call(
    program: Path, action: str, options: Mapping[str, str], secrets: Mapping[str, str],
    limit_s: float,
) -> Answer:  # fmt: skip
    """Have a fence agent do one thing. action: status or off. Never raises."""
    began = time.monotonic()
    try:
        with contextlib.ExitStack() as until_it_ended:
            told, env = hide(program, secrets, until_it_ended)
            lines = {**options, **told, "action": action}
            code, said = _run(program, lines, {**ENVIRONMENT, **env}, limit_s)
    except OSError as error:
        code, said = None, f"{program.name} cannot be run: {error.strerror}"
    except InvalidInput as error:
        code, said = None, error.sentence
    took_ms = round(1000 * (time.monotonic() - began))
    return Answer(code, masked(said, secrets), took_ms)


def _run(
    program: Path, lines: Mapping[str, str], env: Mapping[str, str], limit_s: float
) -> tuple[int | None, str]:
    """Its exit status, as in Answer, and all that it said. Raises OSError."""
    text = "".join(f"{name}={value}\n" for name, value in lines.items())
    process = subprocess.Popen(
        [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", cwd="/", start_new_session=True, env=env,
    )  # fmt: skip
    try:
        said, _ = process.communicate(text, timeout=max(0.1, limit_s))
        return process.returncode, said
    except subprocess.TimeoutExpired:
        _end(process)
        return None, f"no answer within {limit_s:g} s"


def _end(process: subprocess.Popen[str]) -> None:
    """Kill it and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=5)


def masked(said: str, secrets: Mapping[str, str]) -> str:
    """The last line of what it said that tells something, without secrets."""
    for value in sorted(secrets.values(), key=len, reverse=True):
        said = said.replace(value, "***")
    stamp = re.compile(r"^[0-9-]+ [0-9:,]+ (ERROR|WARNING|INFO): ")
    lines = [stamp.sub("", line.strip()) for line in said.splitlines()]
    telling = [line for line in lines if line and not line.startswith("Please use '-h'")]
    return telling[-1][:SAID_MAX] if telling else ""
