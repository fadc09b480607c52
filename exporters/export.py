"""Export: fetch, open, convert, check against the target, prove against the source, publish."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from exporters.errors import ExportError
from exporters.fault_points import reach
from exporters.formats import graph, onnx
from exporters.formats.tensors import Arrays, Run
from exporters.parity import comparison, probes
from exporters.repository.lineage import Lineage, tool_versions
from exporters.repository.repository import ModelRepository, sha256
from exporters.sources import registry
from exporters.sources.opened import Format, Source, opened, run_file
from exporters.target import memory
from exporters.target.profiles import Container, Gpu
from trading.models.signature import FUSED, MODELS, ModelSignature, contract, variant_name

Progress = Callable[[str], None]
GOLDEN_ROWS, ADVERSARIAL_ROWS = 64, 32
#: Beside these, the largest.
BATCHES = (1, 2, 3, 64)


class Options(Struct, frozen=True):
    """How to export.

    Attributes:
        mlflow_uri: MLflow's address.
        container: that must be able to read the file.
        gpu: that must be able to hold it.
        alias: taken for a plain NAME.
        name: to serve under; default: the registered one.
        variant: of the contract, served as NAME_VARIANT.
        format: "auto" takes the contract's backend, else ONNX, else TorchScript.
        precision: "fp32", or "fp16" for the weights of matrix products.
        max_batch: largest batch; default: the contract's, or 1024.
        trust: allow artefacts that can run their author's code.
        dry_run: do everything but publish.
    """

    mlflow_uri: str
    container: Container
    gpu: Gpu
    alias: str = ""
    name: str = ""
    variant: str = ""
    format: Format = "auto"
    precision: str = "fp32"
    max_batch: int | None = None
    trust: bool = False
    dry_run: bool = False


class Published(Struct, frozen=True):
    """A version in the repository; `version` is 0 after a dry run. Parity is that of the file, in this process."""

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
    flip_rate: float
    weights_mib: float
    seconds: float


class Converted(Struct, frozen=True):
    """A model in its staging folder, proven equal to its source there."""

    lineage: Lineage
    folder: Path
    golden_in: Arrays
    golden_out: Arrays


def export_model(reference: str, options: Options, repository: ModelRepository, progress: Progress) -> Published:
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
) -> Source:
    """Fetch and open a model, under the name that it will be served by."""
    progress(f"fetch {reference}")
    folder = temporary / f"source-{len(list(temporary.iterdir()))}"
    (folder / "download").mkdir(parents=True)
    (folder / "home").mkdir(mode=0o700)
    origin = registry.fetch(options.mlflow_uri, reference, folder / "download", options.name, options.alias)
    origin = replace(origin, name=registry.served_name(variant_name(origin.name, options.variant)))
    progress(f"{origin.name}: open {origin.flavour}")
    return stack.enter_context(opened(origin, folder / "home", trust=options.trust, max_batch=options.max_batch))


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


def convert(source: Source, folder: Path, options: Options, progress: Progress) -> Converted:
    """Write the model, check it against the target, compare it with its source in this process."""
    signature, path = write(source, folder, options, progress)
    return proven(
        signature,
        path,
        source.run,
        options,
        progress,
        example=source.origin.example,
        lineage=Lineage(
            contract=signature,
            model=source.origin.uri,
            run_ids={signature.name: source.origin.run_id},
            source_sha256=sha256(source.origin.artefact),
            precision=options.precision,
            target=options.container.name,
            parity_max_abs=0.0,
            parity_flip_rate=0.0,
            classes=source.classes,
            tools=tool_versions(),
            data_hash=source.origin.data_hash,
            git_commit=source.origin.git_commit,
            trusted=options.trust,
        ),
    )


def write(source: Source, folder: Path, options: Options, progress: Progress) -> tuple[ModelSignature, Path]:
    """Write model.onnx or model.pt as the options ask; returns the signature with its backend."""
    wanted = choose_format(source, options)
    signature = replace(source.signature, backend="pytorch" if wanted == "torchscript" else "onnxruntime")
    path = folder / signature.file_name
    progress(f"{signature.name}: write {path.name}")
    try:
        source.write(path)
    except ExportError:
        if options.format != "auto" or source.native != "torchscript" or wanted == "torchscript":
            raise
        path.unlink(missing_ok=True)
        signature = replace(signature, backend="pytorch")
        path = folder / signature.file_name
        source.write(path)
    reach("written")
    if options.precision == "fp16":
        if path.suffix == ".pt":
            raise ExportError(f"{signature.name}: --precision fp16 halves ONNX only: add --format onnx")
        progress(f"{signature.name}: halve its matrix products")
        onnx.save(onnx.halve(onnx.load(path), signature.outputs), path)
    return signature, path


def choose_format(source: Source, options: Options) -> Format:
    """What "auto" means: the contract's backend for a model of ours, else ONNX."""
    if options.format != "auto":
        return options.format
    try:
        known = contract(source.signature.name)
    except KeyError:
        return "onnx"
    return "torchscript" if known.backend == "pytorch" and options.precision == "fp32" else "onnx"


