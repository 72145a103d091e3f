"""The list of the hosts of all pools: worst first, searched, live, for whoever sees them."""

from __future__ import annotations

import re
import time

from test_web_live import Stream

from conftest import Site

POOL = "00000000-0000-4000-8000-000000000001"


def rows(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="[^"]*/hosts/([^"]+)">', page)


def test_the_worst_are_on_top_and_words_search(site: Site) -> None:
    page = site.get("/hosts").body.decode()
    found = rows(page)
    assert found[0] == "fra-kvm-06" and len(found) == 11, "8 of one pool, 3 of the other"
    assert "11 hosts" in page and "Silent" in page
    line = page.split("<tbody>")[1].split("</tr>")[0]
    assert re.search(r">\d+ min ago<", line), "when it was last out"
    assert rows(site.get("/hosts?search=silent+frankfurt").body.decode()) == ["fra-kvm-06"]
    assert len(rows(site.get("/hosts?pool=lab").body.decode())) == 3
    worst = rows(site.get("/hosts?problems=1").body.decode())
    assert set(worst) == {"fra-kvm-06", "fra-kvm-02"}
    nothing = site.get("/hosts?search=nothing-like-it").body.decode()
    assert rows(nothing) == [] and "Show all" in nothing
    part = site.get("/hosts?pool=lab", target="host-list").body.decode()
    assert part.startswith('<div id="host-list">') and "<html" not in part


def test_it_is_live(own_site: Site) -> None:
    stream = Stream(own_site, "page=hosts%3Fpool%3Dlab")
    own_site.pools["lab"].change_host("lab-kvm-02", maintenance="new disks")
    own_site.tell()
    end = time.monotonic() + 20
    while "Maintenance" not in (told := stream.next()):
        assert time.monotonic() < end
    assert "host-list" in told and "fra-kvm" not in told
    stream.close()


def test_whoever_sees_no_whole_pool_sees_no_host(own_site: Site) -> None:
    from outlast.manager.ports import Grant

    own_site.person("one-vm", Grant("own", POOL, "db-prod-0018"))
    page = own_site.get("/hosts", "one-vm").body.decode()
    assert rows(page) == [] and "fra-kvm" not in page
