"""The wrapper in front of QEMU: libvirt's <emulator>. No VM starts past the guard.

It reads `-name guest=NAME` from its arguments, asks the guard to let this very process in (the
guard moves it into the cgroup of that VM), and becomes the real QEMU. Without -name (libvirt asking
a QEMU what it can do) it becomes QEMU at once. Refused, it prints one sentence, which libvirt shows
to people, and exits with 1.

Rules of this file:
1. It runs as a script of its own (install()), under `python3 -IS`, on a host's own interpreter:
   stdlib only, nothing of outlast, and as few imports as possible, because each VM start waits
   for them.
2. It never starts a named VM without the guard's yes; no answer is a no.
3. What it baked in (guard socket, QEMU, padding, authorities) stands in the constants below.
4. A QEMU that waits for a VM takes it from the QEMU of another host of the pool only, not from
   whoever has a certificate of the same authority. libvirt has no word for that, QEMU has.

It does not pick VMs, knows no deadline and no cgroup: the guard does.
"""

import os
import sys

SOCKET = "/run/outlast/guard.sock"
QEMU = "/usr/bin/qemu-system-x86_64"
TCG_PAD = False  # see padded()
POOL_CA = "/etc/outlast/pki/ca.pem"
QEMU_CA = "/etc/pki/qemu/ca-cert.pem"
TIMEOUT_S = 10.0
PAD_KIB = 8
MEMORY = ('"id":"pc.ram"', '"id":"ram-node0"')  # the latter of a VM whose memory can grow
# the subject of QEMU's certificates begins so (wire/seal.py); their authority writes no other there
PEERS = (
    "-object",
    '{"qom-type":"authz-list","id":"outlast-hosts","policy":"deny","rules":'
    '[{"match":"O=outlast,OU=qemu,*","policy":"allow","format":"glob"}]}',
    "-global",
    "migration.tls-authz=outlast-hosts",
)
UNITS_KIB = {"k": 1, "m": 1024, "g": 1024 * 1024, "t": 1024 * 1024 * 1024}


def vm_name(arguments: list[str]) -> str:
    """The VM these QEMU arguments start; "" if they name none."""
    for number, option in enumerate(arguments[:-1], 1):
        if option in ("-name", "--name"):
            for part in arguments[number].split(","):
                key, equals, name = part.partition("=")
                if not equals:
                    return key
                if key == "guest":
                    return name
    return ""


