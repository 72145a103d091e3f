"""The agents' API through a manager: a person's token in place of a certificate.

Promises:
1. Whatever an AgentClient asks, this one asks of a pool that the manager follows.
2. The token goes to that manager only, over TLS that was checked: against `trust` when there is
   one, which is the manager's own certificate, else against this machine's authorities.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from outlast.errors import InvalidInput, OutlastError, Refused, Unreachable
from outlast.model import Line
from outlast.wire.client import AgentClient, OutcomeUnknown
from outlast.wire.target import Target

MANAGER_PORT = 7792
WITHOUT = "pools work without their manager: say it on a host, or with --agent https://HOST:7791"


@dataclass(frozen=True, slots=True)
class ManagerPlace:
    """A manager, one of its pools ("" = none yet), and who asks there."""

    host: str
    port: int
    pool: str = ""
    token: str = field(default="", repr=False)
    trust: str = field(default="", repr=False)  # PEM

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """Raises InvalidInput for a certificate that is none."""
        try:
            return ssl.create_default_context(cadata=self.trust or None)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidInput("the manager's certificate is none", hint="a PEM file") from error


def parse_manager(text: str) -> ManagerPlace:
    """`https://manager.example:7792/lab`. Raises InvalidInput."""
    try:
        parts = urlsplit(text)
        pool = parts.path.strip("/")
        if parts.scheme == "https" and parts.hostname and "/" not in pool and not parts.query:
            return ManagerPlace(parts.hostname, parts.port or MANAGER_PORT, pool)
    except ValueError:
        pass
    raise InvalidInput(f"{text[:100]!r} names no manager", hint="https://manager.example:7792/POOL")


class ManagerClient(AgentClient):
    """Raises InvalidInput when no pool is named, Refused when nobody is logged in."""

    _hint = "check --manager or OUTLAST_MANAGER"

    def __init__(
        self, place: ManagerPlace, *, timeout_s: float = 12, wish_timeout_s: float = 60
    ) -> None:
        if not place.token:
            hint = f"outlast login {place.url}/POOL"
            raise Refused(f"nobody is logged in at {place.url}", hint=hint)
        if place.pool in {"", ".", ".."}:
            raise InvalidInput("which of the manager's pools?", hint=f"--manager {place.url}/POOL")
        target = Target(f"{place.url}/{place.pool}", host=place.host, port=place.port)
        super().__init__(target, timeout_s=timeout_s, wish_timeout_s=wish_timeout_s)
        self._place = place
        self._prefix = f"/api/v1/pools/{quote(place.pool, safe='')}/agent"
        self._headers = {"Authorization": f"Bearer {place.token}"}

    def page(self, vm: str, what: Line) -> str:
        """Where a browser shows a VM's console or screen."""
        pool, vm = quote(self._place.pool, safe=""), quote(vm, safe="")
        return f"{self._place.url}/pools/{pool}/vms/{vm}/{what}"

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection(
            self.target.host, self.target.port, timeout=timeout_s, context=self._place.context()
        )

    def _unreachable(self, error: OSError, timeout_s: float) -> OutlastError:
        where = self._place.url
        if isinstance(error, ssl.SSLCertVerificationError):
            return Refused(
                f"{where} has another certificate than was trusted: {error.verify_message}",
                hint="if it was renewed on purpose: outlast login again",
            )
        reason = error.strerror or str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            reason = f"nothing within {timeout_s:g} s"
        return Unreachable(f"no manager answers at {where}: {reason}", hint=WITHOUT)

    def _no_answer(self, error: Exception, method: str, timeout_s: float) -> OutlastError:
        found = super()._no_answer(error, method, timeout_s)
        return (
            found
            if isinstance(found, OutcomeUnknown)
            else type(found)(found.sentence, hint=WITHOUT)
        )
