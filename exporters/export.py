"""Export: fetch, open, convert, check against the target, prove against the source, publish."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from exporters.conversion import convert
from exporters.errors import ExportError
from exporters.formats import onnx
from exporters.options import Converted, Options, Progress
from exporters.pipelines import convert_fused, ensemble
from exporters.repository.repository import ModelRepository
from exporters.rows import read_rows
from exporters.sources import references
from exporters.sources.declared import declared
from exporters.sources.opened import ModelSource, opened
from exporters.target import memory
from trading.models.signature import FUSED, MODELS, ModelSignature, variant_name


class PublishedVersion(Struct, frozen=True):
    """A version in the repository; `version` is 0 after a dry run. Parity is that of the file, in this process.

    `parity_relative` is on the scale that is judged, of which `parity_limit` is allowed.
    `int8` is what eight bits cost and save, as `exporters.quantization.Int8` names it.
    """

    name: str
    version: int
    source: str
    run_id: str
    format: str
    precision: str
    target: str
    inputs: str
    outputs: str
    parity_max_abs_diff: float
    parity_relative: float
    parity_limit: float
    flip_rate: float
    rank_correlation: float | None
    weights_mib: float
    seconds: float
    int8: Mapping[str, float] = {}


def export_model(
    reference: str, options: Options, repository: ModelRepository, progress: Progress
) -> PublishedVersion:
    """Export one model.

    Args:
        reference: NAME[@ALIAS|/VERSION], a models: or runs: URI, or a file or MLflow folder.
        options: how.
        repository: where to; unchanged unless all went well.
        progress: told what is being done.

    Raises:
        ExportError: says what does not fit; ServiceUnavailable: MLflow does not answer.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        source = open_reference(stack, reference, options, Path(temporary), progress)
        stack.enter_context(locked(repository, options, source.signature.name))
        converted = convert(
            source, stack.enter_context(place(repository, options, source.signature.name)), options, progress
        )
        return publish(converted, repository, options, started, progress)


def open_reference(
    stack: ExitStack, reference: str, options: Options, temporary: Path, progress: Progress
) -> ModelSource:
    """Fetch and open a model, under the name that it will be served by."""
    progress(f"fetch {reference}")
    folder = temporary / f"source-{len(list(temporary.iterdir()))}"
    (folder / "download").mkdir(parents=True)
    (folder / "home").mkdir(mode=0o700)
    # Before anything is downloaded.
    sample = read_rows(options.sample) if options.sample is not None else None
    origin = references.fetch(options.mlflow_uri, reference, folder / "download", options.name, options.alias)
    origin = declared(origin, options.inputs, sample, options.precision)
    origin = replace(origin, name=references.served_name(variant_name(origin.name, options.variant)))
    progress(f"{origin.name}: open {origin.flavour}")
    return stack.enter_context(
        opened(
            origin,
            folder / "home",
            trust=options.trust,
            max_batch=options.max_batch,
            precision=options.precision,
            tracer_warnings=options.tracer_warnings,
            as_columns=options.as_columns,
        )
    )


@contextmanager
def locked(repository: ModelRepository, options: Options, *names: str) -> Iterator[None]:
    """The models' locks, except for a dry run, which writes nothing there."""
    if options.dry_run:
        yield
        return
    with repository.lock(*names):
        yield


@contextmanager
def place(repository: ModelRepository, options: Options, name: str) -> Iterator[Path]:
    """Where to convert: staging, or a folder that goes away after a dry run."""
    if options.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        with repository.stage(name) as staged:
            yield staged


def publish(
    converted: Converted, repository: ModelRepository, options: Options, started: float, progress: Progress
) -> PublishedVersion:
    """Make the staged folder a version; nothing serves it yet."""
    lineage = converted.lineage
    signature, version = lineage.contract, 0
    if not options.dry_run:
        progress(f"{signature.name}: publish")
        version = repository.publish(lineage, converted.folder, converted.golden_in, converted.golden_out)
    return PublishedVersion(
        name=signature.name,
        version=version,
        source=lineage.model,
        run_id=",".join(filter(None, lineage.run_ids.values())),
        format={"onnxruntime": "ONNX", "pytorch": "TorchScript", "ensemble": "ensemble"}[signature.backend],
        precision=lineage.precision,
        target=lineage.target,
        inputs=onnx.text(signature.inputs),
        outputs=onnx.text(signature.outputs),
        parity_max_abs_diff=lineage.parity_max_abs,
        parity_relative=lineage.parity_relative,
        parity_limit=lineage.parity_limit,
        flip_rate=lineage.parity_flip_rate,
        rank_correlation=lineage.parity_rank,
        weights_mib=lineage.weights_bytes / memory.MIB,
        seconds=round(time.monotonic() - started, 3),
        int8=lineage.int8,
    )


def export_pipeline(
    name: str,
    options: Options,
    repository: ModelRepository,
    progress: Progress,
    *,
    fuse: bool = False,
    alone: bool = False,
    references: Mapping[str, str] | None = None,
) -> list[PublishedVersion]:
    """Export an ensemble with its steps pinned, and with `fuse` the same as one graph; `alone`, that graph only.

    All are converted and proven before any is published. `references` says of a step by its name which version of
    it is meant, as "models:/NAME/3"; those that are not named are what the options' alias means.

    Raises:
        ExportError: `name` is no ensemble, or a step does not fit; nothing was published.
    """
    started, signature = time.monotonic(), pipeline_contract(name, options)
    fused_name = variant_name(name, FUSED)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        sources = [
            open_reference(
                stack,
                (references or {}).get(step, step),
                replace(options, name="", variant=""),
                Path(temporary),
                progress,
            )
            for step in signature.steps
        ]
        names = [*(() if alone else (*signature.steps, name)), *([fused_name] if fuse or alone else [])]
        stack.enter_context(locked(repository, options, *names))
        folders = {n: stack.enter_context(place(repository, options, n)) for n in names}
        if alone:
            whole = convert_fused(signature, sources, folders[fused_name], options, progress)
            return [publish(whole, repository, options, started, progress)]
        converted = [convert(s, folders[s.signature.name], options, progress) for s in sources]
        fused = [convert_fused(signature, sources, folders[fused_name], options, progress)] if fuse else []
        done = [publish(c, repository, options, started, progress) for c in converted]
        pins = {p.name: p.version for p in done}
        whole = ensemble(signature, sources, folders[name], converted, pins, options)
        done += [publish(c, repository, options, started, progress) for c in (whole, *fused)]
        return done


def pipeline_contract(name: str, options: Options) -> ModelSignature:
    """The contract of an ensemble, with the largest batch that is wanted. Raises ExportError for another name."""
    signature = MODELS.get(name)
    if signature is None or signature.backend != "ensemble":
        known = ", ".join(m.name for m in MODELS.values() if m.backend == "ensemble")
        raise ExportError(f"{name!r} is no pipeline: expected {known}")
    return replace(signature, max_batch_size=options.max_batch or signature.max_batch_size)
