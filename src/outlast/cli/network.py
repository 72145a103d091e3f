"""`outlast network ...`: networks for VMs, the same on every host; and those between the hosts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from outlast.cli.context import options, print_json, say

app = typer.Typer(no_args_is_help=True, help="Networks for VMs, the same on every host.")

NetworkName = Annotated[str, typer.Argument(metavar="NAME", help="At most 10 of a-z, 0-9 and -.")]
PoolOption = Annotated[
    Path | None,
    typer.Option("--pool", metavar="DIR", help="The pool's directory. Default: this host's pool."),
]


@app.command()
def create(
    ctx: typer.Context,
    name: NetworkName,
    uplink: Annotated[
        str, typer.Option(metavar="CARD", help="Its way to other hosts. Default: none.")
    ] = "",
    uplink_of: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST=CARD", help="Another card on this host. Repeat for more."),
    ] = None,
    vlan: Annotated[int, typer.Option(help="Tagged with this number; 0: not tagged.")] = 0,
    mtu: Annotated[int, typer.Option(help="The largest packet; cards must have it.")] = 1500,
    pool_dir: PoolOption = None,
) -> None:
    """A bridge of this name on every host, within seconds. VMs use it with --network NAME.

    A card that has addresses is never put into a bridge; a VLAN on top of it is fine.

    \b
    Examples:
      outlast network create lan --uplink eno1 --vlan 20
      outlast network create fast --uplink ens2 --uplink-of b=ens3 --mtu 9000
      outlast network create inside          VMs of one host only
    """
    from outlast.cli.equipment_doors import networks
    from outlast.equipment import Network

    network = Network(name, uplink, tuple(uplink_of or ()), vlan, mtu)
    networks(options(ctx), pool_dir).create(network)
    if options(ctx).json:
        print_json(asdict(network))
    else:
        say(f"{name} shall be on every host; 'outlast network list' says how it stands here")


@app.command("set")
def set_(
    ctx: typer.Context,
    name: NetworkName,
    uplink: Annotated[
        str | None, typer.Option(metavar="CARD", help="Another way out; '' for none.")
    ] = None,
    uplink_of: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST=CARD", help="Another card on this host, instead of all before."),
    ] = None,
    vlan: Annotated[int | None, typer.Option(help="Tagged with this number; 0: not.")] = None,
    mtu: Annotated[int | None, typer.Option(help="The largest packet.")] = None,
    pool_dir: PoolOption = None,
) -> None:
    """Change a network on every host, within seconds. VMs on it keep their cards.

    While it changes, VMs lose the network for a moment.

    \b
    Example:
      outlast network set lan --vlan 30
    """
    from outlast.cli.equipment_doors import networks
    from outlast.errors import InvalidInput

    cards = None if uplink_of is None else tuple(filter(None, uplink_of))
    said = {"uplink": uplink, "uplinks_of": cards, "vlan": vlan, "mtu": mtu}
    told: dict[str, Any] = {field: value for field, value in said.items() if value is not None}
    if not told:
        raise InvalidInput("nothing is changed", hint="see outlast network set --help")
    changed = networks(options(ctx), pool_dir).change(name, told)
    if options(ctx).json:
        print_json({"name": name, "changed": changed})
    else:
        say(f"every host changes the network {name}" if changed else f"{name} is so already")


@app.command("list")
def list_(ctx: typer.Context, pool_dir: PoolOption = None) -> None:
    """The pool's networks, and how they stand on this machine, or on the agent's with --agent."""
    from outlast.cli.equipment_doors import networks
    from outlast.network import plan

    host, found = networks(options(ctx), pool_dir).all()
    if options(ctx).json:
        shown = [asdict(network) | {"here": here} for network, here in found]
        print_json({"host": host, "networks": shown})
        return
    for network, here in found:
        way = plan.uplink_on(network, host) or "inside of each host"
        tag = f", VLAN {network.vlan}" if network.vlan else ""
        say(f"{network.name:<10} {way}{tag}, MTU {network.mtu}: {here or '-'}")
    if not found:
        say("there are no networks; see 'outlast network create --help'")


@app.command()
def hosts(ctx: typer.Context, pool_dir: PoolOption = None) -> None:
    """Which addresses the hosts use among themselves, and for what.

    They are said when a host joins: --address (heartbeats, one for each network), --api-address
    (management), --migration-address.
    """
    from outlast.cli import this_host
    from outlast.network.roles import migration_address
    from outlast.storage.format import slot_from

    register = this_host.opened(pool_dir, this_host.places())[1]
    values = (register.read(name)[1] for name in register.names("slot"))
    records = [record for value in values if value and (record := slot_from(value)).active]
    found = [
        {"host": record.host, "management": record.api, "heartbeat": list(record.addresses),
         "migration": migration_address(record)}
        for record in sorted(records, key=lambda record: record.slot)
    ]  # fmt: skip
    if options(ctx).json:
        print_json({"hosts": found})
        return
    for one in found:
        beats = ", ".join(one["heartbeat"])
        say(f"{one['host']:<16} management {one['management']}  heartbeat {beats}  "
            f"migration {one['migration']}")  # fmt: skip
    if not found:
        say("no host has joined yet; see 'outlast host join --help'")


@app.command()
def remove(ctx: typer.Context, name: NetworkName, pool_dir: PoolOption = None) -> None:
    """Remove a network. A host keeps its bridge until no VM uses it there."""
    from outlast.cli.equipment_doors import networks

    networks(options(ctx), pool_dir).remove(name)
    if options(ctx).json:
        print_json({"removed": name})
    else:
        say(f"{name} is removed from each host as soon as no VM uses it there")
