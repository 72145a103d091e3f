"""A typed, synchronous client of the agent's API, for the command line.

Promises:
1. Every refusal of the agent comes back as the error class it was there, with sentence and hint.
2. Trouble on the way is Unreachable with a hint; after a wish it says that the outcome is unknown.
3. Only the standard library is used on the way; one connection a call, unless `keep` is said:
   then questions, and only they, share one until `close`.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import quote, urlencode

from pydantic import BaseModel

from outlast.errors import InvalidInput, OutlastError, Refused, Unreachable, by_code
from outlast.wire.drills import DrillInfo, DrillWish
from outlast.wire.seal import client_context
from outlast.wire.shapes import (
    HaSwitch,
    HostMaintain,
    HostServe,
    HostWish,
    PoolChange,
    PoolStatus,
    PoolWish,
    TimelineEntry,
    VmChange,
    VmCreate,
    VmDelete,
    VmDetail,
    VmMigrate,
    VmStatus,
    VmWish,
    parse,
    parse_list,
)
from outlast.wire.target import Target, certificates, parse_target
from outlast.wire.why import Why

log = logging.getLogger("outlast.wire")

ANSWER_MAX = 64 << 20
JOIN_HINT = "is outlast-agent running here? A host that is in no pool yet: outlast host join DIR"

_S = TypeVar("_S", bound=BaseModel)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("agent", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class OutcomeUnknown(Unreachable):
    """The connection broke after a wish was sent: whether it was taken is not known."""


class AgentClient:
    """One agent. Raises InvalidInput for a target that is none."""

    _prefix = ""  # before each path
    _headers: Mapping[str, str] = MappingProxyType({})
    _hint = "check --agent or OUTLAST_AGENT"

    def __init__(
        self, target: str | Target = "", *, timeout_s: float = 12, wish_timeout_s: float = 45,
        pki: Path | None = None, keep: bool = False,
    ) -> None:  # fmt: skip
        """timeout_s: for questions; wishes may wait for the storage and for a VM's end.

        pki: the folder with the caller's certificate; None = this user's or host's own.
        """
        self.target = parse_target(target) if isinstance(target, str) else target
        self._timeout_s, self._wish_timeout_s = timeout_s, wish_timeout_s
        self._pki, self._keep = pki, keep
        self._kept: http.client.HTTPConnection | None = None

    # ---- questions

    def status(self) -> PoolStatus:
        return self._get("/v1/status", PoolStatus)

    def vms(self) -> list[VmStatus]:
        return self._list("/v1/vms", VmStatus)

    def vm(self, name: str, *, recent: int = 0) -> VmDetail:
        """One VM, with its newest `recent` notes. Raises NotFound."""
        return self._get(f"{_vm(name)}?recent={recent}", VmDetail)

    def timeline(
        self, since_wall_s: float = 0, limit: int = 200, until_wall_s: float | None = None
    ) -> list[TimelineEntry]:
        """Notes of all hosts, oldest first, at most the newest `limit`.

        until_wall_s: those of that moment included; None = up to now.
        """
        until = {} if until_wall_s is None else {"until": repr(until_wall_s)}
        query = urlencode({"since": repr(since_wall_s), "limit": limit} | until)
        return self._list(f"/v1/timeline?{query}", TimelineEntry)

    def why_vm(self, name: str) -> Why:
        """Why a VM runs where it runs, or does not. Raises NotFound, StorageTrouble."""
        return self._get(f"{_vm(name)}/why", Why)

    def why_host(self, name: str) -> Why:
        """Why a host is as it is. Raises NotFound, StorageTrouble."""
        return self._get(f"/v1/hosts/{quote(name, safe='')}/why", Why)

    # ---- wishes

    def create(self, wish: VmCreate) -> VmWish:
        """Raises Conflict when there is such a VM, InvalidInput, StorageTrouble."""
        return self._wish("POST", "/v1/vms", wish)

    def start(self, name: str) -> VmWish:
        return self._wish("POST", f"{_vm(name)}/start")

    def stop(self, name: str) -> VmWish:
        return self._wish("POST", f"{_vm(name)}/stop")

    def kill(self, name: str) -> VmWish:
        return self._wish("POST", f"{_vm(name)}/kill")

    def vm_ha(self, name: str, wish: HaSwitch) -> VmWish:
        """Switch a VM's high availability. Raises NotFound."""
        return self._wish("POST", f"{_vm(name)}/ha", wish)

    def pool_ha(self, wish: HaSwitch) -> PoolWish:
        """Switch high availability of all VMs."""
        raw = wish.model_dump_json(exclude_unset=True).encode()
        return parse(PoolWish, self.call("POST", "/v1/pool/ha", raw))

    def place(self, name: str, change: VmChange) -> VmWish:
        """Change where and when it runs. Raises NotFound, BadField."""
        return self._wish("PATCH", _vm(name), change)

    def picture(self) -> str:
        """The pool as placement sees it, the text of a snapshot. Raises PoolTrouble."""
        return self.call("GET", "/v1/picture").decode()

    def migrate(self, name: str, to: str = "") -> VmWish:
        """Move it while it runs; to: a host, "" = the pool chooses. Raises Conflict, NotFound."""
        return self._wish("POST", f"{_vm(name)}/migrate", VmMigrate(to=to))

    def stay(self, name: str) -> VmWish:
        """Take back the wish to move it."""
        return self._wish("DELETE", f"{_vm(name)}/migrate")

    def delete(self, name: str, *, force: bool = False, with_disks: bool = False) -> VmWish:
        """Raises Conflict while it runs or is held and `force` is not given."""
        body = VmDelete(force=force, with_disks=with_disks)
        return self._wish("DELETE", _vm(name), body)

    def maintain(self, host: str, why: str = "") -> HostWish:
        """Let a host run no VMs for a while. Raises NotFound."""
        return self._host_wish("POST", f"{_host(host)}/maintenance", HostMaintain(why=why))

    def serve(self, host: str, *, bring_back: bool = False) -> HostWish:
        """End a host's maintenance."""
        return self._host_wish(
            "DELETE", f"{_host(host)}/maintenance", HostServe(bring_back=bring_back)
        )

    def confirm_off(self, host: str, why: str = "") -> HostWish:
        """Say that a host is off for certain. Raises NotFound, Conflict while it lives."""
        return self._host_wish("POST", f"{_host(host)}/off", HostMaintain(why=why))

    def leave(self, host: str) -> HostWish:
        """Let a host leave the pool and stay on. Raises NotFound, Conflict."""
        return self._host_wish("POST", f"{_host(host)}/leave", None)

    def remove_host(self, host: str) -> HostWish:
        """Take a host's slot away for good. Raises NotFound, Conflict while it is a member."""
        return self._host_wish("DELETE", _host(host), None)

    def power_on(self, host: str) -> HostWish:
        """Wake a host that is off. Raises NotFound, Conflict."""
        return self._host_wish("POST", f"{_host(host)}/power-on", None)

    def pool_set(self, wish: PoolChange) -> PoolWish:
        """Change settings of the pool. Raises InvalidInput."""
        raw = wish.model_dump_json(exclude_none=True).encode()
        return parse(PoolWish, self.call("PATCH", "/v1/pool/settings", raw))

    def drill(self, wish: DrillWish) -> DrillInfo:
        """Have a failure take place. Raises Conflict with the reasons why it may not now."""
        raw = wish.model_dump_json().encode()
        return parse(DrillInfo, self.call("POST", "/v1/pool/drill", raw))

    def last_drill(self) -> DrillInfo:
        """The pool's newest drill. Raises NotFound."""
        return self._get("/v1/pool/drill", DrillInfo)

    def upgrade(self) -> PoolWish:
        """Have the pool speak the newest protocol that all its hosts speak."""
        return parse(PoolWish, self.call("POST", "/v1/pool/upgrade"))

    def power_off(self, host: str) -> HostWish:
        """Switch a host off. Raises NotFound, Conflict."""
        return self._host_wish("POST", f"{_host(host)}/power-off", None)

    # ---- the way there

    def _get(self, path: str, kind: type[_S]) -> _S:
        return parse(kind, self.call("GET", path))

    def _list(self, path: str, kind: type[_S]) -> list[_S]:
        return parse_list(kind, self.call("GET", path))

    def _wish(self, method: str, path: str, body: BaseModel | None = None) -> VmWish:
        raw = body.model_dump_json(exclude_unset=True).encode() if body else b""
        return parse(VmWish, self.call(method, path, raw))

    def _host_wish(self, method: str, path: str, body: BaseModel | None) -> HostWish:
        raw = body.model_dump_json(exclude_unset=True).encode() if body else b""
        return parse(HostWish, self.call(method, path, raw))

    def call(
        self, method: str, path: str, body: bytes | Iterator[bytes] = b"", length: int = 0
    ) -> bytes:
        """The answer to one call, JSON, for files that know more calls than this one.

        length: of a body that comes in pieces.
        """
        timeout_s = self._timeout_s if method == "GET" else self._wish_timeout_s
        if method == "GET" and self._kept is not None:
            kept, self._kept = self._kept, None
            try:
                return self._exchange(kept, method, path, body, length)
            except TimeoutError as error:
                raise self._no_answer(error, method, timeout_s) from error
            except (OSError, http.client.HTTPException):
                log.debug("%s closed a kept connection; a new one is made", self.target.text)
        connection = self._connection(timeout_s)
        try:
            connection.connect()
        except OSError as error:
            raise self._unreachable(error, timeout_s) from error
        try:
            return self._exchange(connection, method, path, body, length)
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(error, method, timeout_s) from error

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str,
        body: bytes | Iterator[bytes], length: int,
    ) -> bytes:  # fmt: skip
        headers = {"Content-Type": "application/json"} if body else {}
        if not isinstance(body, bytes):
            headers = {"Content-Length": str(length)}
        keeps = False
        try:
            connection.request(
                method, self._prefix + path, body or None, {**headers, **self._headers}
            )
            response = connection.getresponse()
            raw = response.read(ANSWER_MAX)
            keeps = self._keep and response.isclosed() and not response.will_close
        finally:
            if keeps and method == "GET":
                self._kept = connection
            else:
                connection.close()
        kind = response.getheader("Content-Type", "")
        if not kind.startswith("application/json"):
            raise Unreachable(
                f"what answers at {self.target.text} is no agent of Outlast", hint=self._hint
            )
        if response.status >= 400:
            raise error_of(raw)
        return raw

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        target = self.target
        if target.socket:
            return _UnixConnection(target.socket, timeout_s)
        context = client_context(self._pki or certificates())
        return http.client.HTTPSConnection(
            target.host, target.port, timeout=timeout_s, context=context
        )

    def _unreachable(self, error: OSError, timeout_s: float) -> OutlastError:
        where = self.target.text
        if isinstance(error, ssl.SSLCertVerificationError):
            return Refused(
                f"the agent at {where} has no certificate of this pool: {error.verify_message}",
                hint="is it the right address, and the right pool?",
            )
        if isinstance(error, PermissionError):
            return Refused(f"this user may not speak to {where}", hint="run it as root")
        if isinstance(error, TimeoutError):
            sentence = f"the agent at {where} did not answer within {timeout_s:g} s"
            return Unreachable(sentence, hint="is its host up and reachable?")
        hint = JOIN_HINT if self.target.socket else "is its host up and reachable?"
        reason = error.strerror or str(error) or type(error).__name__
        return Unreachable(f"no agent answers at {where}: {reason}", hint=hint)

    def _no_answer(self, error: Exception, method: str, timeout_s: float) -> OutlastError:
        where = self.target.text
        if isinstance(error, ssl.SSLError) and "ALERT" in str(error):
            return Refused(
                f"the agent at {where} does not accept this certificate",
                hint="it must be of the same pool and still valid",
            )
        reason = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            reason = f"no answer within {timeout_s:g} s"
        sentence = f"the connection to {where} broke: {reason}"
        if method == "GET":
            return Unreachable(sentence, hint="try again")
        hint = "whether the wish was taken is not known; look with 'outlast vm list'"
        return OutcomeUnknown(sentence, hint=hint)


def _host(name: str) -> str:
    """The path of a host. Raises InvalidInput."""
    if name in {"", ".", ".."}:
        raise InvalidInput(f"{name!r} is not a usable host name", hint="outlast host list")
    return f"/v1/hosts/{quote(name, safe='')}"


def _vm(name: str) -> str:
    """The path of a VM. Raises InvalidInput for a name that would make another path."""
    if name in {"", ".", ".."}:
        raise InvalidInput(f"{name!r} is not a usable VM name", hint="outlast vm list")
    return f"/v1/vms/{quote(name, safe='')}"


def error_of(raw: bytes) -> OutlastError:
    """The error in an answer of the agent, of the class it was there."""
    try:
        value = json.loads(raw)
        body = value["error"]
        return by_code(str(body["code"]))(str(body["sentence"]), hint=str(body.get("hint", "")))
    except (ValueError, KeyError, TypeError):
        return Unreachable("the agent's answer is not understood", hint="is it the same version?")
