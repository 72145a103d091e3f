"""`outlast template ...`: VMs that are ready to be made many times."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.completing import vms
from outlast.cli.context import Options, options, print_json, say, stdout
from outlast.cli.image import RATE, Limit, On, PoolDir, rate_of
from outlast.cli.image_doors import templates
from outlast.errors import Conflict, InvalidInput, OutlastError
from outlast.words import plural

if TYPE_CHECKING:
    from outlast.cli.image_doors import TemplateDoor
    from outlast.images.clones import Wanted
    from outlast.images.seed import Seed
    from outlast.wire.client import AgentClient
    from outlast.wire.shapes import VmWish
    from outlast.wire.templates import TemplateInfo

app = typer.Typer(
    no_args_is_help=True,
    help="Templates: make VMs of an image, one or twenty at a time, ready with cloud-init.",
)

Name = Annotated[str, typer.Argument(help="The template's name: a-z, 0-9 and -.")]


@app.command()
def create(
    ctx: typer.Context,
    name: Name,
    image: Annotated[str, typer.Option(help="The image its disks come from.")] = "",
    from_: Annotated[
        str,
        typer.Option("--from", metavar="VM", help="A VM, whose disks are copied.",
                     autocompletion=vms),
    ] = "",
    memory: Annotated[str, typer.Option(help="Of each VM, like 2GiB.")] = "",
    vcpus: Annotated[int, typer.Option(help="Processors of each VM.", min=1, max=512)] = 1,
    network: Annotated[
        list[str] | None, typer.Option(metavar="BRIDGE", help="A network card on BRIDGE.")
    ] = None,
    note: Annotated[str, typer.Option(help="What people should know of it.")] = "",
    quiesce: Annotated[
        str, typer.Option(metavar="auto|yes|no", help="With --from: as for 'vm snapshot create'.")
    ] = "auto",
    limit: Limit = RATE,
    pool: PoolDir = None,
) -> None:  # fmt: skip
    """Make a template of an image or of a VM.

    \b
    Of an image it takes no room: both share their files. Of a VM, running or stopped, it has copies
    of its disks, its sizes and its networks; before that, clean what must not be in all VMs, like
    host keys: cloud-init clean --logs --machine-id. Examples:
      outlast template create small --image debian-12 --memory 2GiB --vcpus 2 --network br0
      outlast template create web-2026 --from web --note "nginx, patched in May"
    """
    from outlast.cli.waiting import telling
    from outlast.wire.shapes import make
    from outlast.wire.templates import TemplateWish

    chosen = options(ctx)
    if from_:
        if image or memory or network or vcpus != 1 or pool:
            raise InvalidInput("with --from, all of this is the VM's own", hint="--from VM alone")
        _create_of_vm(chosen, name, from_, note, quiesce, rate_of(limit))
        return
    if not image or not memory:
        raise InvalidInput("--image and --memory, or --from", hint="outlast template create --help")
    wish = make(
        TemplateWish, name=name, image=image, memory=_mib(memory) << 20, vcpus=vcpus,
        networks=network or [], note=note,
    )  # fmt: skip
    door = templates(chosen, pool)
    with telling(chosen.json) as tell:
        made = door.create(wish, rate_of(limit), tell)
    if chosen.json:
        print_json(made)
    else:
        say(f"the template {name} is made; use it: outlast template deploy {name} NAME")


def _create_of_vm(
    chosen: Options, name: str, vm: str, note: str, quiesce: str, rate_bytes_s: int
) -> None:
    from outlast.cli.waiting import follow, telling
    from outlast.wire.shapes import make
    from outlast.wire.templates import TemplateClient, TemplateOfVm

    wish = make(TemplateOfVm, name=name, note=note, quiesce=quiesce, rate_bytes_s=rate_bytes_s)
    client = TemplateClient(chosen.client())
    with telling(chosen.json) as tell:
        done = follow(
            lambda: client.make(vm, wish), lambda: client.making(vm), lambda: client.give_up(vm),
            tell,
        )  # fmt: skip
    if chosen.json:
        print_json(done)
        return
    rest = "" if done.quiesced else ", as after a power cut (no guest agent answered)"
    say(f"{done.sentence}{rest}; use it: outlast template deploy {name} NAME")


@app.command()
def cancel(
    ctx: typer.Context, vm: Annotated[str, typer.Argument(metavar="VM", autocompletion=vms)]
) -> None:
    """Break off a template that is being made of a VM."""
    from outlast.wire.templates import TemplateClient

    done = TemplateClient(options(ctx).client()).give_up(vm)
    if options(ctx).json:
        print_json(done)
    else:
        say(f"the template {done.template} of {vm} is broken off")


@app.command("list")
def list_(ctx: typer.Context, pool: PoolDir = None) -> None:
    """All templates, and how many disks of VMs lie over each."""
    from rich.table import Table

    found = templates(options(ctx), pool).all()
    if options(ctx).json:
        print_json({"templates": [one.model_dump(mode="json") for one in found]})
        return
    if not found:
        say("no templates yet; see 'outlast template create --help'")
        return
    table = Table(
        "TEMPLATE", "IMAGE", "MEMORY", "VCPUS", "DISKS", "CLONES", "MADE", "NOTE", box=None
    )
    for one in found:
        table.add_row(
            one.name, one.image, f"{one.memory_mib} MiB", str(one.vcpus), str(one.disks),
            str(len(one.vms)), time.strftime("%Y-%m-%d", time.localtime(one.created_wall_s)),
            one.note,
        )  # fmt: skip
    stdout().print(table)


@app.command()
def remove(ctx: typer.Context, name: Name, pool: PoolDir = None) -> None:
    """Delete a template. One with linked clones stays, and says whose disks need it."""
    templates(options(ctx), pool).remove(name)
    if options(ctx).json:
        print_json({"name": name, "changed": True})
    else:
        say(f"the template {name} is deleted")


@app.command()
def deploy(
    ctx: typer.Context,
    name: Name,
    vm: Annotated[str, typer.Argument(metavar="VM", help="Its name, or a series: web-[01-20].")],
    count: Annotated[int, typer.Option(help="So many: VM-1, VM-2 and so on.")] = 0,
    full: Annotated[
        bool, typer.Option("--full", help="Whole copies, which do not need the template.")
    ] = False,
    on: On = "",
    disk: Annotated[
        str, typer.Option(metavar="SIZE", help="Make the first disk as large as this.")
    ] = "",
    memory: Annotated[str, typer.Option(help="Instead of the template's.")] = "",
    vcpus: Annotated[int, typer.Option(help="Instead of the template's.")] = 0,
    network: Annotated[
        list[str] | None, typer.Option(metavar="BRIDGE", help="Instead of the template's.")
    ] = None,
    ssh_key: Annotated[
        list[str] | None, typer.Option(metavar="KEY|FILE", help="May log in. Repeat for more.")
    ] = None,
    user: Annotated[str, typer.Option(help="Make this user, with these keys and sudo.")] = "",
    user_data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own user-data for cloud-init.")
    ] = None,
    network_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own network-config for cloud-init.")
    ] = None,
    address: Annotated[
        str, typer.Option(metavar="SERIES", help="Fixed: 10.0.0.[11-30]/24. Default: DHCP.")
    ] = "",
    gateway: Annotated[str, typer.Option(metavar="IP", help="With --address.")] = "",
    dns: Annotated[list[str] | None, typer.Option(metavar="IP", help="With --address.")] = None,
    no_seed: Annotated[bool, typer.Option("--no-cloud-init", help="Without a seed.")] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Make those of the series that are not there.")
    ] = False,
    start: Annotated[bool, typer.Option("--start", help="Start them.")] = False,
    limit: Limit = RATE,
    pool: PoolDir = None,
) -> None:  # fmt: skip
    """Make VMs of a template: linked clones at once, or whole copies.

    \b
    Linked clones hold only what changed, and need the template for as long as they live.
    Broken off in the middle, the same command with --missing makes the rest. Examples:
      outlast template deploy small web --ssh-key ~/.ssh/id_ed25519.pub --start
      outlast template deploy small web-[01-20] --address 10.0.0.[11-30]/24 --gateway 10.0.0.1
      outlast template deploy small db --full --disk 40GiB --user-data db.yaml
    """
    from outlast.images.clones import Wanted
    from outlast.images.seed import Seed, keys_of, read_text, user_data_of
    from outlast.images.series import counted, matched, series
    from outlast.wire.sizes import parse_size

    chosen = options(ctx)
    door = templates(chosen, pool)
    template = door.get(name)
    if network:
        template = template.model_copy(update={"networks": network})
    names = counted(vm, count) if count else series(vm)
    addresses = matched(address, len(names), "--address")
    told = Seed(
        "", "", tuple(key for text in ssh_key or [] for key in keys_of(text)), user,
        user_data_of(user_data) if user_data else "",
        read_text(network_config, "network-config") if network_config else "",
        "", gateway, tuple(dns or ()),
    )  # fmt: skip
    if no_seed and told != Seed("", ""):
        raise InvalidInput("--no-cloud-init leaves nobody to read keys, users and addresses")
    if user_data and user:
        raise InvalidInput("--user and --user-data: say the user in your user-data")
    wanted = Wanted(
        linked=not full,
        size_bytes=parse_size(disk) if disk else 0,
        rate_bytes_s=rate_of(limit),
        folder=door.folder(full, on),
    )
    client = chosen.client()
    there = _check_new(client, names, missing)
    todo = [
        (one, None if no_seed else _for_one(told, one, at))
        for one, at in zip(names, addresses, strict=True)
        if one not in there
    ]
    done = _deploy(
        chosen, door, template, wanted, todo,
        _mib(memory) if memory else template.memory_mib, vcpus or template.vcpus,
    )  # fmt: skip
    if start and names:
        from outlast.cli.vm import START_S, act

        act(chosen, names, client.start, {"running"}, True, START_S)
    elif chosen.json:
        print_json(done)
    else:
        say(f"{plural(len(done), 'VM is', 'VMs are')} made of {name}")


def _for_one(told: Seed, vm: str, address: str) -> Seed:
    """One VM's own seed, checked before anything is made. Raises InvalidInput."""
    from dataclasses import replace

    from outlast.images.seed import files_of

    own = replace(told, hostname=vm, instance=f"outlast-{uuid.uuid4()}", address=address)
    files_of(own)
    return own


