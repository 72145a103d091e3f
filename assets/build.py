"""Makes src/outlast/manager/web/static/vendor from the pinned packages of package-lock.json.

    make assets

Rules:
1. The result is committed, with SHA256SUMS: a checkout and its wheel need neither npm nor a
   network, and a test notices a file that somebody changed by hand.
2. htmx and its stream extension are one file: an extension that comes late never sees the page.
3. Every file lies beside the licence it came under.
4. noVNC is modules that a browser takes as they were published, so it stays a folder.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
WORK = HERE.parent / "build/assets"
FROM = WORK / "node_modules"
TO = HERE.parent / "src/outlast/manager/web/static/vendor"
ICONS = [
    "adjustments",
    "alert-triangle",
    "arrow-down",
    "arrow-up",
    "arrows-right-left",
    "bolt",
    "check",
    "copy",
    "crown",
    "device-desktop",
    "history",
    "key",
    "keyboard",
    "layout-dashboard",
    "list-details",
    "logout",
    "maximize",
    "menu-2",
    "player-play",
    "plug-off",
    "plus",
    "power",
    "progress",
    "search",
    "server",
    "shield-check",
    "shield-off",
    "sun-moon",
    "terminal-2",
    "tool",
    "trash",
    "users",
    "x",
    "zoom-question",
    "network",
    "database",
    "photo",
]
LICENCES = {
    "htmx": "htmx.org/LICENSE",
    "icons": "@tabler/icons/LICENSE",
    "inter": "@fontsource-variable/inter/LICENSE",
    "novnc": "@novnc/novnc/docs/LICENSE.MPL-2.0",
    "xterm": "@xterm/xterm/LICENSE",
}


def sprite() -> str:
    symbols = []
    for name in ICONS:
        text = (FROM / f"@tabler/icons/icons/outline/{name}.svg").read_text()
        body = re.sub(r"\s+", " ", text.partition(">")[2].rpartition("</svg>")[0]).strip()
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{body}</symbol>')
    head = '<svg xmlns="http://www.w3.org/2000/svg" fill="none" stroke="currentColor" '
    head += 'stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round">'
    return head + "\n".join(["", *symbols, ""]) + "</svg>\n"


def script(*names: str) -> str:
    """Several files as one, without the lines that name their maps."""
    texts = [(FROM / name).read_text() for name in names]
    return "".join(re.sub(r"//# sourceMappingURL=.*", "", t).rstrip() + "\n" for t in texts)


def fetch() -> None:
    """The pinned packages; npm holds them against the hashes of the lock."""
    WORK.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copyfile(HERE / name, WORK / name)
    subprocess.run(["npm", "ci"], cwd=WORK, check=True)


def main() -> None:
    fetch()
    shutil.rmtree(TO, ignore_errors=True)
    TO.mkdir(parents=True)
    htmx = script("htmx.org/dist/htmx.min.js", "htmx.org/dist/ext/hx-sse.min.js")
    (TO / "htmx.js").write_text(htmx)
    (TO / "icons.svg").write_text(sprite())
    terminal = script("@xterm/xterm/lib/xterm.js", "@xterm/addon-fit/lib/addon-fit.js")
    (TO / "xterm.js").write_text(terminal)
    shutil.copyfile(FROM / "@xterm/xterm/css/xterm.css", TO / "xterm.css")
    font = "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2"
    shutil.copyfile(FROM / font, TO / "inter.woff2")
    unread = shutil.ignore_patterns("*.md")
    for part in ("core", "vendor"):
        shutil.copytree(FROM / "@novnc/novnc" / part, TO / "novnc" / part, ignore=unread)
    for name, place in LICENCES.items():
        shutil.copyfile(FROM / place, TO / f"{name}.LICENSE")
    made = sorted(p for p in TO.rglob("*") if p.is_file())
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(TO)}\n" for p in made]
    (TO / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