def refused(vm: str, path: str, incoming: bool = False) -> str:
    """Ask the guard to let this process run `vm`; "" if it did, else why not."""
    import _socket  # the module socket costs more than all the rest of this file
    import time

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT_S)
    reply, end_s = b"", time.monotonic() + TIMEOUT_S
    try:
        while True:
            try:
                connection.connect(path)
                break
            except BlockingIOError:  # many VMs start at once and the guard's queue is full
                if time.monotonic() > end_s:
                    raise
                time.sleep(0.02)
        quoted = vm.encode("unicode_escape").decode().replace("\\", "").replace('"', "")
        copy = ', "incoming": true' if incoming else ""
        connection.send(f'{{"op": "enter", "vm": "{quoted}"{copy}}}\n'.encode())
        while not reply.endswith(b"\n"):
            data = connection.recv(65536)
            if not data:
                break
            reply += data
    except OSError as trouble:
        return f"the guard does not answer at {path}: {trouble}"
    finally:
        connection.close()
    if reply == b'{"ok": true}\n':
        return ""
    import json

    try:
        answer = json.loads(reply)
        return "" if answer["ok"] is True else str(answer.get("error", "without a reason"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "the guard's answer was not understood"


def padded(arguments: list[str]) -> list[str]:
    """The same VM with 8 KiB more memory.

    Live migration under TCG (seen with QEMU 7.2) loses writes of a guest whose memory is a
    multiple of 256 KiB, and libvirt rounds to MiB. Both hosts must pad alike. Not for KVM.
    """
    changed = list(arguments)
    for number, option in enumerate(arguments[:-1], 1):
        value = arguments[number]
        if option == "-m":
            size, comma, rest = value.removeprefix("size=").partition(",")
            unit = size[-1:].lower()
            digits, kib = (size[:-1], UNITS_KIB[unit]) if unit in UNITS_KIB else (size, 1024)
            if digits.isdigit():
                changed[number] = f"size={int(digits) * kib + PAD_KIB}k{comma}{rest}"
        elif option == "-object" and any(name in value for name in MEMORY):
            head, key, tail = value.partition('"size":')
            digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
            if digits:
                size_bytes = int(digits) + PAD_KIB * 1024
                changed[number] = f"{head}{key}{size_bytes}{tail[len(digits) :]}"
    return changed


def foreign() -> bool:
    """True when an administrator has QEMU use another authority, which writes other subjects."""
    try:
        with open(QEMU_CA, "rb") as theirs, open(POOL_CA, "rb") as ours:
            return theirs.read() != ours.read()
    except OSError:
        return False


def main() -> int:
    import _signal  # type: ignore[import-not-found]  # as for _socket

    arguments = sys.argv[1:]
    qemu = os.environ.get("OUTLAST_QEMU") or QEMU
    vm = vm_name(arguments)
    incoming = "-incoming" in arguments
    why = refused(vm, SOCKET, incoming) if vm else ""
    if why:
        sys.stderr.write(f"Outlast does not let VM {vm} start on this host: {why}\n")
        return 1
    if TCG_PAD and vm:
        arguments = padded(arguments)
    if incoming and not foreign():
        arguments = [*arguments, *PEERS]
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them; exec would keep that
        _signal.signal(number, _signal.SIG_DFL)
    try:
        os.execv(qemu, [qemu, *arguments])  # noqa: S606 - becoming QEMU is the point
    except OSError as trouble:
        sys.stderr.write(f"Outlast cannot start {qemu}: {trouble.strerror}\n")
    return 1


def script(
    *, socket: str = SOCKET, qemu: str = QEMU, tcg_pad: bool = False,
    pool_ca: str = POOL_CA, qemu_ca: str = QEMU_CA,
) -> str:  # fmt: skip
    """The text of a wrapper with these things baked in."""
    from pathlib import Path

    text = Path(__file__).read_text(encoding="utf-8")
    for name, old, new in (
        ("SOCKET", SOCKET, socket), ("QEMU", QEMU, qemu), ("TCG_PAD", TCG_PAD, tcg_pad),
        ("POOL_CA", POOL_CA, pool_ca), ("QEMU_CA", QEMU_CA, qemu_ca),
    ):  # fmt: skip
        line = f"\n{name} = {old!r}".replace("'", '"')
        if text.count(line) != 1:
            raise AssertionError(f"{name} is not where it was")
        text = text.replace(line, f"\n{name} = {new!r}")
    return f"#!/usr/bin/python3 -IS\n{text}"


def install(
    path: "os.PathLike[str]", *, socket: str = SOCKET, qemu: str = QEMU, tcg_pad: bool = False,
    pool_ca: str = POOL_CA, qemu_ca: str = QEMU_CA,
) -> None:  # fmt: skip
    """Write an executable wrapper to `path`, replacing an older one in one step.

    An unchanged one is left alone, because libvirt asks a changed emulator again what it can do.
    Raises OSError when the file cannot be written.
    """
    from pathlib import Path

    target = Path(path)
    text = script(socket=socket, qemu=qemu, tcg_pad=tcg_pad, pool_ca=pool_ca, qemu_ca=qemu_ca)
    if target.is_file() and os.access(target, os.X_OK) and target.read_bytes() == text.encode():
        return
    fresh = target.with_name(f"{target.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o755)
    fresh.replace(target)


if __name__ == "__main__":
    sys.exit(main())
