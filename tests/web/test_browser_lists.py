"""The list of VMs in Chromium: many at once, rows that would lie elsewhere, views with names."""

from __future__ import annotations

from browsing import AXE, NEEDED, PASSWORD, POOL, SCREENS, Opener, Stage, findings, live, row
from playwright.sync_api import expect

pytestmark = NEEDED


def test_many_vms_are_shut_down_at_once(opened: Opener, stage: Stage) -> None:
    page = opened("/vms?search=erp", "otto")
    live(page)
    for name in ("erp-stage-0019", "erp-dev-0011"):
        page.check(f"{row(name)} input")
    stage.do("vm erp-stage-0019 paused")
    expect(page.locator(row("erp-stage-0019"))).to_contain_text("Paused")
    expect(page.locator(f"{row('erp-stage-0019')} input")).to_be_checked()  # as it was
    stage.do("vm erp-stage-0019 running")
    expect(page.locator(row("erp-stage-0019"))).to_contain_text("Running")
    page.click("#bulk >> text=Shut down")
    dialog = page.locator("dialog[open]")
    expect(dialog.locator("h2")).to_have_text("Shut down: 2 VMs")
    expect(dialog.locator("code")).to_contain_text("outlast vm stop")
    page.screenshot(path=SCREENS / "bulk.png")
    dialog.locator("button.is-main").click()
    page.wait_for_url("**/vms/bulk/*")
    expect(page.locator("#run")).to_contain_text("2 under way")
    stage.do("step")
    expect(page.locator("#run")).to_contain_text("2 done")
    page.screenshot(path=SCREENS / "run.png")
    page.evaluate(AXE)
    assert findings(page) == []


def test_all_that_match_are_started(opened: Opener, stage: Stage) -> None:
    page = opened("/vms?search=state%3Astopped", "otto")
    live(page)
    page.check("#bulk [name=all]")
    page.click("#bulk >> text=Start")
    expect(page.locator("dialog[open] h2")).to_contain_text("Start: ")
    page.locator("dialog[open] button.is-main").click()
    run = page.locator("#run")
    expect(run).to_contain_text("under way")
    for _ in range(50):  # some at a time
        stage.do("step")
        if "under way" not in str(run.text_content()):
            break
        page.wait_for_timeout(200)
    expect(run).not_to_contain_text("under way")


def test_a_bar_says_when_the_order_is_an_old_one(opened: Opener, stage: Stage) -> None:
    page = opened("/vms?sort=state&limit=25")
    live(page)
    name = str(page.locator("tbody th a").nth(4).text_content())
    stage.do(f"vm {name} waiting")
    expect(page.locator(row(name))).to_contain_text("Waiting")
    bar = page.locator("#moved")
    expect(bar).to_contain_text("Rows have changed place")
    bar.locator("a").click()
    expect(page.locator(row(name))).to_have_count(0)
    expect(bar).to_have_text("")
    live(page)
    stage.do(f"vm {name} running")


def test_a_view_gets_a_name(opened: Opener) -> None:
    page = opened("/vms?search=mail&sort=memory", "otto")
    page.fill(".o-keep input[name=name]", "Mail by memory")
    page.click(".o-keep button")
    view = page.locator(".o-view a")
    expect(view).to_have_text("Mail by memory")
    page.goto(page.url.partition("?")[0])
    view.click()
    page.wait_for_url("**/vms?search=mail&sort=memory")
    page.evaluate(AXE)
    assert findings(page) == []
    page.click("[aria-label='Forget the view Mail by memory']")
    expect(view).to_have_count(0)


def test_what_is_typed_stays_when_the_session_ends(opened: Opener, stage: Stage) -> None:
    """Somebody signs in in another tab and goes on where they were."""
    page = opened(f"/pools/{POOL}/vms/db-prod-0018", "otto", fine="status of 401")
    live(page)
    page.click("text=Edit >> visible=true")
    dialog = page.locator("#dialog[open]")
    dialog.locator("[name=start_order]").fill("7")
    page.context.clear_cookies()
    dialog.locator("button.is-main").click()
    over = page.locator("#ended[open]")
    expect(over).to_contain_text("What you typed is still here")
    page.evaluate(AXE)
    assert findings(page, no_colours=True) == []
    over.locator("text=Go on here").click()  # nobody has signed in yet
    with page.context.expect_page() as opening:
        over.locator("text=another tab").click()
    other = opening.value
    other.fill("[name=name]", "otto")
    other.fill("[name=password]", PASSWORD)
    other.click("button")
    other.wait_for_url(stage.url + "/me")
    page.bring_to_front()
    expect(over).to_be_visible()
    over.locator("text=Go on here").click()
    expect(over).to_have_count(0)
    expect(dialog.locator("[name=start_order]")).to_have_value("7")
    dialog.locator("button.is-main").click()
    expect(page.locator("dialog[open]")).to_have_count(0)
    live(page)


def test_nothing_is_wished_of_an_old_picture(opened: Opener) -> None:
    """It asks first; and what was asked for is not sent."""
    page, asked, sent = opened(f"/pools/{POOL}/vms/db-prod-0018", "otto"), [], []
    live(page)
    page.on("request", lambda r: sent.append(r.url) if r.method == "POST" else None)
    page.on("dialog", lambda d: (asked.append(d.message), d.dismiss()))
    page.click("text=Shut down >> visible=true")
    button = page.locator("#dialog[open] button.is-main")
    expect(button).to_be_visible()
    page.evaluate("document.documentElement.classList.add('o-stale')")
    button.click()
    assert asked == ["What you see is old. Load the page anew?"] and sent == []
    expect(button).to_be_visible()
