"""`outlast host fence ...`: how hosts are switched off from outside, by the fence agents.

These commands work on the pool's storage and on this machine, without an agent: they are also for
the day when nothing else runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.completing import hosts
from outlast.cli.context import Options, options, print_json, say, typed
from outlast.errors import Conflict, InvalidInput, NotFound, PoolTrouble

if TYPE_CHECKING:
    from outlast.equipment import PowerSwitch
    from outlast.model import SlotRecord
    from outlast.storage.layout import PoolDir
    from outlast.storage.register import Register

app = typer.Typer(no_args_is_help=True, help="Switch hosts off from outside: BMCs, PDUs.")

TEST_S, OFF_S = 20.0, 60.0
HostName = Annotated[str, typer.Argument(metavar="NAME", help="The host.", autocompletion=hosts)]
PoolOption = Annotated[
    Path | None,
    typer.Option("--pool", metavar="DIR", help="The pool's directory. Default: this host's pool."),
]


@app.command("set")
def set_(
    ctx: typer.Context,
    name: HostName,
    agent: Annotated[
        str, typer.Argument(metavar="AGENT", help="A fence agent; 'ls /usr/sbin/fence_*'.")
    ] = "",
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What the agent is told. Repeat for more."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=FILE]", help="A secret option: you are asked, or it is in FILE."
        ),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="It has no power switch any more.")] = False,
    pool_dir: PoolOption = None,
) -> None:
    """Say how a host is switched off, then ask its switch whether it answers.

    Secrets are kept on the pool's storage, readable by root alone, and given to the agent on its
    input: they are in no argument, no log and no dump.

    \b
    Examples:
      outlast host fence set b fence_redfish --option ip=10.9.0.2 \\
        --option username=root --option ssl_insecure=1 --secret password
      outlast host fence set b fence_ipmilan --option ip=10.9.0.2 \\
        --option username=root --option lanplus=1 --secret password=/root/bmc-b
      outlast host fence set b --none
    """
    from outlast.equipment import PowerSwitch
    from outlast.power.agents import check_agent
    from outlast.power.switches import forget, store
    from outlast.storage.etcd_folder import shared

    chosen = options(ctx)
    pool, register, record = _host(name, pool_dir)
    if none:
        with shared(pool.root):
            forget(register, pool.root, record.slot)
        print_json({"host": name, "agent": ""}) if chosen.json else say(f"{name} has no switch")
        return
    if not agent:
        raise InvalidInput(
            "which fence agent?",
            hint="outlast host fence set --help",
        )
    check_agent(agent)
    switch = PowerSwitch(record.slot, record.uuid, agent, tuple(option or ()))
    with shared(pool.root):
        store(register, pool.root, switch, dict(map(_secret, secret or ())))
    _test(chosen, pool, register, record)


@app.command()
def test(ctx: typer.Context, name: HostName, pool_dir: PoolOption = None) -> None:
    """Ask a host's power switch whether it answers; switches nothing. Exit code 7: it does not.

    \b
    Example:
      outlast host fence test b
    """
    pool, register, record = _host(name, pool_dir)
    _test(options(ctx), pool, register, record)


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="One host; default: all.")] = "",
    pool_dir: PoolOption = None,
) -> None:
    """How hosts are switched off; secrets by their names only."""
    from outlast.power.switches import record_of

    pool, register = _opened(pool_dir)
    chosen = options(ctx)
    hosts = [_host(name, pool.root)[2]] if name else _hosts(register)
    found = {record.host: record_of(register, record.slot) for record in hosts}
    if chosen.json:
        print_json({"hosts": {host: _plain(switch) for host, switch in found.items()}})
        return
    for host, switch in sorted(found.items()):
        told = _plain(switch)
        parts = [str(told["agent"]), *told["options"], *(f"{s}=***" for s in told["secrets"])]
        say(f"{host:<16} {' '.join(parts) if switch else 'no power switch'}")


@app.command()
def off(
    ctx: typer.Context,
    name: HostName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it is not in maintenance.")
    ] = False,
    pool_dir: PoolOption = None,
) -> None:
    """Pull a host's plug through its power switch; the proof that the switch is the right one.

    Do this once for each host, in maintenance, and look whether that host is silent afterwards: a
    switch that is another's would one day prove the wrong death.

    \b
    Example:
      outlast host maintain b && outlast host fence off b
    """
    from outlast.cli import machine, maintaining, this_host
    from outlast.power.fencing import FencePower
    from outlast.power.switches import record_of

    chosen = options(ctx)
    pool, register, record = _host(name, pool_dir)
    if record.uuid == machine.host_uuid(this_host.places().var):
        raise Conflict(f"{name} is this machine itself", hint="say it on another host")
    if not (record.maintenance or force):
        raise Conflict(f"{name} is in service", hint=f"outlast host maintain {name}, or --force")
    if record_of(register, record.slot) is None:
        raise NotFound(f"{name} has no power switch", hint="outlast host fence set --help")
    maintaining.ask(chosen, [f"{name} loses its power at once"], f"Switch {name} off?", yes=yes)
    done = FencePower(register, pool.root).fence(record.slot, record.uuid, OFF_S)
    if not done.proven:
        raise PoolTrouble(f"{name} may be on: {done.reason}", hint="look at it before you act")
    if chosen.json:
        print_json({"host": name, "outcome": done.outcome.value, "reason": done.reason,
                    "took_ms": done.took_ms})  # fmt: skip
    else:
        say(f"{name} is off, after {done.took_ms / 1000:.1f} s: {done.reason}")


def _opened(pool_dir: Path | None) -> tuple[PoolDir, Register]:
    from outlast.cli import this_host

    return this_host.opened(pool_dir, this_host.places())


def _hosts(register: Register) -> list[SlotRecord]:
    from outlast.storage.format import slot_from

    values = (register.read(name)[1] for name in register.names("slot"))
    return [r for r in (slot_from(v) for v in values if v is not None) if r.active]


def _host(name: str, pool_dir: Path | None) -> tuple[PoolDir, Register, SlotRecord]:
    pool, register = _opened(pool_dir)
    hosts = {record.host: record for record in _hosts(register)}
    if name not in hosts:
        known = ", ".join(sorted(hosts)) or "none"
        raise NotFound(f"there is no host '{name[:63]}' in this pool", hint=f"its hosts: {known}")
    return pool, register, hosts[name]


def _test(chosen: Options, pool: PoolDir, register: Register, record: SlotRecord) -> None:
    from outlast.power.fencing import FencePower
    from outlast.power.port import Power
    from outlast.power.switches import record_of

    if record_of(register, record.slot) is None:
        raise NotFound(f"{record.host} has no power switch", hint="outlast host fence set --help")
    said = FencePower(register, pool.root).test(record.slot, record.uuid, TEST_S)
    if said.power is Power.UNKNOWN:
        raise PoolTrouble(
            f"the power switch of {record.host} does not answer: {said.reason}",
            hint="failover works without it, by the storage heartbeat, only later",
        )
    if chosen.json:
        print_json({"host": record.host, "power": said.power.value, "took_ms": said.took_ms})
    else:
        took = f"{said.took_ms / 1000:.1f} s"
        say(f"the power switch of {record.host} answers within {took}: it is {said.power.value}")


def _secret(text: str) -> tuple[str, str]:
    """One --secret: its value comes from a file, or from the person."""
    name, equals, place = text.partition("=")
    if equals:
        try:
            return name, Path(place).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "not a text"
            raise InvalidInput(f"{place}: {said}", hint="a file with the secret alone") from None
    if not sys.stdin.isatty():
        raise InvalidInput(f"nobody is there to ask for {name}", hint=f"--secret {name}=FILE")
    return name, typed(name, hide=True)


def _plain(switch: PowerSwitch | None) -> dict[str, list[str] | str]:
    if switch is None:
        return {"agent": "", "options": [], "secrets": []}
    return {"agent": switch.agent, "options": [*switch.options], "secrets": [*switch.secrets]}
