"""Steps of an update: the rows that are ripe, and a small step from what decides the desk."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from stack.workflows.orchestrator.asked import RUN, UpdateSpec
from stack.workflows.orchestrator.lived import LEARNED, dataset, forget, opened, rows_of, span_of, spec_of
from trading.errors import ConfigurationError
from trading.history.archive import Between
from trading.spans import span_text
from trainers.online.bounds import LEAST_BATCH
from trainers.orchestrator.step import StepContext, StepRejected


def ripen(context: StepContext) -> dict[str, Any]:
    """The ripe rows of the newest ticks, as a dataset.

    Raises:
        StepRejected: ticks are there twice, or were told again.
        SourceError: the archive is damaged.
        ConfigurationError: it is of another log by now.
    """
    from trainers.data.archived_columns import read_columns
    from trainers.online.ripening import repeats

    told = context.output("collect")
    span = span_of(told, told["start"], told["stop"])
    if faults := repeats(read_columns(span.folder, Between(span.start, span.stop))).faults:
        raise StepRejected(f"these ticks are not learned from: {'; '.join(faults)}")
    data = rows_of(dataset(context, told, span))
    manifest, ripe = data.manifest, int(data.labels.valid.sum())
    waiting = len(data) - ripe
    horizon = span_text(told["horizon_ns"])
    return {
        "spec": span.spec, "dataset_hash": manifest.dataset_hash, "rows": len(data),
        "ripe": ripe, "left_out": manifest.left_out,
        "summary": f"{ripe:,} of {manifest.ticks:,} ticks have a ripe label; {waiting:,} wait for their {horizon}",
    }  # fmt: skip


def update_models(context: StepContext) -> dict[str, Any]:
    """A small step from the champion, judged by the newest ripe rows; three registered challengers.

    Raises:
        StepRejected: the rows are broken, planted or told twice, or the step was none forward.
    """
    from stack.workflows.orchestrator.updating import registered, stepped

    spec, told, ripe = spec_of(context), context.output("collect"), context.output("ripen")
    assert isinstance(spec, UpdateSpec)  # noqa: S101 - of its kind
    # Where memory ran out, batches are smaller than they were asked.
    batch_rows = max(LEAST_BATCH, spec.learning.batch_rows // context.run.divisor)
    settings = replace(spec.learning, batch_rows=batch_rows)
    tags = {RUN: context.run.id, LEARNED: f"{told['topic_id']}@{told['stop']}", "updated_from": told["champion"]}
    try:
        folder = dataset(context, told, span_of(told, told["start"], told["stop"]))
        champion, data = opened(told["models"]), rows_of(folder)
        if data.manifest.dataset_hash != ripe["dataset_hash"]:
            raise ConfigurationError(
                f"{told['archive']} gives other rows than it did: it was changed, submit another"
            )
        found = stepped(champion, data, settings, context.progress)
        context.check()
        report = registered(champion, (data, folder), found, settings, tags, context.progress)
    finally:
        # Offsets make the same rows again, where another attempt needs them.
        forget(context)
    return {
        "run_id": report.run_id, "models": report.models, "verdict": report.verdict, "edge": report.edge,
        "champion_sha256": found.champion, "sha256": found.sha256, "gain": found.gain,
        "distances": found.distances, "held": len(found.after), "fresh": len(found.parts.fresh),
        "replayed": len(found.parts.replayed), "score": None, "summary": found.sentence,
    }  # fmt: skip
