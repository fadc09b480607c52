"""`ultrathink forensics replay`: decisions made again, and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.forensics.command import JsonOption, app
from stack.cli.output import coloured, out, print_json, table
from trading.errors import ConfigurationError

if TYPE_CHECKING:
    from services.forensics.replaying import SpanReplay

SHOWN = 50


@app.command(epilog="Example: ultrathink forensics replay market.ticks-0-4711")
def replay(
    decision_id: Annotated[
        str | None, typer.Argument(help="Topic-partition-offset of the tick. Default: every decision.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Up to this decision of the same partition.")] = None,
    json: JsonOption = False,
) -> None:
    """Make decisions again: features from ticks, orders from recorded answers, verdicts from limits and book.

    All is compared byte for byte but for what a wall clock wrote. Exit code 1 where a decision is not the same.
    """
    from services.forensics.replay_log import place_of, spans_of
    from services.forensics.replaying import MOST, Span, replay_span
    from services.forensics.store.reading import opened
    from services.forensics.tick_log import KafkaTicks
    from stack.cli.train import showing
    from stack.processes.settings import forensics_settings

    settings = forensics_settings()
    ticks = KafkaTicks(settings.kafka_bootstrap, settings.ticks_topic)
    with opened(settings.reader_url.get_secret_value()) as reader, showing("replaying") as progress:
        if decision_id is None:
            if to is not None:
                raise ConfigurationError("--to needs the decision to begin with")
            spans = [Span(partition) for partition in spans_of(reader, settings.roles())]
        else:
            partition, first = place_of(decision_id, settings.ticks_topic)
            last = (partition, first) if to is None else place_of(to, settings.ticks_topic)
            if last[0] != partition or last[1] < first:
                raise ConfigurationError(f"{to} does not follow {decision_id} in its partition")
            spans = [Span(partition, first, min(MOST, last[1]))]
        done = []
        for span in spans:
            stage = f"partition {span.partition}"
            done.append(
                replay_span(reader, ticks, settings, span, lambda n, of, stage=stage: progress(stage, n, of))  # type: ignore[misc]
            )
    if decision_id is not None and to is None and not done[0].decisions:
        raise ConfigurationError(f"{decision_id} is not on record")
    if json:
        print_json(done)
    else:
        tell(done)
    if any(one.different for one in done):
        raise typer.Exit(1)


def tell(done: list[SpanReplay]) -> None:
    """What became of the spans, on the screen."""
    count, different = sum(one.decisions for one in done), [d for one in done for d in one.different]
    before = sum(one.before for one in done)
    told = f", after {before:,} before them" if before else ""
    if not different:
        out.print(f"[green]the same, byte for byte[/]: {count:,} decisions made again{told}")
        return
    rows = [
        [
            d.decision_id,
            coloured("red", d.difference.field),
            d.difference.recorded,
            d.difference.recomputed,
            d.difference.why,
        ]
        for d in different[:SHOWN]
        if d.difference is not None
    ]
    out.print(
        table(
            f"{len(different):,} of {count:,} decisions differ{told}",
            ["decision", "field", "recorded", "again", "why"],
            rows,
        )
    )
