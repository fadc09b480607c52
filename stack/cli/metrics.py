"""`ultrathink metrics`."""

from __future__ import annotations

from typing import Annotated

import typer

from stack.cli.output import err

app = typer.Typer(
    no_args_is_help=True,
    help="What Prometheus is told of servers, trainings, the machine and a desk's processes.",
)


@app.command(epilog="Example: ultrathink metrics serve --port 9111")
def serve(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: the stack's, else 9111; 0: a free one.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="To listen on; loopback unless asked.")] = None,
) -> None:
    """Answer at /metrics until SIGTERM or Ctrl-C. Settings: ULTRATHINK_METRICS_* too.

    Names are those of kafka_exporter, postgres_exporter, redis_exporter, node_exporter and the DCGM exporter; of
    the desk's own processes and models they begin with ultrathink_.
    """
    from services.metrics.main import run
    from stack.processes.settings import metrics_settings
    from stack.servers.settings import is_started, load

    settings, stack, more = metrics_settings(port=port, host=host), load(), []
    if is_started(stack.absolute_home):
        from stack.supervision.sources import desk_sources

        more = desk_sources(stack)
    elif settings.models is not None:
        from stack.supervision.sources import ReleasesSource

        more = [ReleasesSource(settings.models)]
    run(
        settings, more,
        lambda bound: err.print(f"listens on http://{settings.host}:{bound}", markup=False, soft_wrap=True),
    )  # fmt: skip
