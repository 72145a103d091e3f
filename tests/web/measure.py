"""What the console costs with 10,000 VMs: `python tests/web/measure.py`; figures, no verdict.

A page is loaded RUNS times in a fresh browser context (nothing cached); a change of a VM that is on
the screen is told to the manager's process, and the time counts from there until the browser's page
shows it. Bytes are those on the wire of one cold load.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from browsing import CHROMIUM, PASSWORD, POOL, Stage
from playwright.sync_api import Browser, sync_playwright

RUNS = 7
PAGES = {"VM list, 50 of 10,000": "/vms", "pool page, 5,000 VMs": f"/pools/{POOL}", "overview": "/"}
PAINT = """() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"""
ANSWER = "() => performance.getEntriesByType('navigation')[0].responseEnd"
WATCH = """() => { window.seen = 0; new MutationObserver(() => {
  if (document.querySelector('tbody').textContent.includes('Paused')) window.seen ||= Date.now();
}).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""


def cold(
    browser: Browser, stage: Stage, state: object, path: str
) -> tuple[float, float, int, int, float]:
    """(first paint, first VM or host there, bytes, requests, answer whole)."""
    context = browser.new_context(ignore_https_errors=True, storage_state=state)  # type: ignore[arg-type]
    page, got = context.new_page(), []
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda e: got.append(e["encodedDataLength"]))
    page.goto(stage.url + path)
    page.locator("tbody tr, .o-host").first.wait_for()
    row_ms = page.evaluate("performance.now()")
    paint_ms = page.evaluate(PAINT)
    answer_ms = page.evaluate(ANSWER)
    page.wait_for_timeout(700)
    context.close()
    return paint_ms, row_ms, int(sum(got)), len(got), answer_ms


def change(browser: Browser, stage: Stage, state: object) -> float:
    context = browser.new_context(ignore_https_errors=True, storage_state=state)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{stage.url}/vms?search=db-prod-0018+pool:frankfurt-a")
    page.locator("#badge[data-state=live]").wait_for()
    page.evaluate(WATCH)
    page.wait_for_timeout(400)
    began = time.time()
    stage.do("vm db-prod-0018 paused")
    page.locator("tbody >> text=Paused").wait_for()
    took = page.evaluate("window.seen") / 1000 - began
    stage.do("vm db-prod-0018 running")
    context.close()
    return float(took)


def main() -> None:
    with tempfile.TemporaryDirectory() as root, sync_playwright() as play:
        stage = Stage(Path(root), "large")
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        page.goto(f"{stage.url}/sign-in")
        page.fill("[name=name]", "anna")
        page.fill("[name=password]", PASSWORD)
        page.click("button")
        page.wait_for_url(f"{stage.url}/")
        state = context.storage_state()
        for name, path in PAGES.items():
            runs = [cold(browser, stage, state, path) for _ in range(RUNS)]
            paint, there, answer = (statistics.median(r[n] for r in runs) for n in (0, 1, 4))
            print(f"{name}: answer {answer:.0f} ms, paint {paint:.0f} ms, there {there:.0f} ms, "
                  f"{runs[0][2] / 1000:.0f} KB in {runs[0][3]} requests")  # fmt: skip
        took = sorted(change(browser, stage, state) for _ in range(RUNS))
        print(f"a change is on the screen after {took[len(took) // 2] * 1000:.0f} ms, "
              f"at most {took[-1] * 1000:.0f} ms")  # fmt: skip
        browser.close()
        stage.close()


if __name__ == "__main__":
    main()
