"""What pages say does the same: every command and every call of the API that they name is one."""

from __future__ import annotations

import html
import re
import shlex
from typing import Any
from urllib.parse import urlsplit

import pytest
from routes import flat
from typer.main import get_command

from conftest import Site
from outlast.cli.main import app

LAB = "00000000-0000-4000-8000-000000000002"
PAGES = ("/audit?who=anna", "/settings", "/me", "/users", "/vms", f"/pools/{LAB}/rolling")
SAID = re.compile(r'title="((?:curl|outlast) [^"]+)"|data-copy="((?:curl|outlast) [^"]+)"')


def commands(site: Site, path: str) -> list[list[str]]:
    page = site.get(path).body.decode()
    found = [html.unescape(one or other) for one, other in SAID.findall(page)]
    return [shlex.split(one) for one in found]


def check_curl(site: Site, words: list[str]) -> None:
    assert words[:3] == ["curl", "-H", "@token"]
    method = words[words.index("-X") + 1] if "-X" in words else "POST"
    method = method if "-X" in words or "--json" in words else "GET"
    path = urlsplit(words[-1]).path
    fits = [route for route in flat(site.app.routes)
            if method in (route.methods or ()) and route.path_regex.match(path)]  # fmt: skip
    assert fits, words


def check_outlast(words: list[str]) -> None:
    command: Any = get_command(app)
    rest = words[1:]
    while rest and hasattr(command, "commands"):
        assert rest[0] in command.commands, words
        command, rest = command.commands[rest[0]], rest[1:]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    assert {word for word in rest if word.startswith("--")} <= known, words


@pytest.mark.parametrize("path", PAGES)
def test_what_a_page_says_does_the_same_is_there(own_site: Site, path: str) -> None:
    own_site.post("/settings/webhooks", {"url": "https://x.example/hook"})
    own_site.post(f"/pools/{LAB}/rolling", {"host": "lab-kvm-01"})
    found = commands(own_site, path)
    assert found
    for words in found:
        if words[0] == "curl":
            check_curl(own_site, words)
        else:
            check_outlast(words)


def test_the_audit_comes_with_a_token(own_site: Site) -> None:
    """As the line beside the button says: without a browser."""
    anna = own_site.run(own_site.manager.people.session(own_site.person("anna")[0]))
    token, _ = own_site.run(own_site.manager.people.add_token(  # type: ignore[misc]
        anna, "anna", "ci", anna.roles, 1,  # type: ignore[attr-defined]
    ))  # fmt: skip
    said = own_site.desk.call("GET", "/audit/export?who=anna", raw=b"", token=token)
    assert said.status == 200 and said.body.decode().startswith("at,")
