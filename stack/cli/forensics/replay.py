"""`ultrathink forensics replay`: decisions made again, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.forensics.command import JsonOption, app
from stack.cli.output import coloured, err, out, print_json, table
from trading.errors import ConfigurationError

if TYPE_CHECKING:
    from services.forensics.replaying import Span, SpanReplay
    from services.forensics.settings import ForensicsSettings
    from services.forensics.store.reading import TrailReader
    from stack.workflows.what_if import AnswerCheck

SHOWN = 50
#: Decisions whose answers are asked for: the newest of a span.
MOST_ASKED = 10_000


@app.command(epilog="Example: ultrathink forensics replay market.ticks-0-4711")
def replay(
    decision_id: Annotated[
        str | None, typer.Argument(help="Topic-partition-offset of the tick. Default: every decision.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Up to this decision of the same partition.")] = None,
    ask: Annotated[
        bool,
        typer.Option("--ask", help=f"Ask Triton for the models' answers too, of at most {MOST_ASKED:,} decisions."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make decisions again: features from ticks, orders from recorded answers, verdicts from limits and book.

    All is compared byte for byte but for what a wall clock wrote; the models' answers, where they are asked for,
    to the last bit where server, device and batches are those of the gateway's start, else within the parity of the
    release; a version that is not served any more is loaded beside what is. Exit code 1 where a decision is not the
    same.
    """
    from services.forensics.rebindings import rebindings_of
    from services.forensics.replaying import replay_span
    from services.forensics.store.reading import opened
    from stack.cli.train import showing
    from stack.processes.settings import forensics_settings
    from stack.workflows.lived_ticks import lived_ticks

    settings = forensics_settings()
    with opened(settings.reader_url.get_secret_value()) as reader, showing("replaying") as progress:
        ticks = lived_ticks(settings, rebindings_of(reader, settings))
        spans = spans_asked(reader, settings, decision_id, to)
        done = []
        for span in spans:
            stage = f"partition {span.partition}"
            done.append(
                replay_span(reader, ticks, settings, span, lambda n, of, stage=stage: progress(stage, n, of))  # type: ignore[misc]
            )
        answers = asked(reader, settings, spans) if ask else []
    if decision_id is not None and to is None and not done[0].decisions:
        raise ConfigurationError(f"{decision_id} is not on record")
    if json:
        print_json({"spans": done, "answers": answers})
    else:
        tell(done)
        tell_answers(answers)
    if any(one.different for one in done) or any(a.verdict in {"beyond_parity", "differs"} for a in answers):
        raise typer.Exit(1)


def spans_asked(
    reader: TrailReader, settings: ForensicsSettings, first: str | None, last: str | None
) -> list[Span]:
    """What is made again. Raises ConfigurationError for ids that name no span."""
    from services.forensics.replay_log import place_of, spans_of
    from services.forensics.replaying import Span

    if first is None:
        if last is not None:
            raise ConfigurationError("--to needs the decision to begin with")
        return [Span(partition) for partition in spans_of(reader, settings.roles())]
    partition, begin = place_of(first, settings.ticks_topic)
    end = (partition, begin) if last is None else place_of(last, settings.ticks_topic)
    if end[0] != partition or end[1] < begin:
        raise ConfigurationError(f"{last} does not follow {first} in its partition")
    return [Span(partition, begin, end[1])]


def asked(reader: TrailReader, settings: ForensicsSettings, spans: Sequence[Span]) -> list[AnswerCheck]:
    """The recorded versions asked for the recorded features; of the newest decisions, where there are many."""
    from exporters.errors import ExportError
    from services.forensics.gateway_starts import starts_of
    from services.forensics.rebindings import rebindings_of
    from services.forensics.replaying import decisions_of
    from stack.workflows.asking import place_of_models
    from stack.workflows.what_if import check_answers

    place = place_of_models()
    believed = rebindings_of(reader, settings)
    starts = [
        s for log in reader.logs() if log.kind == "decisions" for s in starts_of(reader, settings, log, believed)
    ]
    decisions = [d for span in spans for d in decisions_of(reader, settings, span, MOST_ASKED // len(spans))]
    parity = {}
    for model, version in {(d.model_name, d.model_version) for d in decisions if d.model_version}:
        # A version of another repository has no lineage here.
        with suppress(ExportError, ValueError):
            parity[model, version] = place.repository.lineage(model, int(version)).parity_max_abs
    return check_answers(place, decisions, starts, parity)


def tell_answers(answers: Sequence[AnswerCheck]) -> None:
    """A sentence a version."""
    for one in answers:
        words = {
            "exact": "[green]to the last bit[/]",
            "differs": f"[red]{one.exact:,} to the last bit[/], though server, device and batches are the same",
            "within_parity": f"{one.exact:,} to the last bit, all within the release's parity ({one.parity})",
            "beyond_parity": f"[red]beyond the release's parity ({one.parity})[/]",
            "unknown_parity": "not to the last bit; no lineage tells the release's parity",
        }[one.verdict]
        out.print(
            f"{one.model} version {one.version}, asked again for {one.decisions:,} decisions, answers: "
            f"{words}; largest difference {one.largest:.1e}"
        )
        if one.recalled:
            out.print("  it is not served: it was loaded beside what is, and unloaded again")
        if one.others:
            out.print(f"  then and now, {'; '.join(one.others)}", markup=False)


def tell(done: list[SpanReplay]) -> None:
    """What became of the spans, on the screen."""
    count, different = sum(one.decisions for one in done), [d for one in done for d in one.different]
    before = sum(one.before for one in done)
    told = f", after {before:,} before them" if before else ""
    for said in sorted({one.said for one in done if one.said}):
        err.print(said, markup=False)
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
