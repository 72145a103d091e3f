"""`outlast network`: what is wished, how it stands here, what is refused."""

from __future__ import annotations

import json
import ssl
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


def test_which_network_between_hosts_is_for_what(
    outlast: Outlast, pool: Path, tmp_path: Path
) -> None:
    assert "no host has joined" in outlast(*given(pool, "hosts")).out
    networks = ("--address", "127.0.0.1", "--address", "127.0.0.2", "--api-address", "127.0.0.3")
    joined = outlast(
        "host", "join", str(pool), "--name", "a", "--no-wait", *networks,
        "--migration-address", "127.0.0.4",
    )  # fmt: skip
    assert joined.code == 0, joined.err
    assert outlast(*given(pool, "hosts", "--json")).json["hosts"] == [
        {"host": "a", "management": "127.0.0.3:7791", "migration": "127.0.0.4",
         "heartbeat": ["127.0.0.1:7790", "127.0.0.2:7790"]}
    ]  # fmt: skip
    said = outlast(*given(pool, "hosts")).out
    assert "heartbeat 127.0.0.1:7790, 127.0.0.2:7790  migration 127.0.0.4" in said
    cert = ssl._ssl._test_decode_cert(str(tmp_path / "etc/pki/cert.pem"))  # type: ignore[attr-defined]
    named = {value for kind, value in cert["subjectAltName"] if kind == "IP Address"}
    assert named == {"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"}


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
