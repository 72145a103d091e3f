"""Answers for programs in every form, --watch, what the shell completes, bars for long work."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from command_line import Outlast
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_service import MemoryService
from rich.console import Console

from outlast.cli import waiting, watching
from outlast.cli.form import FORM, Form, one_of_many, whole

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), inner,
                      max_size=4),
)  # fmt: skip


@settings(deadline=None)
@given(PLAIN)
def test_yaml_says_what_json_says(value: object) -> None:
    token = FORM.set(Form.YAML)
    try:
        assert yaml.safe_load(whole(value)) == value
        assert list(yaml.safe_load_all(one_of_many(value) + "\n" + one_of_many(1))) == [value, 1]
    finally:
        FORM.reset(token)


def test_every_form_has_the_same_answer(outlast: Outlast, agent: MemoryService) -> None:
    assert outlast("vm", "create", "web", "--memory", "64MiB", "--disk", "1M").code == 0
    for command in (("vm", "show", "web"), ("vm", "list"), ("host", "list")):
        as_json = outlast(*command, "--json")
        assert json.loads(as_json.out) == outlast("--output", "json", *command).json
        as_yaml = outlast(*command, "-o", "yaml")
        assert as_yaml.out != as_json.out
        answers = json.loads(as_json.out), yaml.safe_load(as_yaml.out)
        for answer in answers if command[0] == "host" else ():
            for one in answer:  # what a clock says
                one["beat_age_ms"] = one["deadline_ms"] = 0
        assert answers[0] == answers[1]
        assert outlast(*command, "--output=table").out == outlast(*command).out
    refused = outlast("vm", "show", "none", "--output", "yaml")
    assert (refused.code, refused.error["code"]) == (3, "not-found")
    assert outlast("vm", "list", "--json", "--output", "yaml").code == 2
    assert outlast("vm", "list", "--output", "xml").code == 2


@pytest.mark.parametrize("command", [("status",), ("vm", "list"), ("vm", "show", "web"),
                                     ("host", "list")])  # fmt: skip
def test_watching_goes_on_until_somebody_ends_it(
    outlast: Outlast, agent: MemoryService, monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:  # fmt: skip
    assert outlast("vm", "create", "web", "--memory", "64MiB", "--disk", "1M").code == 0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep))
    seen = outlast(*command, "--watch", "--output", "yaml")
    assert (seen.code, len(list(yaml.safe_load_all(seen.out)))) == (130, 3)
    lines = outlast(*command, "--watch", "--json")
    assert len([json.loads(line) for line in lines.out.splitlines()]) == 3
    shown = outlast(*command, "-w")
    assert (shown.code, ("web" if "vm" in command else "a") in shown.out) == (130, True)


@pytest.mark.parametrize(
    ("words", "found"),
    [("vm start ", {"db", "web"}), ("host maintain ", {"a", "b", "c"}), ("vm show x", set())],
)  # fmt: skip
def test_the_shell_completes_names(
    outlast: Outlast, agent: MemoryService, tmp_path: Path, words: str, found: set[str]
) -> None:
    for name in ("web", "db"):
        assert outlast("vm", "create", name, "--memory", "64MiB", "--disk", "1M").code == 0
    known = {"_OUTLAST_COMPLETE": "complete_bash", "COMP_WORDS": f"outlast {words}",
             "COMP_CWORD": str(len(f"outlast {words}".split(" ")) - 1),
             "OUTLAST_AGENT": f"unix:{tmp_path}/run/agent.sock"}  # fmt: skip
    program = "from outlast.cli.main import app; app(prog_name='outlast')"
    said = subprocess.run([sys.executable, "-c", program], env=os.environ | known, timeout=60,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert set(said.stdout.split()) == found, said.stderr


def test_without_an_agent_nothing_is_completed(outlast: Outlast) -> None:
    from outlast.cli import completing

    assert completing.vms("") == completing.hosts("") == []


def test_long_work_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(waiting, "stderr", lambda: console)
    monkeypatch.setattr(waiting.sys.stderr, "isatty", lambda: True, raising=False)
    with waiting.telling(quiet=False) as tell:
        tell("copying [it]")
        tell("copying [it] 50 %")
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "━" * 12 in said
    assert "copying [it] 50 %" in said
