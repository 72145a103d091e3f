"""The console in Debian's Chromium, against a manager process with a pretend fleet.

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
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="apt-get install chromium")
ROOT = Path(__file__).parent.parent.parent
SCREENS = ROOT / "build/screens"  # playwright makes the folder
PASSWORD = "correct horse battery"
PATIENCE_MS = 20_000  # for machines that do much else
expect.set_options(timeout=PATIENCE_MS)
POOL = "00000000-0000-4000-8000-000000000001"
VM, HOST = f"/pools/{POOL}/vms/db-prod-0018", f"/pools/{POOL}/hosts/fra-kvm-04"
PAGES = {
    "pools": "/", "pool": f"/pools/{POOL}", "host": f"/pools/{POOL}/hosts/fra-kvm-02",
    "what-if": f"/pools/{POOL}/what-if?fail=fra-kvm-01", "vms": "/vms?limit=25", "vm": VM,
    "failovers": f"/failovers?pool={POOL}", "tasks": "/tasks", "users": "/users",
    "audit": "/audit", "me": "/me", "maintain": f"{HOST}/maintain",
    "new-vm": f"/pools/{POOL}/new-vm",
}  # fmt: skip


class Stage:
    """The manager process; `do` has the fleet do something."""

    def __init__(self, root: Path, kind: str = "small") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = (root / "log").open("wb")
        script = [sys.executable, str(Path(__file__).parent / "stage.py"), str(root / "m")]
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
            page.goto(f"{at.url}/sign-in?next={path}")
            page.fill("[name=name]", who)
            page.fill("[name=password]", PASSWORD)
            page.click("button")
            page.wait_for_url(f"{at.url}{path}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def everywhere(browser: Browser, stage: Stage) -> Iterator[Page]:
    """One page that goes from address to address; errors anywhere fail at the end."""
    wrong: list[str] = []
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.goto(f"{stage.url}/sign-in")
    page.fill("[name=name]", "anna")
    page.fill("[name=password]", PASSWORD)
    page.click("button")
    page.wait_for_url(f"{stage.url}/")
    yield page
    context.close()
    assert wrong == []


def live(page: Page) -> None:
    expect(page.locator("#badge")).to_have_text("Live")


def row(name: str) -> str:
    return f'[id="vm-{POOL}-{name}"]'


def test_the_first_start(browser: Browser, opened: Opener, tmp_path: Path) -> None:
    fresh = Stage(tmp_path, "fresh")
    try:
        page = opened(who="", at=fresh, fine="status of 403")
        page.goto(fresh.url)
        page.fill("[name=code]", "wrong")
        for name in ("password", "again"):
            page.fill(f"[name={name}]", PASSWORD)
        page.fill("[name=name]", "anna")
        page.click("button")
        expect(page.get_by_role("alert")).to_contain_text("The code is wrong")
        expect(page.locator("[name=name]")).to_have_value("anna")
        page.fill("[name=code]", fresh.code)
        for name in ("password", "again"):
            page.fill(f"[name={name}]", PASSWORD)
        page.click("button")
        expect(page.locator(".o-empty h2")).to_have_text("No pool yet")
        live(page)
        page.screenshot(path=SCREENS / "empty.png")
        page.close()
    finally:
        fresh.close()


def test_a_row_changes_in_place_while_somebody_types(opened: Opener, stage: Stage) -> None:
    page = opened("/vms")
    live(page)
    page.fill("#vm-search", "db prod")
    page.wait_for_url("**/vms?search=db%20prod")
    expect(page.locator(row("api-prod-0000"))).to_have_count(0)
    live(page)
    page.evaluate("name => { document.querySelector(name).mine = 'same' }", row("db-prod-0018"))
    page.locator("#vm-search").focus()
    stage.do("vm db-prod-0018 paused")
    expect(page.locator(row("db-prod-0018"))).to_contain_text("Paused")
    kept = page.evaluate("name => document.querySelector(name).mine", row("db-prod-0018"))
    assert kept == "same"
    assert page.evaluate("document.activeElement.id") == "vm-search"
    expect(page.locator("#vm-search")).to_have_value("db prod")
    stage.do("vm db-prod-0018 running")
    page.click("thead >> text=Memory")
    page.wait_for_url("**sort=memory*")
    expect(page.locator("#vm-search")).to_have_value("db prod")
    page.go_back()
    page.wait_for_url("**/vms?search=db%20prod")


def test_a_migration_is_followed_to_its_end(opened: Opener, stage: Stage) -> None:
    page = opened(VM, "otto")
    live(page)
    page.click("text=Migrate")
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("The pool chooses")
    expect(dialog.locator("code").first).to_contain_text("outlast vm migrate db-prod-0018")
    choice = dialog.locator("input[name=to]:not([value='']):not([disabled])").first
    to = choice.get_attribute("value")
    page.screenshot(path=SCREENS / "migrate.png")
    choice.check()
    dialog.locator("button.is-main").click()
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator(".o-toast")).to_contain_text("Migrating db-prod-0018")
    expect(page.locator("#vm-head .o-task")).to_contain_text("Migrating db-prod-0018")
    expect(page.locator("#task-count")).to_have_attribute("aria-label", "Tasks: 1 running")
    stage.do("step 0.5")
    expect(page.locator("#vm-head .o-task progress")).to_have_attribute("value", "50")
    page.screenshot(path=SCREENS / "moving.png")
    stage.do("step 1")
    expect(page.locator("#vm-head .o-task")).to_have_count(0)
    expect(page.locator("#vm-head .o-facts")).to_contain_text(str(to))


def test_maintenance_shows_its_plan_first(opened: Opener, stage: Stage) -> None:
    page = opened(HOST)
    live(page)
    page.click("text=Maintenance")
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("VMs move away while they run")
    assert dialog.locator("tbody tr").count() > 10
    dialog.locator("[name=why]").fill("more memory")
    command = "outlast host maintain fra-kvm-04 --why 'more memory'"
    expect(dialog.locator("#cli code")).to_contain_text(command)
    page.screenshot(path=SCREENS / "plan.png")
    dialog.locator("button.is-main").click()
    expect(page.locator("#host-head")).to_contain_text("In maintenance.")
    expect(page.locator("#host-head .o-task")).to_contain_text("Emptying fra-kvm-04")
    stage.do("step 1")
    expect(page.locator("#host-head")).to_contain_text("it runs no VMs and gets none")
    page.click("text=Back into service")
    page.locator("dialog[open] button.is-main").click()
    expect(page.locator("#host-head .o-pill").first).to_have_text("Member")


def test_the_serial_console(opened: Opener) -> None:
    page = opened(f"/pools/{POOL}/vms/web-prod-0015")
    page.click("text=Console >> visible=true")
    expect(page.locator("#line")).to_have_text("Connected")
    rows = page.locator("#terminal .xterm-rows")
    expect(rows).to_contain_text("web-prod-0015 login:")
    page.keyboard.type("hello")
    expect(rows).to_contain_text("HELLO")
    page.screenshot(path=SCREENS / "console.png")
    page.evaluate(AXE)
    assert findings(page) == []


def test_what_fails_is_told_where_it_was_wished(opened: Opener, stage: Stage) -> None:
    page = opened(VM, fine="status of 4|status of 502|5xx|error")
    live(page)
    page.click("text=Shut down")
    stage.do("silent frankfurt-a")
    page.locator("dialog[open] button.is-main").click()
    expect(page.locator(".o-toast.is-bad")).to_contain_text("No agent of frankfurt-a answers")
    page.keyboard.press("Escape")
    stage.do("back frankfurt-a")


def test_a_viewer_only_looks(opened: Opener) -> None:
    page = opened(VM, "vera")
    live(page)
    expect(page.locator("h1")).to_have_text("db-prod-0018")
    assert page.locator("#vm-head .o-button").count() == 0
    assert page.locator("nav >> text=Audit log").count() == 0


def test_a_lost_line_is_shown_and_comes_back(opened: Opener) -> None:
    page = opened(f"/pools/{POOL}", fine="ERR_|Failed to fetch|network")
    live(page)
    page.context.set_offline(True)
    page.evaluate("htmx.find('.o-stream')._htmx?.sse?.reader?.cancel()")
    expect(page.locator("#badge")).to_have_text("Reconnecting")
    page.context.set_offline(False)
    live(page)


def test_without_scripts(opened: Opener, stage: Stage) -> None:
    page = opened("/vms", java_script_enabled=False)
    page.fill("#vm-search", "state:stopped")
    page.click("noscript button, form.o-filters button")
    expect(page.locator("tbody tr").first).to_contain_text("Stopped")
    page.locator("tbody tr a").first.click()
    name = page.locator("h1").text_content()
    page.click("text=Start")
    expect(page.locator("h1")).to_have_text(str(name))
    expect(page.locator("#vm-head .o-pill").first).to_have_text("Starting")
    stage.do("step")
    for _ in range(40):  # a page without scripts is loaded again to see more
        page.reload()
        if page.locator("a >> text=Migrate").count():
            break
    page.click("a >> text=Migrate")
    expect(page.locator("form.o-confirm")).to_contain_text("The pool chooses")
    page.locator("form.o-confirm button.is-main").click()
    expect(page.locator("h1")).to_have_text(str(name))
    stage.do("step")


def test_the_keyboard_and_the_theme(opened: Opener) -> None:
    page = opened("/")
    live(page)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "global-search"
    page.keyboard.type("mail")
    page.keyboard.press("Enter")
    page.wait_for_url("**/vms?search=mail")
    page.locator("h1").click()
    page.keyboard.press("g")
    page.keyboard.press("f")
    page.wait_for_url("**/failovers")
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


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


@pytest.mark.parametrize("name", PAGES)
def test_everybody_can_use_it(everywhere: Page, stage: Stage, name: str) -> None:
    """No finding in light, in dark (colours only differ) and on a phone; screens to look at."""
    page = everywhere
    page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(color_scheme="light")
    page.goto(stage.url + PAGES[name])
    live(page)
    expect(page.locator(".htmx-request")).to_have_count(0)
    page.evaluate(AXE)
    found = {"light": findings(page)}
    page.screenshot(path=SCREENS / f"{name}-light.png")
    page.emulate_media(color_scheme="dark")
    found["dark"] = findings(page, only_colours=True)
    page.screenshot(path=SCREENS / f"{name}-dark.png")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    found["phone"] = findings(page, no_colours=True)  # they are those of light
    page.screenshot(path=SCREENS / f"{name}-phone.png")
    assert not any(found.values()), found
