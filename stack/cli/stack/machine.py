"""`ultrathink stack doctor`, `enable` and `disable`."""

from __future__ import annotations

from typing import Annotated

import typer

from stack.cli.output import coloured, err, out, print_json, table
from stack.cli.stack.command import Json, ProfileOption, app, wanted


@app.command(epilog="Example: ultrathink stack doctor --json")
def doctor(profile: ProfileOption = None, json: Json = False) -> None:
    """What would stop a start, or slow the desk down, each with a way out. Exit code 1 where something would."""
    from stack.supervision.doctor import examine

    found = examine(wanted(profile, None, None, None, None, None))
    if json:
        print_json(found)
    else:
        colours = {"fits": "green", "cannot tell": "yellow", "does not fit": "red"}
        rows = [[f.check, coloured(colours[f.verdict], f.verdict), f.seen, f.way_out] for f in found]
        out.print(table("", ["check", "verdict", "seen", "way out"], rows, prose=True))
    # What cannot be told, or is only worth a look, keeps nobody from starting.
    if any(f.verdict == "does not fit" for f in found):
        raise typer.Exit(1)


SystemOption = Annotated[
    bool, typer.Option("--system", help="For the machine's systemd, as root; else for this user's own.")
]


@app.command(epilog="Example: ultrathink stack enable --print")
def enable(
    system: SystemOption = False,
    user: Annotated[str, typer.Option(help="The account that a --system unit runs as.")] = "",
    show: Annotated[bool, typer.Option("--print", help="Print the unit; install nothing.")] = False,
    profile: ProfileOption = None,
) -> None:
    """Have systemd start the desk at boot, and again whenever its supervisor ends.

    Without systemd it says what to put where, and exits with 1.
    """
    import tempfile
    from pathlib import Path

    from stack.supervision import units
    from stack.supervision.lifecycle import claim_home
    from stack.supervision.orphans import is_supervised
    from trading.errors import ConfigurationError

    settings = wanted(profile, None, None, None, None, None)
    made = units.unit(settings.absolute_home, system=system, user=user)
    with tempfile.TemporaryDirectory() as folder:
        if wrong := units.verify(made, Path(folder)):
            raise ConfigurationError(f"systemd-analyze refuses the unit: {wrong}")
    if show:
        out.print(made.text, markup=False, soft_wrap=True, end="")
        return
    if not units.has_systemd():
        for line in units.elsewhere(settings):
            err.print(line, markup=False, soft_wrap=True)
        raise typer.Exit(1)
    if is_supervised(settings.absolute_home):
        raise ConfigurationError("a stack runs here: `ultrathink stack down` first; the unit starts it anew")
    claim_home(settings)
    units.enable(made)
    out.print(
        f"{made.name} is enabled and started: `systemctl{' --user' if made.is_user else ''} status {made.name}`"
    )
    if made.is_user:
        out.print("so that it runs while you are not logged in: `loginctl enable-linger`")


@app.command(epilog="Example: ultrathink stack disable")
def disable(system: SystemOption = False) -> None:
    """End the unit that `enable` has made for this home folder, and take it away."""
    from stack.servers.settings import home_folder
    from stack.supervision import units

    made = units.unit(home_folder(), system=system)
    out.print(f"{made.name} is gone" if units.disable(made) else f"there is no {made.path}", soft_wrap=True)


@app.command(epilog="Example: ultrathink stack serve --port 8040")
def serve(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default: the stack's, else 8040.")] = None,
    host: Annotated[str, typer.Option(help="To listen on; loopback unless asked.")] = "127.0.0.1",
) -> None:
    """Status, logs, restart, release, rollback and load tests over HTTP, until SIGTERM or Ctrl-C.

    GET /openapi.json says what can be asked. Every request but for health needs the token that lies in the home
    folder, secrets/stack-token.
    """
    from stack.api.main import run as serve_until
    from stack.servers.settings import load

    settings = load()
    serve_until(
        settings, host, settings.ports.stack if port is None else port,
        lambda bound: err.print(f"listens on http://{host}:{bound}", markup=False, soft_wrap=True),
    )  # fmt: skip
