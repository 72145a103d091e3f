"""The console's journeys in Debian's Chromium, against a manager process with a pretend fleet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import (
    AXE,
    NEEDED,
    PASSWORD,
    POOL,
    SCREENS,
    Opener,
    Stage,
    findings,
    live,
    row,
)
from playwright.sync_api import Browser, Page, expect

pytestmark = NEEDED
VM, HOST = f"/pools/{POOL}/vms/db-prod-0018", f"/pools/{POOL}/hosts/fra-kvm-04"
PAGES = {
    "pools": "/", "pool": f"/pools/{POOL}", "host": f"/pools/{POOL}/hosts/fra-kvm-02",
    "what-if": f"/pools/{POOL}/what-if?fail=fra-kvm-01", "vms": "/vms?limit=25", "vm": VM,
    "failovers": f"/failovers?pool={POOL}", "moment": f"/pools/{POOL}/moments/1",
    "incident": f"/pools/{POOL}/incidents/1", "hosts": "/hosts",
    "tasks": "/tasks", "users": "/users", "audit": "/audit", "me": "/me",
    "settings-own": "/settings", "rolling": f"/pools/{POOL}/rolling",
    "maintain": f"{HOST}/maintain", "drill": f"{HOST}/drill",
    "new-vm": f"/pools/{POOL}/new-vm", "edit": f"{VM}/set", "settings": f"/pools/{POOL}/settings",
    "networks": f"/pools/{POOL}/networks", "storage": f"/pools/{POOL}/storage",
    "images": f"/pools/{POOL}/images", "upload": f"/pools/{POOL}/images/upload",
    "new-network": f"/pools/{POOL}/networks/create",
    "add-storage": f"/pools/{POOL}/storage/add", "deploy": f"/pools/{POOL}/templates/small/deploy",
}  # fmt: skip


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


def test_a_vm_is_edited_with_its_command(opened: Opener, stage: Stage) -> None:
    page = opened(VM, "otto")
    live(page)
    page.click("text=Edit >> visible=true")
    dialog = page.locator("dialog[open]")
    dialog.locator("[name=priority]").select_option("low")
    dialog.locator("[name=likes][value=fra-kvm-02]").check()
    command = "outlast vm set db-prod-0018 --priority low --like fra-kvm-02"
    expect(dialog.locator("#cli code")).to_contain_text(command)
    page.screenshot(path=SCREENS / "editing.png")
    dialog.locator("button.is-main").click()
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator("#vm-head .o-facts")).to_contain_text("Low")


def test_hosts_are_maintained_one_after_the_other(opened: Opener, stage: Stage) -> None:
    pool = POOL[:-1] + "2"
    page = opened(f"/pools/{pool}", "otto")
    live(page)
    page.click("text=Rolling maintenance")
    page.wait_for_url("**/rolling")
    page.screenshot(path=SCREENS / "rolling-plan.png", full_page=True)
    page.locator("[name=host][value=lab-kvm-03]").uncheck()
    page.fill("[name=why]", "new kernel")
    command = "outlast pool maintain-all lab-kvm-01 lab-kvm-02 --why 'new kernel'"
    expect(page.locator("#cli code")).to_contain_text(command)
    page.click("button:has-text('Begin')")
    for host in ("lab-kvm-01", "lab-kvm-02"):
        expect(page.locator("#rolling")).to_contain_text(f"still on {host}")
        stage.do("step")
        done = page.locator("button:has-text('The work on')")
        expect(done).to_have_text(f"The work on {host} is done")
        page.screenshot(path=SCREENS / f"rolling-{host}.png", full_page=True)
        done.click()
        expect(page.locator("#rolling")).to_contain_text(f"still to come back to {host}")
        stage.do("step")
    expect(page.locator("#rolling")).to_contain_text("All 2 hosts are done")
    expect(page.locator("button:has-text('Begin')")).to_have_count(0)  # it is the fragment alone
    page.reload()
    expect(page.locator("button:has-text('Begin')")).to_have_count(1)


def test_a_vm_is_made_of_a_template(opened: Opener, stage: Stage) -> None:
    page = opened(f"/pools/{POOL}", "otto")
    live(page)
    page.click("text=New VM >> visible=true")
    dialog = page.locator("dialog[open]")
    dialog.locator("[name=template]").select_option("small")
    dialog.locator("[name=name]").fill("fresh-1")
    command = "outlast template deploy small fresh-1 --memory 2GiB --vcpus 1 --start"
    expect(dialog.locator("#cli code")).to_contain_text(command)
    page.screenshot(path=SCREENS / "template.png")
    dialog.locator("button.is-main").click()
    page.wait_for_url("**/vms?search=fresh-1")
    for _ in range(50):
        stage.do("step")
        if "Running" in str(page.locator(row("fresh-1")).text_content()):
            break
        page.wait_for_timeout(200)
    expect(page.locator(row("fresh-1"))).to_contain_text("Running")


def test_maintenance_shows_its_plan_first(opened: Opener, stage: Stage) -> None:
    page = opened(HOST)
    live(page)
    page.click("text=Maintenance")
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("away while they run")
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
