"""`ultrathink stack status` and `logs`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.output import out, print_json
from stack.cli.stack.command import Json, app
from stack.cli.stack.table import matrix, remarks, remarks_of, table_of

if TYPE_CHECKING:
    from stack.servers.settings import ServerPorts


@app.command(epilog="Example: ultrathink stack status --json")
def status(
    compose: Annotated[
        bool, typer.Option("--compose", help="Of the containers of the docker-compose.yml in this folder.")
    ] = False,
    json: Json = False,
) -> None:
    """The health matrix. Exit code 1 unless every process answers."""
    from exporters.target.gpu_validation import FILE, installed
    from stack.servers.settings import load
    from stack.supervision.gpu_memory import here
    from stack.supervision.machine import gpu_words
    from stack.supervision.status import read_status

    if compose:
        compose_matrix(json=json)
        return
    home = load().absolute_home
    found, gpu, cards = read_status(home), gpu_words(home / FILE, installed()), here()
    if json:
        services, problems, profile = (found.services, found.problems, found.profile) if found else ([], [], "")
        ready = bool(found and found.ready)
        print_json(
            {
                "ready": ready,
                "profile": profile,
                "services": services,
                "problems": problems,
                "gpu": gpu,
                "cards": cards,
                "ports": load().ports.model_dump(),
            }
        )
    elif found is None:
        out.print(f"nothing runs in {home}: start it with `ultrathink stack up`")
    else:
        out.print(matrix(found))
        if not found.alive:
            out.print("[red]the supervisor is gone: `ultrathink stack up` starts anew[/]")
        elif not found.fresh:
            out.print("[red]the supervisor has told nothing for long: this is how it was; is its disk full?[/]")
        for line in remarks(found):
            out.print(line, soft_wrap=True)
        out.print(ports_of(load().ports), markup=False, soft_wrap=True)
        for line in (*(card.words for card in cards), *gpu):
            out.print(line, markup=False, soft_wrap=True)
    if not (found is not None and found.ready):
        raise typer.Exit(1)


def ports_of(ports: ServerPorts) -> str:
    """Each port of the stack's, by its name: the table has one a service."""
    told = {name: value if isinstance(value, tuple | list) else (value,) for name, value in ports}
    return "ports: " + ", ".join(f"{name} {' '.join(map(str, values))}" for name, values in told.items())


def compose_matrix(*, json: bool) -> None:
    """The same of a compose deployment."""
    from stack.supervision.compose_status import compose_status, docker, gpu_validation
    from stack.supervision.gpu_memory import in_container
    from stack.supervision.status import READY

    ask = docker(Path.cwd())
    rows = compose_status(ask)
    gpu, cards = (gpu_validation(ask), in_container(ask)) if rows else ([], [])
    ready = bool(rows) and all(row.state == READY or row.held for row in rows)
    if json:
        print_json(
            {"ready": ready, "profile": "compose", "services": rows, "problems": [], "gpu": gpu, "cards": cards}
        )
    elif rows:
        out.print(table_of(rows))
        for line in remarks_of(rows):
            out.print(line, soft_wrap=True)
        for line in (*(card.words for card in cards), *gpu):
            out.print(line, markup=False, soft_wrap=True)
    else:
        out.print("no container of this compose file exists: `docker compose up -d`")
    if not ready:
        raise typer.Exit(1)


@app.command(epilog="Example: ultrathink stack logs triton --lines 100")
def logs(
    service: Annotated[str, typer.Argument(help="A name of `stack status`, or supervisor.")],
    lines: Annotated[int, typer.Option(min=1)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print the end of a process's log."""
    from stack.servers.log_files import find_log, tail
    from stack.servers.settings import load

    path = find_log(load().absolute_home, service)
    if follow:
        os.execvp("tail", ["tail", "-n", str(lines), "-F", str(path)])  # noqa: S606 - it replaces this process
    for line in tail(path, lines):
        out.print(line, markup=False, soft_wrap=True)
