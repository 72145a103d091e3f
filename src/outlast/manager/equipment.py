"""A pool's networks and storage, joined of what each of its hosts says of itself (pure).

Rules:
1. Whoever did not answer is in the list, as not known: silence is neither "there" nor "missing".
2. A host that answers and does not know a thing has not seen it yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from outlast.errors import OutlastError, Unreachable
from outlast.wire.equipment import NetworkInfo, NetworkStanding, StorageInfo, StorageStanding

Info = TypeVar("Info", NetworkInfo, StorageInfo)
NOT_YET = "it has not seen it yet"


def joined(said: Mapping[str, Sequence[Info] | OutlastError]) -> list[Info]:
    """Everything that any host knows, in their order, each with how it stands on every host.

    said: by host, what it answered, or why it did not. Raises that when none did.
    """
    known: dict[str, Info] = {}
    for answer in said.values():
        if not isinstance(answer, OutlastError):
            known = {info.name: info for info in answer} | known
    if not known:
        _check(said)
    found = [
        info.model_copy(update={"hosts": [_on(host, info, said[host]) for host in said]})
        for info in known.values()
    ]
    return sorted(found, key=lambda info: (not _own(info), info.name))


def _on(
    host: str, info: Info, answer: Sequence[Info] | OutlastError
) -> NetworkStanding | StorageStanding:
    kind = NetworkStanding if isinstance(info, NetworkInfo) else StorageStanding
    if isinstance(answer, OutlastError):
        return kind(host=host, sentence=answer.sentence)
    standing = (one for theirs in answer if theirs.name == info.name for one in theirs.hosts)
    return next(standing, kind(host=host, sentence=NOT_YET))


def _own(info: NetworkInfo | StorageInfo) -> bool:
    return isinstance(info, StorageInfo) and info.own


def _check(said: Mapping[str, object]) -> None:
    troubles = [answer for answer in said.values() if isinstance(answer, OutlastError)]
    if len(troubles) == len(said):
        raise next(iter(troubles), Unreachable("no host of this pool is known"))
