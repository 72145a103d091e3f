"""Templates, scripts and styles: what must not be in them, and that the wheel carries all."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest

from outlast.manager.web import static

ROOT = Path(__file__).parent.parent.parent
WEB = ROOT / "src/outlast/manager/web"
VENDOR = WEB / "static/vendor"
TEMPLATES = sorted((WEB / "templates").glob("*.html"))
CSS_MAX, JS_LINES_MAX = 30 * 1024, 150
FIRST_MAX = 150 * 1024  # what every page loads of others; the terminal is on one page only


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.name)
def test_a_template_has_nothing_that_the_policy_forbids(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=[\"']|hx-on|javascript:|hx-vals=.js", text)
    assert not re.search(r"<script(?![^>]* src=)", text)
    assert not re.search(r"https?://(?!HOST)", text), "nothing is asked of another host"
    assert "|safe" not in text
    for trigger in re.findall(r'hx-trigger="([^"]*)"', text):
        assert "[" not in trigger, "a filter would be evaluated"
    for form in re.findall(r'<form[^>]*method="post".*?</form>', text, re.DOTALL):
        outside = path.name in ("sign_in.html", "first_start.html")
        assert outside or 'name="csrf"' in form, form[:200]
        assert 'action="' in form, "it must work without scripts"


def test_every_icon_that_is_named_is_in_the_sprite() -> None:
    known = set(re.findall(r'<symbol id="([^"]+)"', (VENDOR / "icons.svg").read_text()))
    used = {m for p in TEMPLATES for m in re.findall(r"icon\('([^']+)'", p.read_text())}
    used |= {m for p in TEMPLATES for m in re.findall(r"p\.nav\([^,]+, [^,]+, '([^']+)'",
                                                      p.read_text())}  # fmt: skip
    from outlast.manager.web.wishes import ALL

    used |= {b.icon for b in ALL}
    assert used <= known, used - known
    assert len(known - used) < 12, "icons that nobody uses"


def test_the_own_files_stay_small() -> None:
    css = (WEB / "static/outlast.css").read_text()
    assert len(css.encode()) <= CSS_MAX
    assert (WEB / "static/outlast.js").read_text().count("\n") < JS_LINES_MAX
    first = [VENDOR / n for n in ("htmx.js", "icons.svg", "inter.woff2")]
    assert sum(p.stat().st_size for p in first) < FIRST_MAX
    assert not re.search(r"url\((?!vendor/)", css)


def test_every_class_of_the_templates_is_styled_or_a_state() -> None:
    css = (WEB / "static/outlast.css").read_text()
    classes = {
        word
        for path in TEMPLATES
        for value in re.findall(r'class="([^"]*)"', re.sub(r"{[{%].*?[}%]}", " ", path.read_text()))
        for word in value.split()
        if word.startswith("o-")
    }
    unknown = {c for c in classes if f".{c}" not in css} - {"o-stream", "o-spare", "o-row-new"}
    assert unknown == set()


def test_vendored_files_are_the_ones_that_were_built() -> None:
    sums = dict(
        reversed(line.split("  ")) for line in (VENDOR / "SHA256SUMS").read_text().splitlines()
    )
    found = {
        str(p.relative_to(VENDOR)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in VENDOR.rglob("*") if p.is_file()
    }  # fmt: skip
    del found["SHA256SUMS"]
    assert found == sums
    for name in ("htmx", "icons", "inter", "novnc", "xterm"):
        assert (VENDOR / f"{name}.LICENSE").stat().st_size > 500


def test_the_lock_pins_what_is_vendored() -> None:
    wanted = json.loads((ROOT / "assets/package.json").read_text())["dependencies"]
    locked = json.loads((ROOT / "assets/package-lock.json").read_text())["packages"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    for name, version in wanted.items():
        entry = locked[f"node_modules/{name}"]
        assert entry["version"] == version and entry["integrity"].startswith("sha512-")


def test_the_wheel_carries_every_file() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    carried = {p for pattern in data["package-data"]["outlast"]
               for p in (ROOT / "src/outlast").glob(pattern) if p.is_file()}  # fmt: skip
    there = {p for p in WEB.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {p for p in there if p.suffix != ".py"} <= carried
    assert len(there) > 50


def test_files_are_kept_for_good_under_an_address_of_their_own(site) -> None:  # type: ignore[no-untyped-def]
    for name, file in static.FILES.items():
        said = site.get(static.address(name), who="", accept_encoding="gzip")
        assert said.status == 200 and "immutable" in said.headers["cache-control"]
        assert (said.headers.get("content-encoding") == "gzip") == bool(file.packed)
        assert said.body == (file.packed or file.raw)
    old = site.get("/static/000000000000/outlast.css", who="")
    assert old.status == 200 and old.headers["cache-control"] == "no-store"
    for path in ("/static/x/../../web/gate.py", "/static/x/vendor/", "/static/x/%2e%2e/gate.py"):
        assert site.get(path, who="").status == 404
