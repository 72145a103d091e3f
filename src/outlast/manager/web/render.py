"""Templates to answers: whole pages, fragments, and failures as sentences.

Rules:
1. Everything that is put into a template is escaped, unless it is Markup that was made here.
2. Every answer that is HTML carries the content security policy; it has no exception.
3. A failure keeps its status, sentence and hint. A script gets it as a toast, a browser as a page;
   callers of the API get what they always got.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from outlast.errors import OutlastError
from outlast.manager.api.tasks import sees_task
from outlast.manager.errors import NotLoggedIn
from outlast.manager.ports import PoolEntry
from outlast.manager.web import health
from outlast.manager.web.gate import View
from outlast.manager.web.static import address
from outlast.wire.sizes import MIB, size_text
from outlast.words import plural

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
THEME = "outlast-theme"
Gathered = dict[str, Any]


def html(text: str, status: int = 200, *, nonce: str = "", **headers: str) -> Response:
    """nonce: lets the terminal's own style elements in; nothing else has one."""
    csp = CSP.replace("style-src 'self'", f"style-src 'self' 'nonce-{nonce}'") if nonce else CSP
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"Content-Security-Policy": csp, "Vary": "HX-Request, HX-Target, Cookie"}
    return Response(text, status, sent, "text/html; charset=utf-8")


def fragment(template: str, **values: Any) -> str:
    """A template that can stand alone."""
    return TEMPLATES.get_template(template).render(values)


def page(view: View, template: str, /, *, at: int = 200, live: str = "", **values: Any) -> Response:
    """A whole page. live: what its stream shows, a query for /live."""
    return html(fragment(template, **(frame(view, live) | values)), at)


def frame(view: View, live: str = "") -> Gathered:
    """What every page has: who looks, where to, how many tasks run."""
    hub = view.manager.reads.hub
    open_ = [t for t in view.manager.acts.tasks(open_only=True) if sees_task(view.caller, t)]
    return {
        "view": view, "csrf": view.csrf, "path": view.request.url.path,
        "theme": theme(view.request), "open_tasks": len(open_), "live": live, "after": hub.last,
        "search": view.request.query_params.get("search", "")[:200],
    }  # fmt: skip


def theme(request: Request) -> str:
    chosen = request.cookies.get(THEME, "")
    return chosen if chosen in ("light", "dark") else ""


def drawn(text: str) -> Markup:
    """Text of our own pictures and templates, which have escaped what they hold."""
    return Markup(text)  # noqa: S704


def redirect(to: str, view: View | None = None) -> Response:
    """Elsewhere, as a browser or a script wants to be told. `to` must be a path of ours."""
    assert to.startswith("/") and not to.startswith("//")
    if view is not None and view.scripted:
        return Response(status_code=204, headers={"HX-Redirect": to})
    return Response(status_code=303, headers={"Location": to})


def dialog(view: View, title: str, body: str, status: int = 200) -> Response:
    """A dialog that is opened, one that is shown again where it was, or a page without scripts."""
    if view.partial == "dialog-body":
        return html(body, status)
    if view.scripted:
        return html(partial("dialog-body", body, "innerHTML"), status)
    return page(view, "plain.html", at=status, title=title, body=drawn(body))


def partial(target: str, body: str, swap: str = "outerMorph") -> str:
    """A fragment with its place, for streams and for answers that touch several places."""
    return f'<hx-partial hx-target="#{target}" hx-swap="{swap}">{body}</hx-partial>'


def toast(sentence: str, *, hint: str = "", tone: str = "ok", link: str = "", at: str = "") -> str:
    made = fragment("_toast.html", sentence=sentence, hint=hint, tone=tone, link=link, at=at)
    return partial("toasts", made, "beforeend")


# ---- failures


def failure_of(plain: Any) -> Any:
    """A handler that answers people in pages, and leaves the rest to the one before."""

    async def handle(request: Request, error: Exception) -> Response:
        answer: Response = await plain(request, error)
        if request.url.path.startswith(("/api/", "/metrics")):
            return answer
        return _failure(request, error, answer)

    return handle


