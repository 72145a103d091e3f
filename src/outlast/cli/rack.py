"""`outlast rack ...`: hosts on one machine, to try Outlast and to break things.

Rules:
1. A rack stays up in the background until `down`; each command finds it by its folder.
2. `exec` and `shell` end with the exit code of what ran. `outlast` in them is always this Outlast,
   whatever is installed.
3. The rack's own code is imported when a command needs it, never before.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outlast.cli.context import options, print_json, say
from outlast.cli.rack_status import fault_text, print_status
from outlast.errors import InvalidInput

if TYPE_CHECKING:
    from outlast.rack.client import RackClient

app = typer.Typer(no_args_is_help=True)

OUTLAST = "outlast"
# what a shell in a host begins with; `outlast` is this very one there too
BASHRC = r"""
PS1='[host \h] \w\$ '
outlast() {{ {program} "$@"; }}
"""

Folder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", envvar="OUTLAST_RACK",
        help="Where the rack lives. Default: /var/lib/outlast-rack.",
    ),
]  # fmt: skip
Host = Annotated[str, typer.Argument(help="a, b, c ...")]
Net = Annotated[str, typer.Option("--net", help="mgmt (beats, API) or storage.")]


def rack(folder: Path | None) -> RackClient:
    from outlast.rack.client import DEFAULT_FOLDER, RackClient

    return RackClient(folder or DEFAULT_FOLDER)


@app.callback()
def main() -> None:
    """Hosts on this one machine, to try Outlast and to break things (needs root).

    A rack is a switch, a storage and hosts a, b, c ..., each with processes,
    network and disk of its own. Nothing of it touches this machine's own
    network, mounts or libvirt. A session:

    \b
      outlast rack up                        three hosts and a storage
      outlast rack pool                      a pool on them
      outlast rack exec a -- outlast vm create web --memory 8MiB --disk 4MiB \\
        --kernel images/pulsar.elf --serial-log logs/web.log --start
      outlast rack exec a -- outlast status  web runs on b, say
      outlast rack power off b               ... and b loses its power
      outlast rack exec a -- outlast pool timeline
      outlast rack power on b
      outlast rack storage stall a           other things that happen to hosts
      outlast rack isolate c
      outlast rack heal
      outlast rack down --purge

    What to expect of each: docs/operating/rack.md
    """


@app.command()
def up(
    ctx: typer.Context,
    hosts: Annotated[int, typer.Option(help="1 to 26.")] = 3,
    storage: Annotated[
        str, typer.Option(help="rackfs: a small network file system that can fail. bind: a folder.")
    ] = "rackfs",
    folder: Folder = None,
) -> None:
    """Start a rack. What a former one left in the folder (pool, hosts' disks) is used again.

    \b
    Examples:
      outlast rack up
      outlast rack up --hosts 5 --folder /tmp/rack5
    """
    chosen = options(ctx)
    one = rack(folder)
    status = one.up(hosts=hosts, storage=storage)
    if chosen.json:
        print_json(status)
        return
    print_status(status)
    known = (one.folder / "pool/pool.json").exists()
    say("")
    say("its pool is there again" if known else "next: outlast rack pool")


@app.command()
def down(
    ctx: typer.Context,
    purge: Annotated[bool, typer.Option("--purge", help="Pool and hosts' disks go too.")] = False,
    folder: Folder = None,
) -> None:
    """End a rack, with every process, mount and network of its. The disks stay, unless purged.

    \b
    Examples:
      outlast rack down
      outlast rack down --purge
    """
    one = rack(folder)
    was_up = one.down(purge)
    if options(ctx).json:
        print_json({"was_up": was_up, "purged": purge, "folder": str(one.folder)})
        return
    what = "the rack is down" if was_up else f"no rack was up in {one.folder}"
    kept = f"; its disks stay in {one.folder}" if was_up else ""
    say(what + ("; its disks are gone" if purge else kept))


@app.command()
def status(ctx: typer.Context, folder: Folder = None) -> None:
    """Hosts, their power and services, and all that is broken at the moment."""
    found = rack(folder).status()
    if options(ctx).json:
        print_json(found)
    else:
        print_status(found)


@app.command()
def pool(
    ctx: typer.Context,
    preset: Annotated[
        str, typer.Option(help="lab, or the timing of real pools: quick, standard ...")
    ] = "lab",
    name: Annotated[str, typer.Option(help="The pool's name.")] = "demo",
    folder: Folder = None,
) -> None:
    """Make a pool on the rack that is up: `pool init` on a, `host join` on every host.

    \b
    In its images lies pulsar.elf, a tiny guest that signs its disk. Examples:
      outlast rack pool
      outlast rack pool --preset quick
    """
    from outlast.cli.waiting import telling
    from outlast.rack.lab import Lab
    from outlast.settings import preset as known_preset

    known_preset(preset)
    chosen = options(ctx)
    one = Lab(rack(folder).folder)
    with telling(chosen.json) as tell:
        one.make_pool(preset, tell, name=name)
    if chosen.json:
        print_json({"pool": name, "preset": preset, "hosts": dict.fromkeys(one.hosts, "member")})
        return
    say(f"pool {name} ({preset}) has {len(one.hosts)} members: {', '.join(one.hosts)}")
    say("next: outlast rack exec a -- outlast status")


# ---- faults


@app.command()
def power(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="off|on|reset")],
    host: Host,
    folder: Folder = None,
) -> None:
    """Cut a host's power, give it back, or both. Nobody on it is asked.

    \b
    Example: outlast rack power off b
    """
    took = rack(folder).power(host, action)
    said = {"off": "has no power", "on": "is on", "reset": "was reset"}
    _done(ctx, {"host": host, "power": action, **took}, f"{host} {said.get(action, action)}")


@app.command()
def freeze(ctx: typer.Context, host: Host, folder: Folder = None) -> None:
    """Stop every process of a host, as a hang would; its network card still answers."""
    complete = rack(folder).freeze(host)
    note = "" if complete else "; something stuck in the storage cannot be stopped"
    _done(ctx, {"host": host, "complete": complete}, f"{host} is frozen{note}")


@app.command()
def thaw(ctx: typer.Context, host: Host, folder: Folder = None) -> None:
    """Let a frozen host go on, with a past that it does not know is over."""
    complete = rack(folder).thaw(host)
    _done(ctx, {"host": host, "complete": complete}, f"{host} goes on")


@app.command()
def cut(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A")],
    b: Annotated[str, typer.Argument(metavar="B")],
    one_way: Annotated[bool, typer.Option("--one-way", help="Only from A to B.")] = False,
    net: Net = "mgmt",
    folder: Folder = None,
) -> None:
    """Let everything vanish that two hosts send to each other.

    \b
    Examples:
      outlast rack cut a b
      outlast rack cut a b --one-way          a can't reach b; b still reaches a
    """
    rack(folder).cut(a, b, one_way, net)
    arrow = "->" if one_way else "<->"
    _done(ctx, {"a": a, "b": b, "one_way": one_way, "net": net}, f"{net}: {a} {arrow} {b} is cut")


@app.command()
def isolate(ctx: typer.Context, host: Host, net: Net = "mgmt", folder: Folder = None) -> None:
    """Cut a host off from everybody on one network.

    \b
    Examples:
      outlast rack isolate c                  no beats; the storage still answers
      outlast rack isolate c --net storage    no storage; the beats still arrive
    """
    rack(folder).isolate(host, net)
    _done(ctx, {"host": host, "net": net}, f"{net}: {host} reaches nobody")


@app.command()
def heal(
    ctx: typer.Context,
    hosts: Annotated[list[str] | None, typer.Argument(help="One or two; default all.")] = None,
    folder: Folder = None,
) -> None:
    """Mend the networks: all, those of one host, or between two hosts. Storage: see `storage`."""
    names = hosts or []
    if len(names) > 2:
        raise InvalidInput("heal takes no host, one, or two", hint="outlast rack heal")
    rack(folder).heal(*names)
    said = (
        "all networks are",
        f"the network of {' '.join(names)} is",
        f"what is between {' and '.join(names)} is",
    )[len(names)]
    _done(ctx, {"hosts": names}, f"{said} whole")


@app.command()
def storage(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="stall|fail|slow|lose-replies|heal")],
    host: Host,
    path: Annotated[
        str, typer.Option(metavar="REGEX", help="Only paths below the pool like '^/images/'.")
    ] = "",
    op: Annotated[
        list[str] | None, typer.Option(help="Only operations like write, fsync. Repeat for more.")
    ] = None,
    errno: Annotated[str, typer.Option(help="For fail: EIO, ENOSPC, EROFS ...")] = "",
    ms: Annotated[float, typer.Option(help="For slow: so late is each answer.")] = 500,
    folder: Folder = None,
) -> None:
    """Make the storage of one host hang, fail or be slow. The others' goes on.

    \b
    Examples:
      outlast rack storage stall a
      outlast rack storage fail b --path '^/images/' --errno ENOSPC
      outlast rack storage slow c --ms 300
      outlast rack storage heal a
    """
    late_ms = ms if action == "slow" else 0
    state = rack(folder).storage(action, host, path=path, ops=op or (), errno=errno, ms=late_ms)
    said = "answers again" if action == "heal" else f"is hurt: {fault_text(state)}"
    _done(ctx, {"host": host, "storage": state}, f"the storage of {host} {said}")


# ---- inside


@app.command("exec", context_settings={"ignore_unknown_options": True})
def exec_(
    host: Host,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...")],
    folder: Folder = None,
) -> None:
    """Run a command inside a host, on this terminal; its exit code is ours.

    \b
    Examples:
      outlast rack exec a -- outlast status
      outlast rack exec b -- virsh list
      outlast rack exec c -- ip addr
    """
    argv = [*own_outlast(), *command[1:]] if command[0] == OUTLAST else command
    raise typer.Exit(_attached(rack(folder), host, argv))


@app.command()
def shell(host: Host, folder: Folder = None) -> None:
    """A shell inside a host, as root. Its files are this machine's, its changes are its own."""
    if not sys.stdin.isatty():
        raise InvalidInput(
            "a shell needs a terminal", hint=f"outlast rack exec {host} -- COMMAND..."
        )
    one = rack(folder)
    text = BASHRC.format(program=shlex.join(own_outlast()))
    one.exec(host, ["sh", "-c", "cat > /run/rack/bashrc"], input=text, timeout_s=10)
    raise typer.Exit(_attached(one, host, ["bash", "--rcfile", "/run/rack/bashrc", "-i"]))


def own_outlast() -> list[str]:
    """How this very Outlast is called, whatever is installed."""
    return [sys.executable, "-m", "outlast.cli.main"]


def _attached(one: RackClient, host: str, argv: Sequence[str]) -> int:
    """Ctrl-C is for what runs in the host; we wait until it has ended."""
    former = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        code = one.attach(host, argv)
    finally:
        signal.signal(signal.SIGINT, former)
    return code if code >= 0 else 128 - code


def _done(ctx: typer.Context, as_json: dict[str, Any], sentence: str) -> None:
    if options(ctx).json:
        print_json(as_json)
    else:
        say(sentence)
