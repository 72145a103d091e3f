"""Revoking certificates by name or serial: exactly those, and nobody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Outlast

from outlast.wire import seal
from outlast.wire.revocation import issued


def revoked(pool: Path) -> set[str]:
    return {one.serial for one in issued(pool / "pki") if one.revoked}


def test_a_host_whose_name_is_a_digit_of_serials(pool: Path, outlast: Outlast) -> None:
    """A serial may end with the name of a host: that is no reason to revoke it."""
    seal.issue_host(pool / "pki", "a", "u", ["127.0.0.1"])
    while not any(one.serial.endswith("a") for one in issued(pool / "pki") if one.name == "b"):
        seal.issue_host(pool / "pki", "b", "u", ["127.0.0.1"])
    said = outlast("pool", "revoke", "a", "--pool", str(pool))
    assert said.code == 0
    gone = [one for one in issued(pool / "pki") if one.revoked]
    assert [one.name for one in gone] == ["a"]


def test_by_the_end_of_a_serial(pool: Path, outlast: Outlast) -> None:
    for _ in range(2):
        seal.issue_host(pool / "pki", "anna", "u", [], "admin")
    first = issued(pool / "pki")[0].serial
    shown = json.loads(outlast("--json", "pool", "certificates", "--pool", str(pool)).out)
    assert [one["role"] for one in shown["certificates"]] == ["admin", "admin"]
    assert outlast("pool", "revoke", first[-16:], "--pool", str(pool)).code == 0
    assert revoked(pool) == {first}
    assert outlast("pool", "revoke", "anna", "--but-newest", "--pool", str(pool)).code != 0
    assert outlast("pool", "revoke", "anna", "--pool", str(pool)).code == 0
    assert len(revoked(pool)) == 2
    assert "nothing of bob" in outlast("pool", "revoke", "bob", "--pool", str(pool)).err


@pytest.mark.parametrize("name", ["", "a" * 7])
def test_what_names_nothing_revokes_nothing(pool: Path, outlast: Outlast, name: str) -> None:
    seal.issue_host(pool / "pki", "b", "u", ["127.0.0.1"])
    assert outlast("pool", "revoke", name, "--pool", str(pool)).code != 0
    assert revoked(pool) == set()
