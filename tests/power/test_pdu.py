"""The port to power switches with fence_apc_snmp, against Net-SNMP's daemon as a PDU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pdu import COMMUNITY, PASSPHRASE, PRIVATE, Pdu, missing

from outlast.equipment import PowerSwitch
from outlast.power import agents, hiding
from outlast.power.fencing import FencePower
from outlast.power.port import Power, SwitchSaid
from outlast.power.switches import store
from outlast.storage.memory import MemoryRegister

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
UUID = "00000001-0000-4000-8000-000000000000"
LIMIT_S = 60.0
V3 = ("snmp_version=3", "username=root", "snmp_auth_prot=SHA", "snmp_priv_prot=AES",
      "snmp_sec_level=authPriv")  # fmt: skip
WAYS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "community": ((), {"community": COMMUNITY}),
    "version 3": (V3, {"password": PASSPHRASE, "snmp_priv_passwd": PRIVATE}),
}


def said(pdu: Pdu, folder: Path, more: tuple[str, ...], secrets: dict[str, str]) -> SwitchSaid:
    register = MemoryRegister()
    switch = PowerSwitch(1, UUID, "fence_apc_snmp", pdu.options(*more))
    store(register, folder, switch, secrets)
    return FencePower(register, folder).test(1, UUID, LIMIT_S)


@pytest.mark.parametrize("way", WAYS)
def test_no_secret_is_an_argument_of_any_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Nor is anything left of them: their file goes with the call."""
    for tool in hiding.SNMP_TOOLS:
        spy = tmp_path / "bin" / tool
        spy.parent.mkdir(exist_ok=True)
        spy.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/said\nexec /usr/bin/{tool} "$@"\n')
        spy.chmod(0o755)
    path = f"{tmp_path}/bin:{agents.ENVIRONMENT['PATH']}"
    monkeypatch.setattr(agents, "ENVIRONMENT", {**agents.ENVIRONMENT, "PATH": path})
    monkeypatch.setattr(hiding, "MEMORY", tmp_path / "memory")
    hiding.MEMORY.mkdir()
    more, secrets = WAYS[way]
    with Pdu(tmp_path) as pdu:
        found = said(pdu, tmp_path, more, secrets)
        assert found.power is Power.ON, found
        told = (tmp_path / "said").read_text()
        assert " .1.3.6.1.4.1.318.1.1.12.3.5.1.1.4.3" in told
        assert not [secret for secret in secrets.values() if secret in told]
        assert list(hiding.MEMORY.iterdir()) == []
