"""Metrics of an agent: who may read them, of what each agent speaks, and what they are worth."""

from __future__ import annotations

import http.client
import re
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_server import SPEC, Host, hosts, person, pool

from outlast.agent import metrics_api
from outlast.agent.margin import Measured
from outlast.settings import S
from outlast.wire.seal import client_context

__all__ = ["hosts", "pool"]  # fixtures
ROOT = Path(__file__).parents[2]


def call(host: Host, etc: Path, method: str, path: str) -> tuple[int, str]:
    context = client_context(etc / "pki")
    line = http.client.HTTPSConnection("127.0.0.1", host.server.port, context=context, timeout=20)
    try:
        line.request(method, path)
        answer = line.getresponse()
        return answer.status, answer.read().decode()
    finally:
        line.close()


@pytest.fixture
def monitor(tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its folder."""
    person(tmp_path, pool, "monitor", monkeypatch)
    return tmp_path / "etc-monitor"


def scraped(host: Host, etc: Path) -> dict[str, float]:
    """Names, and values without labels, as Prometheus' own reader understands them."""
    status, text = call(host, etc, "GET", "/metrics")
    assert status == 200
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
    }  # fmt: skip


def test_a_monitor_may_read_metrics_and_nothing_else(hosts: dict[str, Host], monitor: Path) -> None:
    a, tried = hosts["a"], 0
    for route in a.server._routes():
        path = re.sub(r"\{\w+\}", "web", route.path)
        status, said = call(a, monitor, route.method, path)
        if (route.method, route.path) == ("GET", "/metrics"):
            assert status == 200
            continue
        assert (status, "monitor monitor may not" in said) == (403, True), (route, said)
        tried += 1
    assert tried > 40
    assert a.client.status().refused_calls == tried
    assert scraped(a, monitor)["outlast_agent_refused_calls_total"] == tried


@pytest.mark.parametrize(("role", "status"), [("host", 403), ("manager", 200), ("admin", 200)])
def test_other_roles(
    hosts: dict[str, Host], tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch,
    role: str, status: int,
) -> None:  # fmt: skip
    person(tmp_path, pool, role, monkeypatch)
    assert call(hosts["a"], tmp_path / f"etc-{role}", "GET", "/metrics")[0] == status


def test_the_master_alone_speaks_of_the_pool(hosts: dict[str, Host], monitor: Path) -> None:
    """As long as nobody else is: the view says who that is."""
    a, b = hosts["a"], hosts["b"]
    a.client.create(SPEC)
    a.client.start("web")
    b.service.run("web")
    a.service.beats = Measured(100, S // 5, S // 2, S // 2, 2 * S)
    until = time.monotonic() + 20
    while "outlast_pool_failover_seconds_predicted" not in (found := scraped(a, monitor)):
        assert time.monotonic() < until
        time.sleep(0.05)
    fence_s = a.service.settings.timing.fence_ns / S
    assert found["outlast_pool_members"] == 3
    assert found["outlast_host_heartbeat_margin_seconds"] == fence_s - 2
    assert found["outlast_pool_heartbeat_margin_seconds"] == fence_s - 2
    assert found["outlast_pool_failover_seconds_predicted"] > fence_s
    assert found["outlast_pool_hosts_unsafe"] == 0
    assert 0 < found["outlast_host_deadline_seconds"] <= 39
    assert 'outlast_pool_vms{pool="lab"' in call(a, monitor, "GET", "/metrics")[1]
    other = scraped(b, monitor)
    assert [name for name in other if name.startswith("outlast_pool_")] == []
    assert other["outlast_host_member"] == 1


def test_a_forecast_grows_old_and_is_counted_anew(
    hosts: dict[str, Host], monitor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, name = hosts["a"], "outlast_pool_hosts_unsafe"
    until = time.monotonic() + 20
    while name not in scraped(a, monitor):
        assert time.monotonic() < until
    monkeypatch.setattr(metrics_api, "OLD_S", 0.0)
    assert name not in scraped(a, monitor)


def test_names_are_documented(hosts: dict[str, Host], monitor: Path) -> None:
    _, text = call(hosts["a"], monitor, "GET", "/metrics")
    document = (ROOT / "docs/operating/metrics.md").read_text()
    found = [line.split(maxsplit=3)[2:] for line in text.splitlines() if line.startswith("# HELP")]
    assert {name for name, _ in found} == set(metrics_api.HELP)
    for name, said in found:
        row = re.search(rf"^\| `{name}` \| (.*) \|$", document, re.M)
        assert row is not None, name
        assert metrics_api.HELP[name] == said
        assert row[1].replace("`", "").startswith(said), name
