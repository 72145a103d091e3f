"""Pages with charts: of the manager's history, for whoever may see the thing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fleet_story import lately
from test_pages import check_page

from conftest import Site, made
from outlast.manager.ports import Grant
from outlast.manager.repository import rollups
from outlast.manager.rollup import LEVELS

POOL = "00000000-0000-4000-8000-000000000001"
VM, HOST = f"/pools/{POOL}/vms/db-prod-0018", f"/pools/{POOL}/hosts/fra-kvm-02"
PICTURE_MAX = 20 * 1024  # of one chart as it is sent


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = made(tmp_path_factory.mktemp("charts"))
    rows = lately(site.pools["frankfurt-a"], "db-prod-0018")
    site.run(site.manager.repository.write(lambda c: rollups.add(c, rows)))
    yield site
    site.close()


@pytest.mark.parametrize("range_", ["hour", "day", "week", "month", "year"])
@pytest.mark.parametrize(("path", "count"), [(VM, 1), (HOST, 6), (f"/pools/{POOL}", 6)])
def test_every_range_is_drawn(known: Site, path: str, count: int, range_: str) -> None:
    said = known.get(f"{path}?range={range_}")
    page = check_page(said, path)
    assert page.count('class="o-chart"') == count
    here = re.findall(r'<a href="\?range=(\w+)#charts" aria-current="true">', page)
    assert here == [range_]
    charts = page[page.index('id="charts"') : page.index("</section>", page.index('id="charts"'))]
    assert len(charts) < PICTURE_MAX * count
    step_s = LEVELS[("hour", "day", "week", "month", "year").index(range_)].step_s
    if range_ == "hour" and path == VM:
        step_s = 600
    said = {60: "1 min", 600: "10 min", 3600: "1 h", 21600: "6 h", 86400: "1 d"}[step_s]
    assert f"means of {said}" in charts


def test_a_failure_is_marked_where_it_concerns(known: Site) -> None:
    silent = "fra-kvm-06 is silent"
    pool = known.get(f"/pools/{POOL}/charts?range=hour", target="charts").body.decode()
    assert pool.startswith("<section") and silent in pool
    mine = known.get(f"/pools/{POOL}/hosts/fra-kvm-06/charts?range=hour").body.decode()
    assert silent in mine
    other = known.get(f"{HOST}/charts?range=hour", target="charts").body.decode()
    assert silent not in other
    own = known.get(f"{VM}/charts?range=hour", target="charts").body.decode()
    assert silent not in own


def test_whoever_sees_one_vm_sees_its_charts_alone(known: Site) -> None:
    known.person("olga", Grant("own", POOL, "db-prod-0018"))
    assert 'class="o-chart"' in known.get(f"{VM}/charts", "olga").body.decode()
    for path in (f"{HOST}/charts", f"/pools/{POOL}/charts", f"/pools/{POOL}/vms/web-prod-0015"):
        assert known.get(path, "olga").status == 403


def test_what_nobody_knows_is_said(known: Site) -> None:
    page = check_page(known.get(f"/pools/{POOL}/vms/web-prod-0015?range=nonsense"), "/x")
    assert "Nothing is known of this time yet" in page
    assert 'aria-current="true">Day' in page
