"""What the metrics of pools and hosts are worth, and that what is not known is missing."""

from __future__ import annotations

import re
from typing import Any

from outlast.readiness import metrics
from outlast.wire.margin import LightInfo, MarginInfo
from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus


def host(name: str, free_mib: int, **more: Any) -> HostStatus:
    known = {"name": name, "slot": 1, "state": "member", "sentence": "", "free_mib": free_mib}
    return HostStatus.model_validate(known | more)


def vm(name: str, at: str, memory_mib: int, **more: Any) -> VmStatus:
    known = {"name": name, "uuid": name, "state": "running", "sentence": "", "vcpus": 1,
             "desired": "running", "host": at, "memory_mib": memory_mib, "ha": True}  # fmt: skip
    return VmStatus.model_validate(known | more)


def margin(longest_ms: float, beats: int = 10) -> MarginInfo:
    return MarginInfo(beats=beats, longest_ms=longest_ms, fence_ms=9000)


STATUS = PoolStatus(
    name="lab", uuid="u", preset="default", answered_by="a", sentence="",
    hosts=[host("a", 1000, beat_age_ms=300, margin=margin(1500)), host("b", 3000),
           host("c", 9000, maintenance="disks", beat_age_ms=800, margin=margin(4000)),
           host("d", 9000, state="silent", beat_age_ms=99000, margin=margin(8500))],
    vms=[vm("one", "a", 2500), vm("two", "b", 1500), vm("free", "b", 800, ha=False),
         vm("off", "a", 500, state="stopped", host="")],
    margin=margin(1500),
)  # fmt: skip


def shown(found: Any) -> dict[str, float]:
    text = metrics.text(found).decode()
    lines = re.findall(r"^(outlast_\S+?)\{(.*)\} (\S+)$", text, re.M)
    return {
        " ".join([name, *re.findall('="(.*?)"', labels)]): float(value)
        for name, labels, value in lines
    }


def test_a_pool_in_numbers() -> None:
    found = shown(metrics.pools([(("u", "lab"), STATUS)]))
    # a dies: 3000 are free and 2500 wanted; b dies: 1000 are free and 1500 wanted
    assert found == {
        "outlast_pool_members lab u": 3, "outlast_pool_hosts lab u": 4,
        "outlast_pool_ha_off lab u": 0, "outlast_pool_heartbeat_age_seconds_max lab u": 0.8,
        "outlast_pool_free_memory_bytes lab u": 4000 << 20,
        "outlast_pool_vms_unprotected lab u": 1,
        "outlast_pool_spare_memory_bytes lab u": -500 * 2**20,
        "outlast_pool_fence_seconds lab u": 9, "outlast_pool_heartbeat_margin_seconds lab u": 5,
        "outlast_pool_vms lab u running": 3, "outlast_pool_vms lab u stopped": 1,
    }  # fmt: skip


def test_what_is_not_known_is_missing() -> None:
    quiet = STATUS.model_copy(update={"margin": margin(0, beats=0), "hosts": [], "vms": []})
    found = shown(metrics.pools([(("u", "lab"), quiet)]))
    assert {"outlast_pool_heartbeat_margin_seconds lab u", "outlast_pool_spare_memory_bytes lab u",
            "outlast_pool_heartbeat_age_seconds_max lab u"}.isdisjoint(found)  # fmt: skip
    assert found["outlast_pool_members lab u"] == 0


def test_a_host_in_numbers() -> None:
    lights = [LightInfo(colour="red", what="guard", sentence="x"),
              LightInfo(colour="yellow", what="clock", sentence="y")]  # fmt: skip
    a = host("a", 1000, beat_age_ms=300, margin=margin(1500), vm_count=2, deadline_ms=8700,
             lights=lights)  # fmt: skip
    absent = HostStatus(name="b", slot=2, state="absent", sentence="")
    found = shown(metrics.hosts([(("u", "lab", one.name), one) for one in (a, absent)]))
    assert found == {
        "outlast_host_member a lab u": 1, "outlast_host_maintenance a lab u": 0,
        "outlast_host_free_memory_bytes a lab u": 1000 << 20, "outlast_host_vms a lab u": 2,
        "outlast_host_heartbeat_age_seconds a lab u": 0.3,
        "outlast_host_heartbeat_margin_seconds a lab u": 7.5,
        "outlast_host_deadline_seconds a lab u": 8.7,
        "outlast_host_lights yellow a lab u": 1, "outlast_host_lights red a lab u": 1,
        "outlast_host_member b lab u": 0, "outlast_host_maintenance b lab u": 0,
        "outlast_host_lights yellow b lab u": 0, "outlast_host_lights red b lab u": 0,
    }  # fmt: skip
