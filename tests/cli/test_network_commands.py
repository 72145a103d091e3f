"""`outlast network`: what is wished, how it stands here, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Outlast


def given(pool: Path, *args: str) -> tuple[str, ...]:
    return ("network", *args, "--pool", str(pool))


def test_a_networks_whole_life(outlast: Outlast, pool: Path, tmp_path: Path) -> None:
    assert "no networks" in outlast(*given(pool, "list")).out
    made = outlast(*given(pool, "create", "lan", "--uplink", "none0", "--vlan", "20"))
    assert made.code == 0 and "shall be on every host" in made.out
    assert outlast(*given(pool, "create", "lan")).code == 4
    assert "none0, VLAN 20, MTU 1500: -" in outlast(*given(pool, "list")).out, "no host"
    (tmp_path / "etc").mkdir(exist_ok=True)
    (tmp_path / "etc/host.json").write_text(json.dumps({"host": "a"}))
    shown = outlast(*given(pool, "list", "--json")).json
    assert shown["host"] == "a" and "no card none0" in shown["networks"][0]["here"]
    assert outlast(*given(pool, "remove", "lan")).code == 0
    assert outlast(*given(pool, "remove", "lan")).code == 3


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("create", "Lan"), "network name"),
        (("create", "lan", "--vlan", "20"), "of which card"),
        (("create", "lan", "--mtu", "1"), "an MTU of 1"),
        (("create", "lan", "--uplink-of", "b"), "not like b=eth1"),
    ],
)
def test_what_is_refused(outlast: Outlast, pool: Path, args: tuple[str, ...], words: str) -> None:
    said = outlast(*given(pool, *args))
    assert (said.code, words in said.err) == (2, True)
