"""Every page with every role: what is not meant to be allowed is refused, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from routes import flat

from conftest import Site, made
from outlast.manager.api.gate import action_of
from outlast.manager.ports import Grant
from outlast.manager.rights import allowed

POOL = "00000000-0000-4000-8000-000000000001"
# pages without a session, each with its reason
OPEN = {
    ("GET", "/sign-in"): "is how one comes in", ("POST", "/sign-in"): "is how one comes in",
    ("GET", "/sign-in/code"): "needs half a session",
    ("POST", "/sign-in/code"): "needs half a session",
    ("GET", "/sign-in/provider"): "is how one comes in",
    ("GET", "/sign-in/back"): "the provider says who comes in",
    ("GET", "/first-start"): "needs the code", ("POST", "/first-start"): "needs the code",
    ("GET", "/static/{version}/{name:path}"): "the same for everybody",
    ("GET", "/favicon.ico"): "the same for everybody",
    ("SOCKET", ""): "/console: needs a ticket, and looks at the session itself",
}  # fmt: skip
# pages for everybody who is signed in: they show and change what is the viewer's own
OWN = {
    ("POST", "/tasks/{task}/cancel"),  # asks for what the task is about
    ("GET", "/reference"),  # the same for everybody
    ("GET", "/networks"), ("GET", "/storage"), ("GET", "/images"),  # lead to a pool's own page
    ("GET", "/hosts"), ("GET", "/"), ("GET", "/vms"), ("GET", "/failovers"),
    ("GET", "/tasks"), ("GET", "/live"),
    ("GET", "/me"), ("POST", "/me/tokens"), ("POST", "/me/tokens/{token}/remove"),
    ("POST", "/me/password"), ("POST", "/sign-out"),
    ("POST", "/me/sessions/{session}/end"), ("GET", "/me/factor"),
    ("POST", "/me/factor"), ("POST", "/me/factor/confirm"), ("POST", "/me/factor/remove"),
    ("POST", "/vms/views"), ("POST", "/vms/views/forget"),
    ("GET", "/vms/bulk"), ("POST", "/vms/bulk"), ("GET", "/vms/bulk/{run}"),  # asks for each VM
}  # fmt: skip
NAMES = {
    "user": "nobody-x", "network": "lan", "storage": "fast", "image": "debian-12",
    "template": "small", "orphan": "old-web.raw", "moment": "1", "webhook": "none", "what": "none",
}  # fmt: skip
ROLES = {
    "nobody-1": (Grant("viewer", "another-pool"),),
    "viewer-1": (Grant("viewer"),),
    "pool-viewer": (Grant("viewer", POOL),),
    "vm-owner": (Grant("own", POOL, "db-prod-0018"),),
    "folder-owner": (Grant("own", POOL, "db-*"),),
    "other-folder": (Grant("own", POOL, "web-*"),),
    "other-owner": (Grant("own", POOL, "web-prod-0015"),),
    "pool-owner": (Grant("own", POOL),),
    "pool-operator": (Grant("operator", POOL),),
    "operator-1": (Grant("operator"),),
    "admin-1": (Grant("admin"),),
}


def routes(site: Site) -> Iterator[tuple[str, str, str | None]]:
    """(method, path, action) of every page; None: its gate is missing."""
    for route in flat(site.app.routes):
        if route.path.startswith(("/api/", "/metrics")):
            continue
        if route.dependant is None or not route.methods:  # a web socket
            yield "SOCKET", route.path, None
            continue
        calls = [d.call for d in route.dependant.dependencies]
        found = [a for a in map(action_of, filter(None, calls)) if a is not None]
        for method in sorted(route.methods - {"HEAD"}):
            yield method, route.path, found[0] if found else None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    found = made(tmp_path_factory.mktemp("roles"))
    yield found
    found.close()


def test_every_page_has_a_gate_or_a_reason(place: Site) -> None:
    found = list(routes(place))
    assert len(found) > 40
    assert {(m, p) for m, p, action in found if action is None} == set(OPEN)
    assert {(m, p) for m, p, action in found if action == ""} == OWN


def test_the_matrix(place: Site) -> None:
    """Whoever lacks the right gets 403; whoever has it does not. Forms lack what they must say."""
    refused = tried = 0
    for name, grants in ROLES.items():
        place.person(name, *grants)
        for method, path, action in routes(place):
            if not action:
                continue
            at = path.format(pool=POOL, vm="db-prod-0018", host="fra-kvm-02", **NAMES)
            where = (POOL, "db-prod-0018" if "{vm}" in path else "") if "{pool}" in path else ()
            may, before = allowed(grants, action, *where), place.wishes()
            said = place.get(at, name) if method == "GET" else place.post(at, {}, name)
            tried += 1
            hosts_only = path.endswith(("/places", "/{moment}")) and said.status == 404
            assert (said.status != 403) == may or hosts_only, (name, method, path, said.status)
            assert said.status < 500, (name, method, path, said.body[:300])
            if not may:
                refused += 1
                assert place.wishes() == before
    assert tried > 250
    assert 80 < refused < tried


def test_pages_offer_only_what_is_allowed(place: Site) -> None:
    vm = f"/pools/{POOL}/vms/db-prod-0018"
    for name, grants in ROLES.items():
        place.person(name, *grants)
        page = place.get(vm, name)
        if page.status == 403:
            continue
        for verb, action in (("stop", "stop"), ("migrate", "migrate"), ("kill", "kill")):
            offered = f'href="{vm}/{verb}"' in page.body.decode()
            assert offered == allowed(grants, action, POOL, "db-prod-0018"), (name, verb)
        for word, action in (("Users and roles", "people"), ("Audit log", "audit"),
                             ('href="/settings"', "settings")):  # fmt: skip
            assert (word in page.body.decode()) == allowed(grants, action), (name, word)


def test_nobody_sees_what_he_may_not(place: Site) -> None:
    for path in ("/", "/vms", "/failovers", "/tasks", "/me"):
        page = place.get(path, "nobody-1").body.decode()
        assert "frankfurt-a" not in page and "db-prod" not in page, path
        own = place.get(path, "vm-owner").body.decode()
        assert "web-prod-0015" not in own and "fra-kvm-06 is silent" not in own, path
    assert "db-prod-0018" in place.get("/vms", "vm-owner").body.decode()
    assert place.get(f"/vms?pool={POOL}", "nobody-1").body.decode().count("frankfurt") == 0
    assert place.get(f"/live?pool={POOL}", "vm-owner").status == 403
    assert place.get(f"/live?vm={POOL}:web-prod-0015", "vm-owner").status == 403
    assert place.get(f"/live?host={POOL}/fra-kvm-02", "vm-owner").status == 403
    hidden = place.get(f"/pools/{POOL}/vms/web-prod-0015", "vm-owner")
    nothing = place.get(f"/pools/{POOL}/vms/none", "vm-owner")
    assert (hidden.status, hidden.body) == (nothing.status, nothing.body)
