"""`outlast host ...`: machines that run VMs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.context import options, print_json, say, stdout, warn

app = typer.Typer(no_args_is_help=True, help="Join machines to a pool and look at them.")

WAIT_S = 120.0


@app.command()
def join(
    ctx: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The pool's directory, mounted here.")
    ],
    name: Annotated[str, typer.Option(help="Default: this machine's host name.")] = "",
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IP[:PORT]",
            help="For heartbeats; one for each network. Default: that of the default route.",
        ),
    ] = None,
    api_address: Annotated[
        str, typer.Option(metavar="IP[:PORT]", help="For the API. Default: the first address.")
    ] = "",
    no_vms: Annotated[
        bool, typer.Option("--no-vms", help="Run none here: a dedicated master.")
    ] = False,
    reset: Annotated[
        str, typer.Option(help="How it is reset if it must be: auto, watchdog, sysrq, none.")
    ] = "auto",
    watchdog_device: Annotated[str, typer.Option(help="The watchdog.")] = "/dev/watchdog",
    accelerator: Annotated[str, typer.Option(help="auto, kvm or tcg.")] = "auto",
    libvirt_uri: Annotated[str, typer.Option(help="This host's libvirt.")] = "qemu:///system",
    qemu: Annotated[str, typer.Option(help="The emulator.")] = "/usr/bin/qemu-system-x86_64",
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="What VMs may use, like 60GiB. Default: all.")
    ] = "",
    vcpus: Annotated[int, typer.Option(min=0, help="The same of processors; 0 is all.")] = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is a member.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = WAIT_S,
) -> None:
    """Make this machine a host of the pool in DIR.

    \b
    Examples:
      outlast host join /srv/pool
      outlast host join /srv/pool --name a --address 10.0.0.5 --address 10.1.0.5
      outlast host join /srv/pool --no-vms
    """
    from outlast.cli import joining, machine
    from outlast.cli.waiting import telling, wait_for_host
    from outlast.wire.sizes import MIB, parse_size

    chosen = options(ctx)
    wish = joining.Wish(
        directory, name, tuple(address or ()), api_address, no_vms, reset, watchdog_device,
        accelerator, libvirt_uri, qemu, parse_size(memory) // MIB if memory else 0, vcpus,
    )  # fmt: skip
    with telling(chosen.json) as tell:
        made, settings, warnings = joining.join(wish, joining.places(), tell)
    for line in [*warnings, *machine.libvirt_settings()]:
        warn(line)
    if not chosen.json:
        say(f"{made.host} has joined pool {settings.name} as slot {made.slot}")
    not_started = machine.start_services()
    if not_started:
        warn(f"note: {not_started}")
    if wait:
        with telling(chosen.json) as tell:
            status = wait_for_host(chosen.client(), made.host, timeout, tell)
        if not chosen.json:
            say(f"{made.host} is a member; view {status.view}, master {status.master}")
    if chosen.json:
        print_json(
            {"host": made.host, "slot": made.slot, "generation": made.generation,
             "uuid": made.uuid, "pool": settings.name, "member": wait}
        )  # fmt: skip


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """All hosts, their states, and who hears whom."""
    chosen = options(ctx)
    status = chosen.client().status()
    if chosen.json:
        print_json(status.hosts)
        return
    from outlast.cli.render import hosts_table

    if status.hosts:
        stdout().print(hosts_table(status.hosts))
    if status.trouble:
        warn(f"trouble: {status.trouble}")


@app.command()
def why(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="The host.")]
) -> None:
    """Why a host is a member, silent, or out: the notes that led to it, with their causes."""
    from outlast.cli.render import why_lines

    chosen = options(ctx)
    answer = chosen.client().why_host(name)
    if chosen.json:
        print_json(answer)
        return
    for line in why_lines(answer):
        say(line)
