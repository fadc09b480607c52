"""`ultrathink forensics`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from stack.cli.output import err, out

app = typer.Typer(no_args_is_help=True, help="The audit trail: every decision, kept in PostgreSQL or TimescaleDB.")


@app.command(epilog="Example: ultrathink forensics run")
def run(
    heartbeat: Annotated[Path | None, typer.Option(help="File touched in every turn, for a health check.")] = None,
) -> None:
    """Store published decisions until SIGTERM or Ctrl-C; going on later loses and repeats none."""
    from services.forensics.main import run as serve
    from stack.processes.settings import forensics_settings

    with err.status("connecting") as status:

        def began(kind: str) -> None:
            status.update(f"storing decisions in a {kind}")

        def progress(count: int) -> None:
            status.update(f"{count:,} decisions stored")
            if heartbeat is not None:
                heartbeat.touch()

        kept = serve(forensics_settings(), began, progress)
    out.print(f"{kept.new:,} decisions stored")
    if kept.aside:
        err.print(f"[yellow]{kept.aside:,} records were no decisions[/]: see the table undecodable_decisions")


@app.command(epilog="Example: ultrathink forensics show market.ticks-0-4711")
def show(decision_id: Annotated[str, typer.Argument(help="Topic-partition-offset of the tick.")]) -> None:
    """Print a decision's whole evidence as JSON. Exit code 1 when it is not stored."""
    from services.forensics.store import DecisionArchive
    from stack.processes.settings import forensics_settings

    archive = DecisionArchive(forensics_settings().postgres_url.get_secret_value())
    found = archive.find(decision_id)
    archive.close()
    if found is None:
        err.print(f"{decision_id} is not stored", markup=False)
        raise typer.Exit(1)
    sys.stdout.write(found + "\n")