def _failure(request: Request, error: Exception, answer: Response) -> Response:
    scripted = request.headers.get("hx-request") == "true"
    if isinstance(error, NotLoggedIn):
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        at = "/sign-in?" + urlencode({"next": here}) if request.method == "GET" else "/sign-in"
        if scripted:
            return html("", 401, HX_Reswap="none")  # the page offers to sign in, and stays
        return redirect(at)
    if not isinstance(error, OutlastError):
        error = _named(answer)
    if scripted:
        told = toast(error.sentence, hint=error.hint, tone="bad")
        return html(told, answer.status_code, HX_Reswap="none")
    values = {"sentence": error.sentence, "hint": error.hint, "status": answer.status_code}
    return html(fragment("error.html", theme=theme(request), **values), answer.status_code)


def _named(answer: Response) -> OutlastError:
    """What the API's handler made of an error of the framework, or of a bug."""
    import json

    said = json.loads(bytes(answer.body))["error"]
    return OutlastError(said["sentence"], hint=said["hint"] if answer.status_code >= 500 else "")


# ---- what templates use


def icon(name: str, label: str = "") -> Markup:
    """An icon of the sprite; without a label it says nothing to those who hear the page."""
    told = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    at = f"{address('vendor/icons.svg')}#{name}"
    return Markup(f'<svg class="o-icon" {told}><use href="{at}"/></svg>')  # noqa: S704


def ago_text(seconds: float) -> str:
    if seconds < 1:
        return "now"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(wall_s: float | None, suffix: str = " ago") -> Markup:
    """How long ago, or the date once that says more; the exact instant as a title."""
    if not wall_s:
        return Markup("—")
    passed, at = time.time() - wall_s, time.gmtime(wall_s)
    exact = time.strftime("%Y-%m-%d %H:%M:%S UTC", at)
    if passed > 30 * 86400:
        said = time.strftime("%-d %b %Y", at)
    else:
        said = ago_text(max(0.0, passed)) + ("" if passed < 1 else suffix)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", at)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(stamp, exact, said)


def clock(wall_s: float) -> Markup:
    at = time.gmtime(wall_s)
    stamp, exact = (time.strftime(f, at) for f in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S UTC"))
    near = abs(time.time() - wall_s) < 20 * 3600
    said = time.strftime("%H:%M:%S" if near else "%-d %b %H:%M", at)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(stamp, exact, said)


def size(mib: int | None) -> str:
    return "—" if mib is None else size_text(mib * MIB)


def room(size_bytes: int) -> str:
    """Rounded, as people speak of space."""
    for unit, factor in (("TiB", MIB << 20), ("GiB", MIB << 10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes / MIB:.0f} MiB"


def cap(sentence: str) -> str:
    """With a capital letter, unless it begins with what is a name or a value."""
    first = sentence.partition(" ")[0]
    return sentence[:1].upper() + sentence[1:] if first.isalpha() else sentence


def pool_path(entry: PoolEntry) -> str:
    return f"/pools/{quote(entry.id)}"


def vm_path(pool_id: str, name: str) -> str:
    return f"/pools/{quote(pool_id)}/vms/{quote(name, safe='')}"


def host_path(pool_id: str, name: str) -> str:
    return f"/pools/{quote(pool_id)}/hosts/{quote(name, safe='')}"


def incident_path(pool_id: str, event_id: int) -> str:
    return f"/pools/{quote(pool_id, safe='')}/incidents/{event_id}"


def moment_path(pool_id: str, event_id: int) -> str:
    return f"/pools/{quote(pool_id)}/moments/{event_id}"


def vm_id(pool_id: str, name: str) -> str:
    """Of the element that shows it."""
    return f"vm-{pool_id}-{name}"


def host_id(pool_id: str, name: str) -> str:
    return f"host-{pool_id}-{name}"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True,
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined,
    )  # fmt: skip
    made.globals |= {
        "icon": icon, "asset": address, "pool_path": pool_path, "vm_path": vm_path,
        "host_path": host_path, "moment_path": moment_path, "incident_path": incident_path,
        "vm_id": vm_id, "host_id": host_id, "health": health, "plural": plural,
    }  # fmt: skip
    made.filters |= {"ago": ago, "clock": clock, "size": size, "room": room, "cap": cap,
                     "span": ago_text}  # fmt: skip
    made.globals["p"] = made.get_template("parts.html").module
    return made


TEMPLATES = _environment()
