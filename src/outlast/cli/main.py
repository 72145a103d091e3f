"""`outlast`: the entry point. Global options, errors, exit codes; the commands are next door."""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import Annotated

import typer

from outlast import __version__
from outlast.cli import (
    balancing,
    check,
    confirming,
    drill,
    fencing,
    host,
    host_check,
    image,
    incident,
    login,
    manager,
    network,
    plan,
    pool,
    pool_settings,
    rack,
    removing,
    rolling,
    storage,
    template,
    timing,
    upgrade,
    vm,
)
from outlast.cli.context import Options, options, print_error, print_json, stdout
from outlast.cli.form import FORM, Form
from outlast.cli.watching import Watch, watching
from outlast.errors import InvalidInput, OutlastError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
pool.app.command()(plan.snapshot)
pool.app.command("what-if")(plan.what_if)
pool.app.command()(check.check)
pool.app.command("set")(pool_settings.set_)
pool.app.command()(balancing.balance)
pool.app.command("maintain-all")(rolling.maintain_all)
pool.app.command()(timing.timing)
pool.app.command("upgrade-check")(upgrade.upgrade_check)
pool.app.command()(upgrade.upgrade)
app.add_typer(pool.app, name="pool")
host.app.command("confirm-off")(confirming.confirm_off)
host.app.command()(removing.remove)
host.app.command()(host_check.check)
host.app.command()(host_check.prepare)
host.app.add_typer(fencing.app, name="fence")
app.add_typer(host.app, name="host")
app.add_typer(vm.app, name="vm")
app.add_typer(network.app, name="network")
app.add_typer(image.app, name="image")
app.add_typer(template.app, name="template")
app.add_typer(storage.app, name="storage")
app.add_typer(rack.app, name="rack")
app.add_typer(incident.app, name="incident")
app.add_typer(manager.app, name="manager")

FLAGS = ("--json", "--debug")
VALUED = ("--agent", "--manager", "--output", "-o")
INTERRUPTED = 130
# Typer brings these classes along and exports only some of them by name.
_ClickError: type[Exception] = next(
    kind
    for kind in typer.BadParameter.__mro__
    if kind.__name__ == "ClickException" and issubclass(kind, Exception)
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"outlast {__version__}")
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    output: Annotated[
        Form, typer.Option("--output", "-o", help="Answers for people, or for programs.")
    ] = Form.TABLE,
    json: Annotated[bool, typer.Option("--json", help="The same as --output json.")] = False,
    agent: Annotated[
        str,
        typer.Option(
            metavar="TARGET",
            envvar="OUTLAST_AGENT",
            help="unix:/run/outlast/agent.sock (default) or https://HOST:7791.",
        ),
    ] = "",
    manager: Annotated[
        str,
        typer.Option(
            metavar="URL/POOL",
            envvar="OUTLAST_MANAGER",
            help="Through a manager, as who you are there: see outlast login.",
        ),
    ] = "",
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    """High availability for pools of KVM/QEMU servers: VMs outlast their hosts.

    \b
    A pool in four commands, the storage being mounted at /srv/pool on every host:
      outlast pool init /srv/pool --name lab     once
      outlast host join /srv/pool                on every host
      outlast vm create web --memory 2GiB --disk 20GiB --start
      outlast status
    """
    if json and output is Form.YAML:
        raise InvalidInput("--json and --output yaml are two different forms", hint="say one")
    FORM.set(Form.YAML if output is Form.YAML else Form.JSON)
    if agent and manager:
        named = [word for word in ("agent", "manager") if _said(ctx, word)]
        if len(named) == 2:
            raise InvalidInput("--agent and --manager are two ways to a pool", hint="say one")
        agent = "" if named == ["manager"] else agent  # an option goes before the environment
    ctx.obj = Options(
        json=json or output is not Form.TABLE, agent=agent, manager=manager, debug=debug
    )


@app.command()
def status(ctx: typer.Context, watch: Watch = False) -> None:
    """The pool as this host sees it: hosts, VMs, and why what is down is down.

    \b
    Examples:
      outlast status --watch
      outlast --json status | jq '.vms[] | select(.state != "running")'
    """
    from outlast.cli.render import status_view

    chosen = options(ctx)
    client = chosen.client()
    if watch:
        watching(chosen, client.status, lambda found: status_view(found, time.time()))
    found = client.status()
    if chosen.json:
        print_json(found)
    else:
        stdout().print(status_view(found, time.time()))


# the help names commands in this order, status first
app.command()(login.login)
app.command()(login.logout)
app.command()(drill.drill)
app.command()(plan.plan)
app.command()(incident.replay)


def _said(ctx: typer.Context, name: str) -> bool:
    """Is it an option of this call, not of the environment?"""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def hoist(args: list[str]) -> tuple[list[str], list[str]]:
    """Global options may stand anywhere, but the parser wants them first: those, and the rest."""
    front: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(args):
        arg = args[at]
        if arg == "--":
            rest += args[at:]
            break
        if arg in FLAGS or arg.startswith(tuple(f"{name}=" for name in VALUED)):
            front.append(arg)
        elif arg in VALUED and at + 1 < len(args):
            front += args[at : at + 2]
            at += 1
        else:
            rest.append(arg)
        at += 1
    return front, rest


def run(args: list[str] | None = None) -> None:
    """The program; always ends by SystemExit with the code of what happened."""
    front, rest = hoist(sys.argv[1:] if args is None else args)
    as_json = any(word.rpartition("=")[2] in {"--json", "json", "yaml"} for word in front)
    debug = "--debug" in front
    try:
        code = app(args=[*front, *rest], prog_name="outlast", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # who read our output has gone; nothing more can be said to him
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OutlastError as error:
        sys.exit(_fail(error, as_json, debug))
    except _ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help was printed
            sys.exit(InvalidInput.exit_code)
        sys.exit(_fail(_usage(error), as_json, debug))
    except Exception as error:
        said = f"a bug in outlast: {type(error).__name__}: {error}"
        sys.exit(_fail(OutlastError(said, hint="--debug shows where"), as_json, debug))


def _usage(error: BaseException) -> InvalidInput:
    message = str(getattr(error, "format_message", lambda: error)()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "outlast"
    return InvalidInput(message or "no command was given", hint=f"{command} --help")


def _fail(error: OutlastError, as_json: bool, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print_error(error, as_json)
    return error.exit_code


if __name__ == "__main__":
    run()
