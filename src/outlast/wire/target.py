"""Where an agent is reached: a unix socket on this host, or https with this pool's certificates.

    unix:/run/outlast/agent.sock      root of the host itself (role admin)
    https://10.0.0.5:7791             anybody with a certificate of the pool

Without one the environment's OUTLAST_AGENT counts, else the socket in OUTLAST_RUN.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from outlast.errors import InvalidInput

API_PORT = 7791


@dataclass(frozen=True, slots=True)
class Target:
    """`socket` is set for a unix socket, else `host` and `port`."""

    text: str
    socket: str = ""
    host: str = ""
    port: int = 0

    @property
    def base(self) -> str:
        """What URLs begin with; the name in it means nothing on a unix socket."""
        if self.socket:
            return "http://agent"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


def parse_target(text: str = "") -> Target:
    """The target a text names; the default one for "".

    Raises InvalidInput.
    """
    text = text or os.environ.get("OUTLAST_AGENT", "")
    if not text:
        run = os.environ.get("OUTLAST_RUN", "/run/outlast")
        text = f"unix:{run}/agent.sock"
    if text.startswith("unix:/"):
        return Target(text, socket=text.removeprefix("unix:"))
    try:
        parts = urlsplit(text)
        if parts.scheme == "https" and parts.hostname and parts.path in {"", "/"}:
            return Target(text, host=parts.hostname, port=parts.port or API_PORT)
    except ValueError:
        pass
    raise InvalidInput(
        f"{text[:100]!r} names no agent",
        hint="unix:/run/outlast/agent.sock or https://HOST:7791",
    )


def certificates() -> Path:
    """The folder with this user's or host's certificate."""
    return Path(os.environ.get("OUTLAST_ETC", "/etc/outlast")) / "pki"
