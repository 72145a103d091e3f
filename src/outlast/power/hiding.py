"""Secrets that a fence agent would show: as arguments of ipmitool and of Net-SNMP's programs, which
every program on the machine can read.

Rules:
1. Such an agent is told a stand-in, or nothing, and a program of ours (ipmitool.sh, snmp.sh) in the
   place of those. That one has the secrets from where only root can read: ipmitool from its
   environment, Net-SNMP from a file that lives as long as the call.
2. A Kg key with a zero byte in it, which an environment cannot hold, is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from outlast.errors import InvalidInput

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own, and no disk
KG_KEY, KG_MAX = "hexadecimal_kg", 20
STAND_IN = "@"  # snmp.sh leaves out what has it
IPMITOOL, SNMP = (Path(__file__).with_name(name) for name in ("ipmitool.sh", "snmp.sh"))
SNMP_TOOLS = ("snmpget", "snmpset", "snmpwalk")
SNMP_WORDS = {
    "community": "defCommunity", "password": "defAuthPassphrase", "passwd": "defAuthPassphrase",
    "snmp_priv_passwd": "defPrivPassphrase",
}  # fmt: skip


def hide(
    program: Path, secrets: Mapping[str, str], call: ExitStack
) -> tuple[dict[str, str], dict[str, str]]:
    """What the agent is told instead of its secrets, and more for its environment.

    call: ends when the agent has ended. Raises InvalidInput, OSError.
    """
    if _mentions(program, "ipmitool_path"):
        told = {name: value for name, value in secrets.items() if name not in {"password", KG_KEY}}
        env = {"IPMI_PASSWORD": secrets.get("password", "")}
        if KG_KEY in secrets:
            env["IPMI_KGKEY"] = os.fsdecode(kg_key(secrets[KG_KEY]))
        return told | {"ipmitool_path": str(IPMITOOL)}, env
    if _mentions(program, "fencing_snmp"):
        memory = MEMORY if MEMORY.is_dir() else None
        folder = call.enter_context(TemporaryDirectory(prefix="outlast-fence-", dir=memory))
        file = Path(folder) / "snmp.conf"
        file.touch(0o600)
        hidden = {name: secrets[name] for name in secrets if name in SNMP_WORDS}
        file.write_text("".join(f"{SNMP_WORDS[n]} {_quoted(s)}\n" for n, s in hidden.items()))
        tools = {f"{tool}_path": f"{SNMP} {tool}" for tool in SNMP_TOOLS}
        return {**secrets, **dict.fromkeys(hidden, STAND_IN), **tools}, {
            "SNMPCONFPATH": str(folder)
        }
    return dict(secrets), {}


def kg_key(hexadecimal: str) -> bytes:
    """Raises InvalidInput."""
    try:
        key = bytes.fromhex(hexadecimal).rstrip(b"\0")  # it is filled up with zeros anyway
    except ValueError:
        raise InvalidInput(f"'{KG_KEY}' must be pairs of hexadecimal digits") from None
    if len(key) > KG_MAX or 0 in key:
        raise InvalidInput(
            f"'{KG_KEY}' must have at most {KG_MAX} bytes, none of them zero",
            hint="set another key in the BMC",
        )
    return key


def _quoted(secret: str) -> str:
    escaped = secret.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _mentions(program: Path, word: str) -> bool:
    try:
        return word.encode() in program.read_bytes()
    except OSError:  # starting it will say why
        return False