def proven(
    signature: ModelSignature,
    path: Path,
    source: Run,
    options: Options,
    progress: Progress,
    *,
    example: Arrays | None,
    lineage: Lineage,
) -> Converted:
    """Check and compare an exported file; raises ExportError or ParityError."""
    progress(f"{signature.name}: check against Triton {options.container.name}")
    if path.suffix == ".onnx":
        onnx.check(path, signature, options.container)
    weights, activations = memory.measure(signature, path)
    check_fits(signature, options.gpu, weights, activations)
    progress(f"{signature.name}: compare the file with its source")
    found = comparison.compare_runs(
        signature,
        source,
        run_file(signature, path),
        probe_set(signature, example),
        where="file",
        precision=options.precision,
    )
    comparison.require(signature, found)
    golden = golden_rows(signature, example)
    return Converted(
        replace(
            lineage,
            parity_max_abs=found.max_abs,
            parity_flip_rate=found.flip_rate,
            weights_bytes=weights,
            activation_bytes=activations,
        ),
        path.parent,
        golden,
        source(golden),
    )


def check_fits(signature: ModelSignature, gpu: Gpu, weights: int, activations: int) -> None:
    """Raise ExportError for a model that the GPU could not hold even alone."""
    need = memory.need(signature.name, 0, 1, weights, activations)
    alone = memory.Plan(
        gpu.title,
        gpu.memory_mib,
        gpu.memory_mib * (1 - memory.RESERVED_SHARE),
        memory.CONTEXT_MIB[signature.backend],
        [need],
    )
    if not alone.fits:
        raise ExportError(
            f"{signature.name} would need {alone.needed_mib:,.0f} MiB at batch {signature.max_batch_size}, and the "
            f"{gpu.title} has {alone.usable_mib:,.0f} MiB to give: use --precision fp16 or a smaller --max-batch"
        )


def probe_set(signature: ModelSignature, example: Arrays | None) -> dict[str, Arrays]:
    """Batches of golden and adversarial rows."""
    sizes = sorted({*(b for b in BATCHES if b <= signature.max_batch_size), signature.max_batch_size})
    golden = probes.golden(signature, signature.max_batch_size, example)
    hostile = probes.adversarial(signature, min(ADVERSARIAL_ROWS, signature.max_batch_size))
    found = {f"golden:{n}": probes.first_rows(golden, n) for n in sizes}
    for n in sizes:
        if n <= len(hostile[0]):
            found[f"adversarial:{n}"] = probes.first_rows(hostile, n)
    found[f"adversarial:{len(hostile[0])}"] = hostile
    return found


def golden_rows(signature: ModelSignature, example: Arrays | None) -> Arrays:
    """What a release is probed with: golden rows, then adversarial ones, within one batch."""
    many = min(GOLDEN_ROWS, signature.max_batch_size)
    few = min(ADVERSARIAL_ROWS, signature.max_batch_size - many)
    golden = probes.golden(signature, many, example)
    hostile = probes.adversarial(signature, few) if few else [a[:0] for a in golden]
    return [np.concatenate([a, b]) for a, b in zip(golden, hostile, strict=True)]


def publish(
    converted: Converted, repository: ModelRepository, options: Options, started: float, progress: Progress
) -> Published:
    """Make the staged folder a version; nothing serves it yet."""
    lineage = converted.lineage
    signature, version = lineage.contract, 0
    if not options.dry_run:
        progress(f"{signature.name}: publish")
        version = repository.publish(lineage, converted.folder, converted.golden_in, converted.golden_out)
        if not (repository.root / signature.name / "config.pbtxt").is_file():
            repository.configure(signature, repository.serving(signature.name))
    return Published(
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
        flip_rate=lineage.parity_flip_rate,
        weights_mib=lineage.weights_bytes / memory.MIB,
        seconds=round(time.monotonic() - started, 3),
    )


