"""`ultrathink stack`: start, restart and stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from stack.cli.output import err, out, print_json
from stack.cli.stack.table import matrix, remarks

if TYPE_CHECKING:
    from stack.servers.settings import StackSettings
    from stack.supervision.status import StackStatus

app = typer.Typer(no_args_is_help=True, help="The whole desk on this machine, without Docker.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
ProfileOption = Annotated[
    Literal["servers", "desk", "full"] | None,
    typer.Option(help="servers; desk (default): gateway, paper broker, trail and data service too; full: all."),
]


@app.command(epilog="Example: ultrathink stack up --brokers 3 --ports auto")
def up(
    profile: ProfileOption = None,
    brokers: Annotated[int | None, typer.Option(min=1, max=3, help="1 (default), or 3 with replication.")] = None,
    ports: Annotated[
        Literal["default", "auto"] | None,
        typer.Option(help="auto: any free ports; default: as before, or default."),
    ] = None,
    model_repository: Annotated[
        Path | None, typer.Option(help="Folder that Triton serves; default: model_repository in the home folder.")
    ] = None,
    kafka_security: Annotated[
        Literal["none", "sasl"] | None,
        typer.Option(help="sasl: Kafka knows each client by a password, and lets it do what its role needs."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="torchserve",
            help="torchserve: run it beside Triton. It is archived upstream: no security fixes.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="torchserve", help="torchserve: no longer, after --with.")
    ] = None,
    json: Json = False,
) -> None:
    """Start the desk and wait until everything answers in its own protocol. Twice is harmless.

    What was chosen at the first start is kept in the home folder and used again, ULTRATHINK_GATEWAY_* and the like
    of our own processes too; what is given now changes it. Without a released model the gateway waits for one.
    """
    from stack.servers.settings import differences, is_started, load

    asked = with_and_without(beside, without)
    settings = wanted(profile, brokers, ports, model_repository, kafka_security, asked)
    home = settings.absolute_home
    if is_started(home):
        for change in differences(load(home), settings):
            err.print(f"[yellow]changed:[/] {escape(change)}", soft_wrap=True)
    start(settings, json=json)


def with_and_without(beside: list[str] | None, without: list[str] | None) -> tuple[str, ...] | None:
    """Servers beside the usual; None leaves them as they were. Raises ConfigurationError."""
    from trading.errors import ConfigurationError

    for option, given in (("--with", beside), ("--without", without)):
        for name in given or ():
            if name != "torchserve":
                raise ConfigurationError(f"{option} {name}: expected torchserve")
    if beside and without:
        raise ConfigurationError("--with and --without name the same server: give one of them")
    if without:
        return ()
    return tuple(beside) if beside else None


def wanted(
    profile: str | None,
    brokers: int | None,
    ports: str | None,
    model_repository: Path | None,
    kafka_security: str | None,
    beside: tuple[str, ...] | None,
) -> StackSettings:
    """What is asked for now, and what was chosen before. Raises ConfigurationError."""
    from stack.processes.environment import check, misspelt, secrets_told, told
    from stack.servers.settings import ServerPorts, chosen, load
    from stack.supervision.checks import check_same
    from stack.supervision.status import read_status
    from trading.errors import ConfigurationError

    settings = chosen(
        profile=profile, brokers=brokers, model_repository=model_repository, kafka_security=kafka_security,
        beside=beside, desk=told() or None,
    )  # fmt: skip
    home = settings.absolute_home
    if settings.brokers == 2:
        raise ConfigurationError("--brokers 2 cannot lose one: use 1, or 3")
    check(settings.desk)
    for variable, near in misspelt().items():
        hint = f": did you mean {near}?" if near else ""
        err.print(f"[yellow]{variable} changes nothing{hint}[/]", soft_wrap=True)
    for name in secrets_told():
        err.print(f"[yellow]{name} is a secret, and not kept: the next start does not know it[/]", soft_wrap=True)
    running = read_status(home)
    if running is not None and running.alive:
        check_same(settings, load(home))
    elif ports is not None:
        made = ServerPorts.automatic() if ports == "auto" else ServerPorts()
        settings = settings.model_copy(update={"ports": made})
    return settings


def start(settings: StackSettings, *, json: bool = False) -> None:
    """Bring the stack up with live progress, then print the health matrix."""
    from rich.live import Live

    from stack.servers import prometheus
    from stack.supervision.lifecycle import up as bring_up

    with Live(console=err, refresh_per_second=8, transient=True) as live:

        def show(status: StackStatus) -> None:
            live.update(matrix(status))

        status = bring_up(settings, show)
    if "torchserve" in settings.beside:
        from stack.servers.torchserve import ARCHIVED

        err.print(f"[yellow]{escape(ARCHIVED)}[/]", soft_wrap=True)
    if json:
        print_json({"ready": status.ready, "profile": status.profile, "services": status.services})
        return
    out.print(matrix(status))
    for line in remarks(status):
        out.print(line, soft_wrap=True)
    if prometheus.program() is None:
        out.print(f"[dim]{prometheus.MISSING}[/]")


@app.command(epilog="Example: ultrathink stack restart gateway --reason 'new limits of memory'")
def restart(
    service: Annotated[str, typer.Argument(help="A name of `stack status`.")],
    reason: Annotated[str, typer.Option(help="Shown as its last exit.")] = "",
    json: Json = False,
) -> None:
    """End one process and start it again, as the supervisor does; waits until it answers."""
    from stack.servers.settings import load
    from stack.supervision.lifecycle import restart as start_again

    with err.status(f"restarting {service}"):
        found = start_again(load().absolute_home, service, reason)
    if json:
        print_json(found)
    else:
        out.print(f"{found.name} is {found.state}" + (f": {found.held}" if found.held else ""))


@app.command("rotate-tokens", epilog="Example: ultrathink stack rotate-tokens")
def rotate_tokens(json: Json = False) -> None:
    """New tokens for TorchServe, which it takes at once; who asks it reads them again, and no request fails.

    The supervisor does this by itself, twice a day.
    """
    from stack.servers.settings import load
    from stack.servers.torchserve import FILES, rotate

    settings = load()
    rotate(settings)
    files = [str(settings.absolute_home / "secrets" / name) for name in FILES.values()]
    print_json({"written": files}) if json else out.print(f"written: {', '.join(files)}", soft_wrap=True)


@app.command(epilog="Example: ultrathink stack down --purge")
def down(
    purge: Annotated[bool, typer.Option(help="Delete what a stack made in this home folder too.")] = False,
) -> None:
    """End what `up` started, and nothing else. Data is kept unless --purge."""
    from stack.servers.settings import home_folder
    from stack.supervision import units
    from stack.supervision.lifecycle import delete_data
    from stack.supervision.lifecycle import down as bring_down
    from trading.errors import ServiceUnavailable

    home, refused, kept = home_folder(), "", list[str]()
    with err.status("draining and stopping"):
        try:
            # Of a desk that systemd keeps running, it must not come back at once.
            kept = units.stop(home)
        except Exception as error:  # noqa: BLE001 - whatever keeps systemd from being asked, the desk ends
            refused = str(error)
        ran = bring_down(home) or bool(kept)
    for name in kept:
        out.print(f"{name} is stopped until the next boot; `ultrathink stack disable` takes it away")
    out.print("stopped" if ran else "nothing was running")
    if refused:
        raise ServiceUnavailable(f"what ran is ended; systemd, which may start it again, was not asked: {refused}")
    if purge:
        left = delete_data(home)
        out.print(f"what a stack made in {home} is deleted" + (f"; left: {', '.join(left)}" if left else ""))


@app.command(epilog="Example: ultrathink stack run --profile desk")
def run(profile: ProfileOption = None) -> None:
    """Supervise the desk in the foreground until SIGTERM, as systemd and containers want it; see `stack enable`.

    Whatever an earlier supervisor left is ended first. Nothing is given up: what does not start is tried again.
    """
    from stack.supervision.lifecycle import prepare, supervisor_command
    from stack.supervision.orphans import LOCK, SUPERVISOR, is_supervised, marker
    from trading.errors import ConfigurationError

    settings = wanted(profile, None, None, None, None, None)
    if is_supervised(settings.absolute_home):
        raise ConfigurationError(
            f"a stack runs in {settings.absolute_home} already: `ultrathink stack down` ends it"
        )
    lock = prepare(settings)
    os.set_inheritable(lock.fileno(), True)
    home = settings.absolute_home
    # It replaces this process: whoever started us watches the supervisor itself.
    command = supervisor_command(home)
    os.execve(command[0], command, {**os.environ, **marker(home, SUPERVISOR), LOCK: str(lock.fileno())})  # noqa: S606