def _check_new(client: AgentClient, names: list[str], missing: bool) -> set[str]:
    """Those of the names that are taken. Raises InvalidInput, Conflict when that is not wished."""
    from outlast.storage.names import check_name

    for name in names:
        check_name(name, "VM name")
    there = {vm.name for vm in client.vms()} & set(names)
    if there and not missing:
        few = ", ".join(sorted(there)[:5])
        raise Conflict(
            f"{len(there)} of these VMs exist already: {few}",
            hint="--missing makes those that are not there",
        )
    return there


def _deploy(
    chosen: Options, door: TemplateDoor, template: TemplateInfo, wanted: Wanted,
    todo: list[tuple[str, Seed | None]], memory_mib: int, vcpus: int,
) -> list[VmWish]:  # fmt: skip
    from dataclasses import replace

    from outlast.cli.waiting import telling

    done: list[VmWish] = []
    with telling(chosen.json) as tell:
        for number, (vm, seed) in enumerate(todo, 1):
            tell(f"{vm} ({number} of {len(todo)})")
            own = replace(wanted, seed=seed)
            try:
                done.append(door.deploy(template, vm, own, memory_mib, vcpus))
            except OutlastError as error:
                if len(todo) > 1:
                    error.sentence = f"{vm}: {error.sentence}; {len(done)} were made before it"
                    error.hint = error.hint or "the same command with --missing makes the rest"
                raise
    return done


def _mib(text: str) -> int:
    from outlast.wire.sizes import MIB, parse_size

    size = parse_size(text)
    if size % MIB:
        raise InvalidInput(f"the memory {text} is not whole MiB")
    return size // MIB
