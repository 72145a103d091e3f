"""Networks, images and templates in the browser: an image comes in, and VMs are made of it."""

from __future__ import annotations

import os
from pathlib import Path

from browsing import NEEDED, POOL, SCREENS, Opener, Stage, live
from playwright.sync_api import expect

pytestmark = NEEDED


def test_an_image_comes_in_and_vms_are_made_of_it(opened: Opener, stage: Stage) -> None:
    page = opened(f"/pools/{POOL}/images", "otto")
    live(page)
    page.click("text=Import an image >> visible=true")
    dialog = page.locator("dialog[open]")
    dialog.locator("[name=name]").fill("alma-9")
    dialog.locator("[name=source]").fill("https://images.example/alma-9.qcow2")
    command = "outlast image import alma-9 https://images.example/alma-9.qcow2"
    expect(dialog.locator("#cli code")).to_contain_text(command)
    dialog.locator("button.is-main").click()
    expect(page.locator("#stock")).to_contain_text("fetching alma-9 · 40 %")
    page.screenshot(path=SCREENS / "import.png")
    stage.do("imported alma-9")
    row = page.locator("#stock tr", has_text="alma-9")
    expect(row).to_contain_text("2.0 GiB")
    row.locator("text=Make a template").click()
    dialog.locator("[name=name]").fill("alma")
    dialog.locator("button.is-main").click()
    made = page.locator("#stock tr", has=page.locator("th", has_text="alma")).first
    made.locator("text=Deploy").click()
    dialog.locator("[name=name]").fill("till")
    dialog.locator("[name=count]").fill("2")
    command = "outlast template deploy alma till --count 2 --memory 2GiB --vcpus 1 --start"
    expect(dialog.locator("#cli code")).to_contain_text(command)
    dialog.locator("button.is-main").click()
    expect(page.locator("#toasts")).to_contain_text("Creating till-2")
    stage.do("step")
    page.goto(f"{stage.url}/vms?search=till")
    expect(page.locator("tbody")).to_contain_text("till-1")
    expect(page.locator("tbody")).to_contain_text("till-2")


def test_a_file_of_this_computer_is_sent_on_after_it_broke_off(
    opened: Opener, stage: Stage, tmp_path: Path
) -> None:
    file = tmp_path / "Golden Image.qcow2"
    file.write_bytes(os.urandom(9 << 20))
    page = opened(f"/pools/{POOL}/images", "otto", fine="status of 502")
    page.locator(".o-head >> text=Upload").click()
    page.set_input_files("[name=file]", file)
    expect(page.locator("[name=image]")).to_have_value("golden-image")
    page.screenshot(path=SCREENS / "upload.png")
    stage.do("breaks 2")
    page.click("#send")
    expect(page.locator("#stock")).to_contain_text("fetching golden-image")
    stage.do("imported golden-image")
    expect(page.locator("#stock tr", has_text="golden-image").first).to_contain_text("2.0 GiB")


def test_what_a_host_lacks_appears_by_itself(opened: Opener, stage: Stage) -> None:
    page = opened(f"/pools/{POOL}/networks", "vera")
    live(page)
    expect(page.locator("#stock")).to_contain_text("there on fra-kvm-01, ")
    assert page.locator("text=New network").count() == 0, "a viewer only looks"
    stage.do("lacks lan fra-kvm-04")
    expect(page.locator("#stock")).to_contain_text("fra-kvm-04: there is no card eno1")
