"""A browser and a manager process to look at: what the tests of the console in Chromium share.

Any error in the browser's console fails a test, and so does a request to any other host. Screens of
every page lie in build/screens afterwards, for people to look at.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
NEEDED = pytest.mark.skipif(CHROMIUM is None, reason="apt-get install chromium")
ROOT = Path(__file__).parent.parent.parent
SCREENS = ROOT / "build/screens"  # playwright makes the folder
PASSWORD = "correct horse battery"
PATIENCE_MS = 20_000  # for machines that do much else
expect.set_options(timeout=PATIENCE_MS)
POOL = "00000000-0000-4000-8000-000000000001"


class Stage:
    """The manager process; `do` has the fleet do something."""

    def __init__(self, root: Path, kind: str = "small") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.root = root / "m"
        self.log = (root / "log").open("wb")
        script = [sys.executable, str(Path(__file__).parent / "stage.py"), str(self.root)]
        self.process = subprocess.Popen([*script, str(self.port), kind], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log)  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (root / "log").read_text()
        self.code = json.loads(line)["code"]
        self.url = f"https://127.0.0.1:{self.port}"

    def do(self, words: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.log.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("stage"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


Opener = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, stage: Stage) -> Iterator[Opener]:
    """Opens a page as somebody; what goes wrong in any of them fails the test."""
    wrong: list[str] = []
    contexts = []

    def open_(
        path: str = "/", who: str = "anna", *, at: Stage = stage,
        fine: str = r"^$", **more: Any,
    ) -> Page:  # fmt: skip
        """fine: which errors are expected."""
        context = browser.new_context(
            viewport={"width": 1440, "height": 900}, ignore_https_errors=True, **more
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()

        def note(text: str) -> None:
            if not re.search(fine, text):
                wrong.append(text)

        page.on("console", lambda m: note(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: note(str(e)))
        page.on("request", lambda r: None if r.url.startswith((at.url, "data:"))
                else note(f"asks {r.url}"))  # fmt: skip
        if who:
            page.goto(f"{at.url}/sign-in?next={quote(path, safe='')}")
            page.fill("[name=name]", who)
            page.fill("[name=password]", PASSWORD)
            page.click("button")
            page.wait_for_url(lambda url: "/sign-in" not in url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not wrong, wrong


def live(page: Page) -> None:
    expect(page.locator("#badge")).to_have_text("Live")


def seen(page: Page, script: str) -> None:
    """Wait for what a script says; playwright's own way would need `eval`, which pages forbid."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(script):
        assert time.monotonic() < end, script
        page.wait_for_timeout(50)


def row(name: str) -> str:
    return f'[id="vm-{POOL}-{name}"]'


AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()


COLOURS = ["color-contrast", "link-in-text-block"]  # the slowest rules by far


def findings(page: Page, *, only_colours: bool = False, no_colours: bool = False) -> list[str]:
    """What axe finds on the page, and how much of it is wider than the window."""
    only: dict[str, Any] = {}
    if only_colours:
        only = {"runOnly": {"type": "rule", "values": COLOURS}}
    elif no_colours:
        only = {"rules": {name: {"enabled": False} for name in COLOURS}}
    result = page.evaluate("(o) => axe.run(document, {resultTypes: ['violations'], ...o})", only)
    said = [f"{v['id']}: {n['html'][:160]}" for v in result["violations"] for n in v["nodes"]]
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return [*said[:6], *([f"{wide} px too wide"] if wide > 0 else [])]
