"""`ultrathink forensics`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stack.cli.output import err, out

if TYPE_CHECKING:
    from services.forensics.settings import ForensicsSettings

app = typer.Typer(no_args_is_help=True, help="The audit trail: every decision, kept in PostgreSQL or TimescaleDB.")


def forensics_settings() -> ForensicsSettings:
    """The environment, then the stack of the home folder."""
    from services.forensics.settings import ForensicsSettings
    from stack.servers.settings import load

    stack = load()
    values: dict[str, Any] = {}
    if (stack.absolute_home / "stack.json").is_file():
        values = {"kafka_bootstrap": stack.kafka_bootstrap, "postgres_url": stack.postgres_url("ultrathink")}
    return ForensicsSettings(
        **{k: v for k, v in values.items() if f"ULTRATHINK_FORENSICS_{k.upper()}" not in os.environ}
    )


@app.command(epilog="Example: ultrathink forensics run")
def run(
    heartbeat: Annotated[Path | None, typer.Option(help="File touched in every turn, for a health check.")] = None,
) -> None:
    """Store published decisions until SIGTERM or Ctrl-C; going on later loses and repeats none."""
    from connectors.tracing import open_tracer
    from services.forensics.audit import follow
    from services.forensics.reader import DecisionReader
    from services.forensics.store import DecisionArchive

    settings = forensics_settings()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    archive = DecisionArchive(settings.postgres_url.get_secret_value())
    tracer = open_tracer(settings.trace_exporter, "ultrathink-forensics", settings.trace_share)
    reader = DecisionReader(settings.kafka_bootstrap, settings.group, settings.decisions_topic)
    kind = "TimescaleDB hypertable" if archive.hypertable else "PostgreSQL table"
    with err.status(f"storing decisions in a {kind}") as status:

        def progress(count: int) -> None:
            status.update(f"{count:,} decisions stored")
            if heartbeat is not None:
                heartbeat.touch()

        stored = follow(reader, archive, stopping, progress, tracer)
    if tracer is not None:
        tracer.close()
    reader.close()
    archive.close()
    out.print(f"{stored:,} decisions stored")


@app.command(epilog="Example: ultrathink forensics show market.ticks-0-4711")
def show(decision_id: Annotated[str, typer.Argument(help="Topic-partition-offset of the tick.")]) -> None:
    """Print a decision's whole evidence as JSON. Exit code 1 when it is not stored."""
    from services.forensics.store import DecisionArchive

    archive = DecisionArchive(forensics_settings().postgres_url.get_secret_value())
    found = archive.find(decision_id)
    archive.close()
    if found is None:
        err.print(f"{decision_id} is not stored", markup=False)
        raise typer.Exit(1)
    sys.stdout.write(found + "\n")
