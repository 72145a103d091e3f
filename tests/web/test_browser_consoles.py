"""A VM's serial console and screen in Chromium; the screen is that of a real QEMU."""

from __future__ import annotations

import pytest
from browsing import AXE, NEEDED, POOL, SCREENS, Opener, Stage, findings, seen
from playwright.sync_api import expect
from qemu_screen import QEMU, QemuScreen

pytestmark = NEEDED


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


INK = """() => { const c = document.querySelector('#screen canvas');
  if (!c?.width) return 0;
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i] > 99; return n; }"""


@pytest.mark.skipif(QEMU is None, reason="apt-get install qemu-system-x86")
def test_the_screen_of_a_real_vm(opened: Opener, stage: Stage) -> None:
    """Seen, typed into, fitted, full; and found again when the VM is another process."""
    qemu = QemuScreen(stage.root / "screen")
    try:
        # noVNC says so in the browser's console while the VM is away; the other is about INK
        fine = "Failed when connecting|Canvas2D: Multiple readback"
        page = opened(f"/pools/{POOL}/vms/web-prod-0015", fine=fine)
        page.click("text=Screen >> visible=true")
        expect(page.locator("#line")).to_have_text("Connected")
        seen(page, f"({INK})() > 500")  # what the BIOS writes
        canvas = page.locator("#screen canvas")
        fitted = canvas.bounding_box()
        page.screenshot(path=SCREENS / "screen.png")
        page.uncheck("#fit")
        assert canvas.bounding_box() != fitted
        page.check("#fit")
        page.click("#full")
        seen(page, "document.fullscreenElement?.id === 'screen'")
        page.evaluate("document.exitFullscreen()")
        page.evaluate(AXE)
        assert findings(page) == []
        page.check("#look")
        page.click("#reset-keys")  # goes nowhere
        page.uncheck("#look")
        page.select_option("#more-keys", "Ctrl+Alt+F2")
        given: list[None] = []
        page.once("dialog", lambda d: given.append(d.accept("aB")))  # pages get no clipboard
        page.click("#paste")
        while not given:  # a dialog is heard of only while the browser is asked
            page.wait_for_timeout(50)
        assert qemu.typed(6) == ["ctrl", "alt", "f2", "a", "shift", "b"]
        page.click("#reset-keys")
        assert qemu.ended() == 0
        expect(page.locator("#line")).to_have_text("Reconnecting")
        stage.do("moved web-prod-0015 fra-kvm-05")
        qemu.start()
        expect(page.locator("#line")).to_have_text("Connected")
        expect(page.locator("#why")).to_have_text("it moved to fra-kvm-05, reconnected")
        seen(page, f"({INK})() > 500")
        assert page.locator("#screen canvas").count() == 1
    finally:
        qemu.close()
