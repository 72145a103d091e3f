"""The shape of what people may change of a pool; a part of its status (shapes.py)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PoolSettingsInfo(BaseModel):
    """What people may change of a pool; see PoolChange."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    moves_at_once: int = 2
    move_mib_s: int = 0
    move_connections: int = 1
    vcpu_ratio: float = 8.0
    memory_ratio: float = 1.0
    admission: str = "warn"
    balance: str = "off"
    balance_moves_h: int = 6
    cpu_mode: str = "auto"
    cpu: str = ""  # what VMs see; "" = their host's own
    join: str = "anyone"
    restart_limit: int = 5
    restart_window_s: int = 600
    partition: str = "fence"
    witness: str = ""
    drill_vm: str = ""
    drill_kind: str = "vm"
    drill_at: str = ""
