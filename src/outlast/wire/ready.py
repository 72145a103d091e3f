"""When a VM counts as ready for those that start after it: the field `ready` of a VM.

agent               the QEMU agent in its system answers
tcp:5432            the port answers, at an address its host can learn of
tcp:10.0.0.5:5432   the port answers at this address; IPv6 in brackets
delay:30            it has run for so many seconds
""                  it runs
"""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

PORT_MAX, DELAY_MAX_S = 65535, 3600
WANTED = "agent, tcp:PORT, tcp:ADDRESS:PORT or delay:SECONDS is wanted"


def _checked(text: str) -> str:
    """The text itself. Raises ValueError with a sentence."""
    kind, _, rest = text.partition(":")
    if text in {"", "agent"}:
        return text
    if kind == "delay" and rest.isascii() and rest.isdigit() and int(rest) <= DELAY_MAX_S:
        return text
    address, colon, port = rest.rpartition(":")
    good = kind == "tcp" and port.isascii() and port.isdigit() and 0 < int(port) <= PORT_MAX
    if not good or (colon and not _is_address(address)):
        raise ValueError(f"{text[:60]!r} is no sign of readiness; {WANTED}")
    return text


def _is_address(text: str) -> bool:
    six = text.startswith("[") and text.endswith("]")
    try:
        return ipaddress.ip_address(text.strip("[]")).version == (6 if six else 4)
    except ValueError:
        return False


Ready = Annotated[str, Field(max_length=80), AfterValidator(_checked)]
