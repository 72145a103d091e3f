"""One pool's part of an etcd cluster, over the JSON gateway of its v3 API: requests and their ends.

Rules:
1. Each request is over within `answer_s` for each address, whatever etcd or the network does; a
   stuck etcd looks like a stuck disk, never like an empty one. One pass over all addresses, begun
   with the one that answered last; nothing is asked again after that.
2. Every read is linearizable: a member that cannot reach a majority gives no answer, least of all
   an old one.
3. A request without an answer may be carried out late, even after its caller has died. Whoever
   writes does so by `swap_key`: only where the key still has the revision that was read. A request
   that comes late finds another revision and does nothing.
4. What etcd gives never goes back: a smaller revision than one seen before, or another cluster
   behind the same addresses, is no answer.
5. `NoAnswer` means not known; every other StorageTrouble of a write means: certainly not written.

It deliberately keeps nothing alive: no lease of etcd, no watch. Standard library only, for the
pulse lives on it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from outlast.errors import InvalidInput, StorageTrouble
from outlast.storage.etcd_access import ROOT, Access, check_access
from outlast.storage.etcd_tls import Credentials

VALUE_MAX = 1 << 20  # bytes; etcd takes 1.5 MiB for a whole request unless it is told otherwise
ANSWER_MAX = 64 << 20  # bytes of one answer; far above any real one
IDLE_MAX = 4  # connections that are kept for the next request, for each address
_INVALID, _EXHAUSTED, _DENIED, _UNAUTHENTICATED, _OUT_OF_RANGE = 3, 8, 7, 16, 11
_REFUSALS = frozenset({_INVALID, _EXHAUSTED, _DENIED, _UNAUTHENTICATED, _OUT_OF_RANGE})
_MAJORITY_HINT = "does a majority of its members run, and is it reached from here?"
_CERTIFICATE_HINT = "renew what has ended; nothing is to be restarted (docs/operating/etcd.md)"

Json = dict[str, Any]


class NoAnswer(StorageTrouble):
    """etcd did not say what became of a request."""


class _Unsent(OSError):
    """There was no connection, so nothing was sent."""


@dataclass(frozen=True, slots=True)
class Value:
    """What stands under a key; revision 0: nothing does."""

    data: bytes = b""
    revision: int = 0


NOTHING = Value()


@dataclass(frozen=True, slots=True)
class Swapped:
    """The end of a swap of a key."""

    done: bool  # by this request, surely
    stands: Value  # what stands there now
    asked_before: bool  # a first try was not answered, and may have been done


class Etcd:
    """See the rules above. Safe for several threads."""

    def __init__(self, access: Access) -> None:
        """Connects to nothing yet."""
        self.access = check_access(access)
        self._lock = threading.Lock()
        self._first = 0  # index of the address that answered last
        self._idle: list[list[http.client.HTTPConnection]] = [[] for _ in access.urls]
        self._credentials = Credentials(Path(access.pki))
        self._cluster = ""
        self._revision = 0
        self._date = ""  # as the last answer had it

    # ---- keys; names are counted from the pool's prefix

    def get(self, name: str) -> Value:
        """Raises StorageTrouble."""
        return self.range(name).get(name, NOTHING)

    def range(self, name: str, end: str = "", *, keys_only: bool = False) -> dict[str, Value]:
        """The key, or all from `name` to before `end`. Raises StorageTrouble."""
        ask: Json = {"key": self._key(name), "keys_only": keys_only}
        if end:
            ask["range_end"] = self._key(end)
        return self._values(self.call("/v3/kv/range", ask))

    def folder(self, name: str, *, keys_only: bool = False) -> dict[str, Value]:
        """All keys below `name`, which ends with "/". Raises StorageTrouble."""
        return self.range(name, name[:-1] + chr(ord("/") + 1), keys_only=keys_only)

    def swap_key(self, name: str, revision: int, data: bytes) -> Swapped:
        """Write if the key has this revision.

        Raises InvalidInput for what is too large, NoAnswer, StorageTrouble.
        """
        if len(data) > VALUE_MAX:
            raise InvalidInput(
                f"{name}: {len(data)} bytes are too much for etcd", hint=f"at most {VALUE_MAX}"
            )
        ask = self._transaction([(name, revision)], {name: data}, look=name)
        answer, again = self._call("/v3/kv/txn", ask)
        if answer.get("succeeded") is True:
            stands = Value(data, _number(_part(answer, "header"), "revision"))
            return Swapped(True, stands, again)
        found = _part(_first(answer.get("responses")), "response_range")
        return Swapped(False, self._values(found).get(name, NOTHING), again)

    def transaction(
        self, compare: Sequence[tuple[str, int]], put: Mapping[str, bytes],
        delete: Iterable[str] = (),
    ) -> bool:  # fmt: skip
        """Write and delete all or nothing, if all these keys have these revisions. Was it done?

        False may also mean that it was done at the first try, whose answer was lost. Raises
        NoAnswer, StorageTrouble.
        """
        answer = self.call("/v3/kv/txn", self._transaction(compare, put, delete))
        return answer.get("succeeded") is True

    def _transaction(
        self, compare: Sequence[tuple[str, int]], put: Mapping[str, bytes],
        delete: Iterable[str] = (), look: str = "",
    ) -> Json:  # fmt: skip
        return {
            "compare": [
                {"target": "MOD", "key": self._key(name), "mod_revision": str(revision),
                 "result": "EQUAL"} for name, revision in compare
            ],
            "success": [
                {"request_put": {"key": self._key(name), "value": _text(data)}}
                for name, data in put.items()
            ] + [{"request_delete_range": {"key": self._key(name)}} for name in delete],
            "failure": [{"request_range": {"key": self._key(look)}}] if look else [],
        }  # fmt: skip

    # ---- requests

    def call(self, path: str, ask: Json) -> Json:
        """One request, rule 1. Raises NoAnswer, StorageTrouble."""
        return self._call(path, ask)[0]

    def _call(self, path: str, ask: Json) -> tuple[Json, bool]:
        """The same; and whether a member that was silent may have carried it out before."""
        said: list[str] = []
        unknown, known = False, self._revision
        for step in range(len(self.access.urls)):
            index = (self._first + step) % len(self.access.urls)
            try:
                code, answer, again = self._ask(index, path, json.dumps(ask).encode())
            except (OSError, ValueError, http.client.HTTPException) as error:
                unknown |= not isinstance(error, _Unsent)
                said.append(f"{self.access.urls[index]}: {_why(error)}")
                continue
            if code == 0:
                self._first = index
                self._heed(_part(answer, "header"), known)
                return answer, unknown or again
            unknown |= again
            words = str(answer.get("message") or answer.get("error") or f"code {code}")
            if code in _REFUSALS and not unknown:
                raise _refusal(code, words)
            unknown = True
            said.append(f"{self.access.urls[index]}: {words.removeprefix('etcdserver: ')}")
        kind = NoAnswer if unknown else StorageTrouble
        raise kind(
            f"etcd does not answer: {'; '.join(said)}",
            hint=_CERTIFICATE_HINT if "certificate" in "".join(said) else _MAJORITY_HINT,
        )

    @property
    def revision(self) -> int:
        """The newest that any answer has shown."""
        return self._revision

    def clock_s(self) -> float:
        """The wall clock of the member that answers, to half a second. Raises StorageTrouble."""
        self.get("clock")
        try:
            return parsedate_to_datetime(self._date).timestamp() + 0.5
        except (TypeError, ValueError):
            raise NoAnswer(f"etcd does not say what time it has, but {self._date!r}") from None

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, [[] for _ in self.access.urls]
        for connection in (one for some in idle for one in some):
            connection.close()

    def _ask(self, index: int, path: str, body: bytes) -> tuple[int, Json, bool]:
        """etcd's code (0: well) and answer, from one address and by rule 1's time.

        A kept connection may have ended meanwhile: then it is asked once more over a new one, and
        the last of the three says so, for the first request may have arrived all the same.
        """
        until = time.monotonic() + self.access.answer_s
        kept = self._take(index)
        try:
            return *self._exchange(index, kept or self._connect(index), path, body, until), False
        except (ConnectionError, http.client.BadStatusLine):
            if kept is None or time.monotonic() >= until:
                raise
        try:
            return *self._exchange(index, self._connect(index), path, body, until), True
        except _Unsent as error:
            raise ConnectionError(str(error)) from None

    def _exchange(
        self, index: int, connection: http.client.HTTPConnection, path: str, body: bytes,
        until: float,
    ) -> tuple[int, Json]:  # fmt: skip
        try:
            if connection.sock is None:
                _open(connection, until)
            connection.sock.settimeout(_left(until))
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            connection.sock.settimeout(_left(until))
            response = connection.getresponse()
            self._date = response.getheader("Date", "")
            data = bytearray()
            while piece := response.read1(1 << 16):
                data += piece
                if len(data) > ANSWER_MAX:
                    raise ValueError("an answer without end")
                if connection.sock is not None:
                    connection.sock.settimeout(_left(until))
            response.close()
            answer = json.loads(data)
        except BaseException:
            connection.close()
            raise
        if response.status == 200 and isinstance(answer, dict):
            self._keep(index, connection)
            return 0, answer
        connection.close()  # after an error its gateway leaves odd bytes behind the answer
        answer = answer if isinstance(answer, dict) else {}
        code = answer.get("code")
        return code if isinstance(code, int) and code else -1, answer

    def _take(self, index: int) -> http.client.HTTPConnection | None:
        with self._lock:
            return self._idle[index].pop() if self._idle[index] else None

    def _keep(self, index: int, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if connection.sock is not None and len(self._idle[index]) < IDLE_MAX:
                self._idle[index].append(connection)
                return
        connection.close()

    def _connect(self, index: int) -> http.client.HTTPConnection:
        parts = urlsplit(self.access.urls[index])
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self.access.answer_s)
        return http.client.HTTPSConnection(
            host, port, timeout=self.access.answer_s, context=self._credentials.context()
        )

    def _heed(self, header: Json, known: int) -> None:
        """Rule 4; known: the newest revision that had been seen when the request began."""
        cluster, revision = str(header.get("cluster_id", "")), _number(header, "revision")
        with self._lock:
            before, self._cluster = self._cluster, self._cluster or cluster
            self._revision = max(self._revision, revision)
        if cluster and before and cluster != before:
            raise NoAnswer(
                "another etcd cluster answers at the pool's addresses",
                hint="was it made anew or restored? stop the pool's services on all hosts first",
            )
        if revision and revision < known:
            raise NoAnswer(
                f"etcd went back in time: it is at revision {revision} now",
                hint="was a backup brought back? stop the pool's services on all hosts first",
            )

    def _key(self, name: str) -> str:
        return _text((self.access.prefix + name).encode())

    def _values(self, answer: Json) -> dict[str, Value]:
        start = len(self.access.prefix)
        try:
            return {
                base64.b64decode(one["key"]).decode()[start:]: Value(
                    base64.b64decode(one.get("value", "")), int(one["mod_revision"])
                )
                for one in answer.get("kvs", ())
            }
        except (KeyError, TypeError, ValueError) as error:
            raise NoAnswer(f"etcd gave an answer that cannot be read: {error!r}") from None


def pools(etcd: Etcd) -> list[str]:
    """The names of all pools there, whatever the access says. Raises StorageTrouble."""
    ask = {"key": _text(ROOT.encode()), "range_end": _text(ROOT[:-1].encode() + b"0"),
           "keys_only": True}  # fmt: skip
    found = etcd.call("/v3/kv/range", ask).get("kvs", ())
    names = (base64.b64decode(one["key"]).decode().split("/") for one in found)
    return sorted(parts[2] for parts in names if parts[3:] == ["file", "pool.json"])


def remove_all(etcd: Etcd) -> None:
    """Remove every key of a pool. Raises StorageTrouble."""
    prefix = etcd.access.prefix.encode()
    ask = {"key": _text(prefix), "range_end": _text(prefix[:-1] + b"0")}
    etcd.call("/v3/kv/deleterange", ask)


def compact(etcd: Etcd, revision: int) -> None:
    """Let etcd forget what was overwritten before this revision. Raises StorageTrouble."""
    try:
        etcd.call("/v3/kv/compaction", {"revision": str(revision)})
    except StorageTrouble as trouble:
        if "compacted" not in trouble.sentence:  # another host was faster
            raise


def _open(connection: http.client.HTTPConnection, until: float) -> None:
    try:
        connection.timeout = _left(until)
        connection.connect()
    except OSError as error:
        raise _Unsent(_why(error)) from None


def _refusal(code: int, words: str) -> StorageTrouble:
    words = words.removeprefix("etcdserver: ")
    if code == _EXHAUSTED and "space" in words:
        return StorageTrouble(
            "etcd is full: its quota is used up, so it takes no more writes",
            hint="compact and defragment it, then 'etcdctl alarm disarm' (docs/operating/etcd.md)",
        )
    if code in {_DENIED, _UNAUTHENTICATED}:
        return StorageTrouble(f"etcd refuses this host: {words}", hint="check its certificate")
    return StorageTrouble(f"etcd refuses: {words}")


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLEOFError):  # so etcd does with a certificate it does not take
        return "it broke off: is this host's certificate good?"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _first(value: object) -> Json:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def _part(value: Json, name: str) -> Json:
    part = value.get(name)
    return part if isinstance(part, dict) else {}


def _number(value: Json, name: str) -> int:
    with contextlib.suppress(TypeError, ValueError):
        return int(value.get(name, 0))
    return 0
