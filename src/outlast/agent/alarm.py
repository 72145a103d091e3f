"""What is wrong with what a host reads and writes, in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast.pool.facts import Answering

TOLD = 3  # registers that cannot be read are named, of more the number is told


def alarm(
    snapshot: Mapping[str, Any], stores: Mapping[str, Answering], unread: Mapping[str, str]
) -> str:
    """snapshot: the pulse's. unread: register -> why. "" when nothing is wrong."""
    said = [snapshot.get("alarm"), (snapshot.get("storage") or {}).get("error")]
    for name, state in sorted(stores.items()):
        said.append(state.trouble and f"the storage {name}: {state.trouble}")
    said += [f"{name}: {why}" for name, why in sorted(unread.items())][:TOLD]
    if len(unread) > TOLD:
        said.append(f"{len(unread) - TOLD} more registers cannot be read")
    return "; ".join(str(sentence) for sentence in said if sentence)
