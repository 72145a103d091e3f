"""`outlast storage ocfs2`: a shared LUN becomes the storage of a pool, in one command on each host.

Rules:
1. Everything is checked before anything is changed, and shown: `--dry-run` stops there.
2. A file system is made only with --format, after what is on the device was shown and the person
   has typed the device's name. On the other hosts the same command without --format mounts it.
3. Each step may be run again; a host that was stopped in between goes on.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import options, print_json, say

if TYPE_CHECKING:
    from outlast.cli.preparing import Edit
    from outlast.mounts.ocfs2 import Node

DEVICE_S = 15.0  # for a LUN to appear after the log-in


def ocfs2(
    ctx: typer.Context,
    device: Annotated[
        str,
        typer.Argument(metavar="DEVICE", help="The LUN, the same for all."),
    ],
    path: Annotated[str, typer.Argument(metavar="DIR", help="Where, the same on every host.")],
    node: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=IP", help="A host, by 'uname -n'. Name every host of the pool."),
    ] = None,
    portal: Annotated[str, typer.Option(metavar="IP[:PORT]", help="iSCSI: the server.")] = "",
    target: Annotated[str, typer.Option(metavar="IQN", help="iSCSI: what to log in to.")] = "",
    format_: Annotated[
        bool, typer.Option("--format", help="Make the file system; all on DEVICE is lost.")
    ] = False,
    sure: Annotated[
        str, typer.Option("--yes", metavar="DEVICE", help="Its name again, instead of a question.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
) -> None:
    """A LUN that all hosts see, with OCFS2: log in, write the cluster's file, make, mount.

    \b
    Run it on every host with the same nodes, with --format on the first one only. Example:
      outlast storage ocfs2 /dev/disk/by-id/scsi-3600a /srv/pool --portal 10.0.0.9 \\
        --target iqn.2026-01.nas:pool --node a=10.0.0.1 --node b=10.0.0.2 --format
    """
    from outlast.cli import preparing
    from outlast.errors import InvalidInput
    from outlast.mounts import ocfs2 as plans
    from outlast.mounts.options import choose
    from outlast.mounts.systemd import Mounts
    from outlast.mounts.unit import check_path

    place, choice = check_path(path), choose("ocfs2", device)
    if bool(portal) != bool(target):
        raise InvalidInput("--portal and --target go together")
    steps = plans.log_in(portal, target) if portal else []
    edits, nodes = _edits(node or [], Path("/"))
    make = plans.make(device, len(nodes), f"outlast-{Path(place).name}"[:32]) if format_ else ()
    if dry_run:
        _show(ctx, steps, edits, make, device, place)
        return
    for step in steps:
        _carry_out(step)
    preparing.carry_out(edits)
    for step in plans.BEGIN:
        _carry_out(step)
    if make:
        make_over(device, make, sure)
    done = Mounts().mount(choice, place, "the pool's storage")
    if options(ctx).json:
        print_json({"path": place, "changed": done, "nodes": [n.name for n in nodes]})
        return
    say(f"{device} is mounted at {place}, for the nodes {', '.join(n.name for n in nodes)}")
    say(f"may it carry a pool? outlast storage probe {place}, on two hosts at once")


def _edits(wished: list[str], root: Path) -> tuple[list[Edit], list[Node]]:
    """Files that have to change, and all nodes. Raises InvalidInput, Conflict."""
    from outlast.cli.preparing import Edit
    from outlast.mounts import ocfs2 as plans

    conf, values = root / plans.CONF, root / plans.DEFAULTS
    before = conf.read_text() if conf.exists() else ""
    nodes = plans.merged(plans.read(before), plans.nodes_of(wished), os.uname().nodename)
    edits = []
    if plans.cluster_conf(nodes) != before:
        names = ", ".join(f"{n.number}: {n.name} {n.address}" for n in nodes)
        edits.append(Edit(conf, plans.cluster_conf(nodes), f"the nodes are {names}"))
    known = values.read_text() if values.exists() else ""
    if plans.defaults(known) != known:
        edits.append(Edit(values, plans.defaults(known), "o2cb starts at each boot"))
    return edits, nodes


def make_over(device: str, words: tuple[str, ...], sure: str) -> None:
    """Rule 2. Raises InvalidInput, Conflict, NotFound, StorageTrouble."""
    from outlast.errors import InvalidInput
    from outlast.mounts.device import check_free, look

    found = look(_there(device))
    check_free(device, found)
    say(f"{device}: {found.sentence}")
    if not sure:
        if not sys.stdin.isatty():
            raise InvalidInput("nobody is there to ask", hint=f"--yes {device} does it")
        sure = typer.prompt("All of that will be lost on every host. Type the device's name")
    if sure != device:
        raise InvalidInput(f"'{sure}' is not '{device}': nothing was made")
    _carry_out(words)


def _there(device: str) -> str:
    """The device, waited for: it comes a moment after the log-in."""
    until = time.monotonic() + DEVICE_S
    while not Path(device).exists() and time.monotonic() < until:
        time.sleep(0.2)
    return device


def _carry_out(words: tuple[str, ...]) -> None:
    """Raises StorageTrouble, NotFound; a session that is there already is none.

    Whatever it asks is answered with yes: mkfs.ocfs2 asks again before it writes over an OCFS2.
    """
    import subprocess

    from outlast.errors import NotFound, StorageTrouble

    said = " ".join(words)
    try:
        done = subprocess.run(
            words, input="y\n", capture_output=True, text=True, timeout=300, check=False
        )
    except FileNotFoundError:
        package = {"iscsiadm": "open-iscsi"}.get(words[0], "ocfs2-tools")
        hint = f"apt-get install {package}"
        raise NotFound(f"there is no {words[0]} on this machine", hint=hint) from None
    except subprocess.TimeoutExpired:
        raise StorageTrouble(f"'{said}' does not end") from None
    if done.returncode and "already present" not in done.stderr:
        lines = done.stderr.strip().splitlines() or ["it failed"]
        raise StorageTrouble(f"'{said}': {lines[-1]}")


def _show(
    ctx: typer.Context, steps: list[tuple[str, ...]], edits: list[Edit], make: tuple[str, ...],
    device: str, place: str,
) -> None:  # fmt: skip
    from outlast.errors import OutlastError
    from outlast.mounts import ocfs2 as plans
    from outlast.mounts.device import look

    commands = [" ".join(step) for step in (*steps, *plans.BEGIN, *([make] if make else []))]
    try:
        there = look(device).sentence
    except OutlastError as error:
        there = error.sentence
    if options(ctx).json:
        files = {str(edit.path): edit.text for edit in edits}
        print_json({"device": there, "commands": commands, "files": files, "path": place})
        return
    say(f"{device}: {there}")
    for edit in edits:
        say(f"{edit.path}: {edit.why}")
    for command in commands:
        say(command)
    say(f"outlast storage mount ocfs2 {device} {place}")
