"""Metrics of a manager: forecasts, and the dashboard that shows them."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

from calling import V, create, ended, wait
from desk import Desk
from pretend import RealPool

from outlast.manager.metrics import HELP
from outlast.readiness.forecast import EVERY_S, Forecast, forecast

GRAFANA = Path(__file__).parents[2] / "packaging/grafana"


def values_of(desk: Desk, token: str) -> dict[str, float]:
    """Of one pool, without labels."""
    text = desk.call("GET", "/metrics", token=token).body.decode()
    found = re.findall(r"^(\w+)\{pool=\"lab\",pool_id=\"[^\"]*\"\} (\S+)$", text, re.M)
    return {name: float(value) for name, value in found}


def test_forecasts_are_counted_while_somebody_asks(desk: Desk, real: RealPool, admin: str) -> None:
    ended(desk, create(desk, real, admin), admin)
    wait(lambda: "outlast_pool_hosts_unsafe" in values_of(desk, admin), 20)
    found = values_of(desk, admin)
    picture = desk.run(desk.manager.reads.ask(real.id, lambda c: c.picture()))
    status = desk.manager.reads.pool(real.id).status
    assert forecast(status, picture, []) == Forecast(
        int(found["outlast_pool_hosts_unsafe"]), int(found["outlast_pool_vms_homeless_max"]),
        found["outlast_pool_failover_seconds_predicted"],
    )  # fmt: skip
    assert found["outlast_pool_failover_seconds_predicted"] > 5
    # anew once the pool has changed, but not at once
    forecasts = desk.manager.forecasts
    before = forecasts._kept[real.id]
    said = desk.call("POST", f"{V}/pools/{real.id}/vms/web/start", {}, token=admin)
    ended(desk, said, admin)
    assert desk.run(forecasts.step()) == ""
    assert forecasts._kept[real.id] == before
    clock = forecasts._clock
    forecasts._clock = lambda: clock() + EVERY_S
    wait(lambda: forecasts._kept[real.id][1] > before[1])
    # a pool that does not answer has no forecast
    desk.manager.reads._stale_s = 0.5
    real.close()
    wait(lambda: desk.manager.reads.pool(real.id).stale, 30)
    assert "outlast_pool_hosts_unsafe" not in values_of(desk, admin)


def test_the_dashboard_shows_what_is_exported(desk: Desk, real: RealPool, admin: str) -> None:
    text = (GRAFANA / "outlast.json").read_text()
    made = runpy.run_path(str(GRAFANA / "build.py"))["dashboard"]()
    assert json.loads(text) == made, "run packaging/grafana/build.py"
    named = set(re.findall(r"outlast_[a-z_]+", text))
    exported = desk.call("GET", "/metrics", token=admin).body.decode()
    shown = {line.split()[2] for line in exported.splitlines() if line.startswith("# TYPE")}
    assert named <= shown == set(HELP)
    assert {"outlast_pool_heartbeat_margin_seconds", "outlast_pool_spare_memory_bytes",
            "outlast_pool_failover_seconds_predicted"} <= named  # fmt: skip
    panels = [p for p in made["panels"] if p["type"] != "row"]
    assert len({p["id"] for p in made["panels"]}) == len(made["panels"])
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}
    assert len(places) == len(panels) == 28
    for one in panels:
        (target,) = one["targets"]
        query = target["expr"]
        assert query.count("(") == query.count(")")
        assert ('{pool=~"$pool"}' in query) == ("outlast_manager_" not in query)
