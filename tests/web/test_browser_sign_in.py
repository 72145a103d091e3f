"""Signing in, in Debian's Chromium: from a provider that is another site, and with a second factor.

A manager process and a provider process. Any error in the browser's console fails a test: what the
content security policy forbids is one.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from outside import Outside
from playwright.sync_api import Page, expect, sync_playwright
from process import Process, free_port

import conftest  # noqa: F401 - puts the manager's tests on the path
from outlast.manager import totp
from outlast.manager.ports import Grant

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="apt-get install chromium")
WORD = "a long password of anna"  # as the tests' users have them


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    made = Outside(tmp_path_factory.mktemp("provider"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory, outside: Outside) -> Iterator[Process]:
    port = free_port()
    settings = outside.settings(address=f"https://127.0.0.1:{port}")
    made = Process(
        tmp_path_factory.mktemp("manager"), port=port, oidc=settings, second_factor="admins"
    )
    made.user("anna", Grant("admin"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def page() -> Iterator[Page]:
    wrong: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        made = browser.new_context(ignore_https_errors=True).new_page()
        made.set_default_timeout(20_000)
        made.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        made.on("pageerror", lambda e: wrong.append(str(e)))
        yield made
        browser.close()
    # the provider of the tests has no picture for the tab
    assert [text for text in wrong if "404" not in text] == []


def test_somebody_comes_back_from_another_site_and_is_signed_in(
    manager: Process, outside: Outside, page: Page
) -> None:
    """localhost and 127.0.0.1 are two sites: a cookie that is strict does not come along."""
    outside.lie(page=True)
    at = f"https://127.0.0.1:{manager.port}"
    page.goto(f"{at}/vms")
    page.click("text=Sign in at <work>")
    page.wait_for_url(re.compile("^https://localhost:"))
    page.click("text=Yes, I am Olga")
    page.wait_for_url(f"{at}/vms")
    page.goto(f"{at}/me")
    expect(page.locator("h1")).to_have_text("olga")


def test_an_administrator_gets_a_second_factor_and_needs_it(manager: Process, page: Page) -> None:
    at = f"https://127.0.0.1:{manager.port}"
    sign_in(page, at)
    page.click("text=Show the picture")
    picture = page.locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("img => img.complete && img.naturalWidth > 100")
    uri = page.locator(".o-command span").inner_text()
    secret = parse_qs(urlsplit(uri).query)["secret"][0]
    page.fill("[name=code]", totp.code_of(secret, int(time.time() // 30)))
    page.click("text=Confirm")
    codes = page.locator("main li").all_inner_texts()
    assert len(codes) == 10
    page.click("text=I have them")
    page.wait_for_url(f"{at}/")
    page.goto("about:blank")  # or its stream would notice
    page.context.clear_cookies()
    sign_in(page, at)
    page.fill("[name=code]", f" {codes[0].upper()} ")
    page.click("button")
    page.wait_for_url(f"{at}/me")
    expect(page.locator("main")).to_contain_text("9 recovery codes are left")


def sign_in(page: Page, at: str) -> None:
    page.goto(f"{at}/sign-in?next=/me")
    page.fill("[name=name]", "anna")
    page.fill("[name=password]", WORD)
    page.click("button")