def export_pipeline(
    name: str, options: Options, repository: ModelRepository, progress: Progress, *, fuse: bool = False
) -> list[Published]:
    """Export an ensemble with its steps pinned, and with `fuse` the same as one graph.

    All are converted and proven before any is published.

    Raises:
        ExportError: `name` is no ensemble, or a step does not fit; nothing was published.
    """
    signature = MODELS.get(name)
    if signature is None or signature.backend != "ensemble":
        known = ", ".join(m.name for m in MODELS.values() if m.backend == "ensemble")
        raise ExportError(f"{name!r} is no pipeline: expected {known}")
    started = time.monotonic()
    signature = replace(signature, max_batch_size=options.max_batch or signature.max_batch_size)
    fused_name = variant_name(name, FUSED)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        sources = [
            open_reference(stack, step, replace(options, name="", variant=""), Path(temporary), progress)
            for step in signature.steps
        ]
        names = [*signature.steps, name, *([fused_name] if fuse else [])]
        stack.enter_context(locked(repository, options, *names))
        folders = {n: stack.enter_context(place(repository, options, n)) for n in names}
        converted = [convert(s, folders[s.signature.name], options, progress) for s in sources]
        fused = [convert_fused(signature, sources, folders[fused_name], options, progress)] if fuse else []
        done = [publish(c, repository, options, started, progress) for c in converted]
        pins = {p.name: p.version for p in done}
        whole = ensemble(signature, sources, folders[name], converted, pins, options)
        done += [publish(c, repository, options, started, progress) for c in (whole, *fused)]
        return done


def composed(signature: ModelSignature, steps: Mapping[str, tuple[ModelSignature, Run]]) -> Run:
    """A pipeline of runs, joined by tensor names as the ensemble joins them."""

    def run(arrays: Arrays) -> Arrays:
        known = dict(zip((t.name for t in signature.inputs), arrays, strict=True))
        for step, ask in steps.values():
            answers = ask([known[t.name] for t in step.inputs])
            known.update(zip((t.name for t in step.outputs), answers, strict=True))
        return [known[t.name] for t in signature.outputs]

    return run


def ensemble(
    signature: ModelSignature,
    sources: list[Source],
    folder: Path,
    converted: list[Converted],
    pins: Mapping[str, int],
    options: Options,
) -> Converted:
    """The pipeline's version: no file of its own, but steps, lineage and golden rows."""
    run = composed(signature, {s.signature.name: (s.signature, s.run) for s in sources})
    lineages = {c.lineage.contract.name: c.lineage for c in converted}
    golden = golden_rows(signature, None)
    described = Lineage(
        contract=signature,
        model=signature.name,
        run_ids={n: lineage.run_ids[n] for n, lineage in lineages.items()},
        source_sha256="",
        precision=options.precision,
        target=options.container.name,
        parity_max_abs=max(lineage.parity_max_abs for lineage in lineages.values()),
        parity_flip_rate=max(lineage.parity_flip_rate for lineage in lineages.values()),
        steps={n: str(v) for n, v in pins.items()},
        tools=tool_versions(),
    )
    return Converted(described, folder, golden, run(golden))


def convert_fused(
    signature: ModelSignature, sources: list[Source], folder: Path, options: Options, progress: Progress
) -> Converted:
    """All steps as one ONNX graph, proven equal to the composed sources."""
    fused = replace(contract(variant_name(signature.name, FUSED)), max_batch_size=signature.max_batch_size)
    with tempfile.TemporaryDirectory() as temporary:
        steps = []
        for source in sources:
            path = Path(temporary) / f"{source.signature.name}.onnx"
            progress(f"{fused.name}: convert {source.signature.name}")
            source.write(path)
            steps.append((source.signature, onnx.load(path)))
        model = graph.fuse(fused.name, fused, steps)
    path = folder / fused.file_name
    onnx.save(onnx.halve(model, fused.outputs) if options.precision == "fp16" else model, path)
    return proven(
        fused,
        path,
        composed(signature, {s.signature.name: (s.signature, s.run) for s in sources}),
        options,
        progress,
        example=None,
        lineage=Lineage(
            contract=fused,
            model=signature.name,
            run_ids={s.signature.name: s.origin.run_id for s in sources},
            source_sha256="",
            precision=options.precision,
            target=options.container.name,
            parity_max_abs=0.0,
            parity_flip_rate=0.0,
            steps={s.signature.name: s.origin.uri for s in sources},
            tools=tool_versions(),
            trusted=options.trust,
        ),
    )
