"""systemd's file for one mount. Pure.

Rules:
1. Only a unit with our mark is ever changed or removed; one of somebody else is left alone.
2. It is mounted before guard, pulse and libvirt begin and unmounted after they have ended, so that
   a host that shuts down can still say so on the pool's storage.
3. Never lazily and never by force: what is in use stays mounted.
"""

from __future__ import annotations

from outlast.errors import InvalidInput
from outlast.mounts.options import Choice

MARK = "X-Outlast"
LIMIT_S = 60
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_."
# else a boot mounts before its nodes can agree, and a shutdown ends their agreement first
_AFTER = {"ocfs2": "o2cb.service", "gfs2": "dlm.service"}
_OWN = ("/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/usr", "/var/lib/outlast")


def check_path(path: str) -> str:
    """A place where storage may be mounted, in its plain form. Raises InvalidInput."""
    parts = [part for part in path.split("/") if part]
    plain = "/" + "/".join(parts)
    bad = any(ord(c) < 33 or ord(c) > 126 or c in "%\\\"'" for c in path) or ".." in parts
    if not path.startswith("/") or bad or "." in parts or not parts or len(plain) > 200:
        raise InvalidInput(f"{path[:80]!r} is no place to mount at", hint="like /srv/pool")
    if any(plain == own or plain.startswith(own + "/") for own in _OWN):
        raise InvalidInput(f"{plain} belongs to this machine itself", hint="like /srv/pool")
    return plain


def unit_name(path: str) -> str:
    """The name systemd wants for a mount at this path."""
    plain = check_path(path)[1:]
    escaped = "".join(
        "-" if c == "/" else c if c in _PLAIN and (n or c != ".") else f"\\x{ord(c):02x}"
        for n, c in enumerate(plain)
    )
    return f"{escaped}.mount"


def unit_text(choice: Choice, path: str, name: str) -> str:
    """name: of the repository, or of what is mounted there, for people."""
    reasons = "".join(f"# {option.text}: {option.why}\n" for option in choice.options)
    first = _AFTER.get(choice.kind, "")
    order = f"Wants={first}\nAfter={first}\n" if first else ""
    return f"""\
# Written by outlast; it is written anew when the storage is mounted by it again.
{reasons}[Unit]
Description=Outlast: {name}
Before=outlast-guard.service outlast-pulse.service outlast-agent.service libvirtd.service
{order}{MARK}={name}

[Mount]
What={choice.source.replace("%", "%%")}
Where={check_path(path)}
Type={choice.fs_type}
Options={choice.text}
TimeoutSec={LIMIT_S}

[Install]
WantedBy=remote-fs.target
"""


def of_unit(text: str, what: str) -> str:
    """The value of a line of a unit, like Where; "" = it has none. MARK is in our units only."""
    lines = (line.partition("=") for line in text.splitlines())
    return next((value for name, _, value in lines if name == what), "")
