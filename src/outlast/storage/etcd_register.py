"""The register on etcd: one key for each register, which holds its newest version.

It keeps what register.py promises as long as etcd is linearizable. Rules:

1. The value of a key is the content of a version file (format.py): version, nonce, checksum, all.
2. A swap reads the key and writes version expected + 1 only where the key still has the revision
   that was read. Revisions never come back, so of all swaps with one `expected` one is done, and a
   request that comes late is none.
3. A refusal is a conflict unless the nonce there, or the one before it (`prev`), is this swap's:
   then an earlier try had succeeded and only its answer was lost.
4. What etcd does not answer is asked again for `settle_s` seconds; then the answer is UNKNOWN.
5. Less than was seen before, or another content under a known version, means that etcd went back
   in time: no reading, no swap, StorageTrouble.

Older versions are not kept: nobody needs one, and who missed some sees the newest.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from outlast.errors import StorageTrouble
from outlast.storage.etcd import Etcd, NoAnswer, Value
from outlast.storage.format import Record, record_bytes, record_parse
from outlast.storage.names import SINGLES, check_class, split_name
from outlast.storage.register import Outcome, Swap

FOLDER = "reg/"
_PAUSE_S = 0.1


class EtcdRegister:
    """See the rules above. Safe for several threads."""

    def __init__(
        self,
        etcd: Etcd,
        writer: str,
        *,
        settle_s: float = 5,
        nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        """`writer` names this host in what it writes (its slot)."""
        self._etcd, self._writer = etcd, writer
        self._settle_s, self._nonce = settle_s, nonce
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, str]] = {}  # version and nonce
        self.trouble = ""  # the last trouble that did not reach the caller, for the log

    # ---- the port

    def read(self, name: str) -> tuple[int, dict[str, object] | None]:
        split_name(name)
        before = self._known.get(name)
        version, record = self._parsed(name, self._etcd.get(FOLDER + name))
        self._remember(name, version, record, before)
        return version, record.value if record else None

    def swap(self, name: str, expected: int, value: Mapping[str, object]) -> Swap:
        split_name(name)
        before = self._known.get(name)
        stands = self._etcd.get(FOLDER + name)
        version, record = self._parsed(name, stands)
        self._remember(name, version, record, before)
        nonce = self._nonce()
        data = record_bytes(
            name, expected + 1, nonce, self._writer, value, record.nonce if record else ""
        )
        if version != expected:
            return Swap(Outcome.CONFLICT, version)
        return self._publish(name, expected, stands.revision, data, nonce)

    def names(self, kind: str) -> list[str]:
        check_class(kind)
        if kind in SINGLES:
            return [kind] if self._etcd.get(FOLDER + kind).revision else []
        found = self._etcd.folder(f"{FOLDER}{kind}/", keys_only=True)
        return sorted(name.removeprefix(FOLDER) for name in found)

    # ---- as the pulse reads

    def newest(self, name: str) -> tuple[int, dict[str, object] | None]:
        return self.read(name)

    def newer(
        self, name: str, known: int, _named: Iterable[int]
    ) -> Iterator[tuple[int, dict[str, object]]]:
        """The newest version if it is above `known`. Raises StorageTrouble when it is below."""
        version, value = self.read(name)
        if version < known:
            raise _backwards(name, known, version)
        if version > known and value is not None:
            yield version, value

    # ---- inside

    def _publish(self, name: str, expected: int, revision: int, data: bytes, nonce: str) -> Swap:
        give_up = time.monotonic() + self._settle_s
        asked_before = False
        while True:
            try:
                swapped = self._etcd.swap_key(FOLDER + name, revision, data)
                break
            except NoAnswer as trouble:
                self.trouble, asked_before = f"swap of {name}: {trouble.sentence}", True
            except StorageTrouble:
                if not asked_before:
                    raise  # refused at the first try: certainly not written
            if time.monotonic() >= give_up:
                return Swap(Outcome.UNKNOWN, expected)
            time.sleep(_PAUSE_S)
        asked_before |= swapped.asked_before
        try:
            version, record = self._parsed(name, swapped.stands)
            self._remember(name, version, record, (expected, ""))
        except StorageTrouble as trouble:
            if not (swapped.done or asked_before):
                raise
            self.trouble = f"swap of {name}: {trouble.sentence}"
            return Swap(Outcome.UNKNOWN, expected)
        if swapped.done or (record is not None and nonce in {record.nonce, record.prev}):
            return Swap(Outcome.OK, expected + 1)
        # whose version expected + 1 was can be told only from it and the one after it
        sure = version <= expected + 2 or not asked_before
        return Swap(Outcome.CONFLICT if sure else Outcome.UNKNOWN, version)

    def _parsed(self, name: str, stands: Value) -> tuple[int, Record | None]:
        if not stands.revision:
            return 0, None
        version = version_in(stands.data)
        return version, record_parse(stands.data, name, version)

    def _remember(
        self, name: str, version: int, record: Record | None, before: tuple[int, str] | None
    ) -> None:
        """Rule 5. `before` is what was known when the reading began."""
        if before and before[0] > version:
            raise _backwards(name, before[0], version)
        nonce = record.nonce if record else ""
        with self._lock:
            known = self._known.get(name, (0, ""))
            if known[0] == version and known[1] != nonce:
                raise StorageTrouble(
                    f"version {version} of register {name} is not what it was",
                    hint="was a backup of etcd brought back? stop the pool's services first",
                )
            if version > known[0]:
                self._known[name] = (version, nonce)


def version_in(data: bytes) -> int:
    """The version that a record says it is; record_parse tells whether that is true."""
    words = data[:200].split(b" ", 3)
    return int(words[2]) if len(words) > 3 and words[2].isdigit() else 0


def _backwards(name: str, known: int, version: int) -> StorageTrouble:
    return StorageTrouble(
        f"etcd went back in time: register {name} was at version {known}, it is at {version} now",
        hint="was a backup brought back? stop the pool's services on all hosts first",
    )
