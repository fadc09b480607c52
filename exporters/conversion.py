"""A model written in the target's format, checked against the target, proven equal to its source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from exporters import probes
from exporters.errors import ExportError, ParityError, brief
from exporters.fault_points import reach
from exporters.formats import onnx, trees
from exporters.formats.tensors import Arrays, Run
from exporters.options import Converted, Options, Progress
from exporters.parity import comparison
from exporters.parity.tolerance import HOSTILE, steady, tolerance, usual
from exporters.probes import ADVERSARIAL_ROWS, GOLDEN_ROWS, SPECIAL_ROWS
from exporters.profiles import Gpu
from exporters.repository.files import sha256
from exporters.repository.lineage import Lineage, tool_versions
from exporters.sources.opened import Format, ModelSource, run_file
from exporters.target import memory
from trading.models.signature import FEATURES_TENSOR, ModelSignature, contract

#: Of a large forest no more splits than these are asked about.
MOST_SPLITS, MOST_BATCHES = 2_000, 32
#: How many rows are asked one by one too, and what share of an answer may then differ: rounding, and no more.
ALONE, ALONE_SHARE = 8, 1e-3
#: Flavours that compute in double precision where their rows are; and of how many logged rows that is asked.
HAS_DOUBLE, LOGGED_ROWS = ("sklearn", "lightgbm"), 256
#: Beside these, the largest.
BATCHES = (1, 2, 3, 64)


def convert(source: ModelSource, folder: Path, options: Options, progress: Progress) -> Converted:
    """Write the model, check it against the target, compare it with its source in this process."""
    origin = source.origin
    check_narrowing(source)
    signature, path = write(source, folder, options, progress)
    lineage = Lineage(
        contract=signature,
        model=origin.uri,
        run_ids={signature.name: origin.run_id},
        source_sha256=sha256(origin.artefact),
        precision=options.precision,
        target=options.container.name,
        parity_max_abs=0.0,
        parity_flip_rate=0.0,
        classes=source.classes,
        tools=tool_versions(),
        data_hash=origin.data_hash,
        git_commit=origin.git_commit,
        trusted=options.trust,
    )
    try:
        return proven(signature, path, source.run, options, progress, example=source.example, lineage=lineage)
    except ParityError as error:
        ways = []
        if origin.example is None and signature.feature_version is None:
            ways.append("its rows are made up: log it with input_example=, if its own are unlike them")
        if origin.flavour in HAS_DOUBLE and options.precision == "fp32":
            ways.append("try --precision fp64, in which its rows and arithmetic are")
        raise ParityError("; ".join([str(error), *ways])) from error


def check_narrowing(source: ModelSource) -> None:
    """Raise ExportError where rows like its own are answered otherwise once rounded to float32, as callers send."""
    origin, spec = source.origin, source.signature.inputs[0]
    if origin.flavour not in HAS_DOUBLE or spec.dtype != "FP32" or source.example is None:
        return
    (exact,) = (a[:LOGGED_ROWS].astype(np.float64) for a in source.example)
    narrow = exact.astype(np.float32)
    if np.array_equal(exact, narrow, equal_nan=True):
        return
    try:
        wanted, got = source.run([exact]), source.run([narrow])
    except ExportError:
        # It takes single precision only: there is nothing to lose.
        return
    same = steady(
        wanted, got, [tolerance(t.dtype, "fp32", "cpu").share for t in source.signature.outputs], usual(wanted)
    )
    if same.all():
        return
    row = int(np.argmin(same))
    # What is lost of a column is little or much beside how far its values lie from one another.
    lost = np.abs(exact - narrow)[row] / np.maximum(np.nanstd(exact, axis=0), np.finfo(np.float64).tiny)
    column = int(np.nanargmax(lost))
    before, after = exact[row, column].item(), narrow[row, column].item()
    name = repr(origin.columns[column]) if origin.columns else f"number {column + 1}"
    raise ExportError(
        f"{source.signature.name}: of {len(exact)} rows like its own {int((~same).sum())} are answered otherwise "
        f"once they are rounded to float32: column {name} is {before!r} in one, and {after!r} then: "
        "use --precision fp64, or subtract what its values have in common before training"
    )


def write(source: ModelSource, folder: Path, options: Options, progress: Progress) -> tuple[ModelSignature, Path]:
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


def choose_format(source: ModelSource, options: Options) -> Format:
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
    golden = asked_for(signature, source, example)
    hostile = answerable(source, probes.adversarial(signature, hostile_rows(signature), example))
    special = special_rows(signature, path, source, example)
    run = run_file(signature, path)
    found = comparison.compare_runs(
        signature,
        source,
        run,
        probe_set(signature, golden, hostile) | in_batches(special, signature.max_batch_size),
        where="file",
        precision=options.precision,
    )
    comparison.require(signature, found)
    asked = golden_rows(signature, example, special, hostile)
    return Converted(
        replace(
            lineage,
            parity_max_abs=found.max_abs,
            parity_flip_rate=found.flip_rate,
            weights_bytes=weights,
            activation_bytes=activations,
        ),
        path.parent,
        *steady_rows(signature, options.precision, asked, source(asked), run(asked)),
    )


def asked_for(signature: ModelSignature, source: Run, example: Arrays | None) -> Arrays:
    """Golden rows, as many as a batch takes. Raises ExportError where the source has no answer to them."""
    golden = probes.golden(signature, signature.max_batch_size, example)
    try:
        wanted, again = source(golden), source(golden)
        alone = [source([a[k : k + 1] for a in golden]) for k in range(min(ALONE, len(golden[0])))]
    except Exception as error:
        way = "they are like its input_example" if example is not None else (
            "log it with input_example=, so that it is asked about rows like its own"
        )  # fmt: skip
        raise ExportError(
            f"{signature.name} does not answer the rows that it is asked for a comparison: {brief(error)}; {way}"
        ) from error
    shares = [tolerance(t.dtype, "fp32", "cpu").share for t in signature.outputs]
    if not steady(wanted, again, shares, usual(wanted)).all():
        raise ExportError(f"{signature.name} does not answer the same rows alike: what is random cannot be served")
    few = [a[: len(alone)] for a in wanted]
    joined = [np.concatenate(arrays) for arrays in zip(*alone, strict=True)]
    if (
        any(a.shape != b.shape for a, b in zip(few, joined, strict=True))
        or not steady(few, joined, [s and ALONE_SHARE for s in shares], usual(wanted)).all()
    ):
        raise ExportError(
            f"{signature.name} answers a row otherwise where others are beside it, and the server puts rows "
            "together as they come: let each row's answer depend on that row alone"
        )
    return golden


def steady_rows(
    signature: ModelSignature, precision: str, asked: Arrays, wanted: Arrays, got: Arrays
) -> tuple[Arrays, Arrays]:
    """Golden rows and their answers, without hostile ones of which rounding alone makes another answer."""
    known = probes.least_golden(signature.max_batch_size)
    shares = [tolerance(t.dtype, precision, "cpu").share for t in signature.outputs]
    kept = steady(wanted, got, shares, usual([a[:known] for a in wanted]))
    kept[:known] = True
    return [a[kept] for a in asked], [a[kept] for a in wanted]


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


def hostile_rows(signature: ModelSignature) -> int:
    """How many there are."""
    return min(ADVERSARIAL_ROWS, signature.max_batch_size)


def probe_set(signature: ModelSignature, golden: Arrays, hostile: Arrays) -> dict[str, Arrays]:
    """Batches of golden and adversarial rows."""
    sizes = sorted({*(b for b in BATCHES if b <= signature.max_batch_size), signature.max_batch_size})
    found = {f"golden:{n}": probes.first_rows(golden, n) for n in sizes}
    if not len(hostile[0]):
        return found
    for n in sizes:
        if n <= len(hostile[0]):
            found[f"{HOSTILE}:{n}"] = probes.first_rows(hostile, n)
    found[f"{HOSTILE}:{len(hostile[0])}"] = hostile
    return found


def answerable(source: Run, rows: Arrays) -> Arrays:
    """Those of some rows that a source answers at all."""
    try:
        source(rows)
    except Exception:  # noqa: BLE001 - any runtime, any model
        kept = [k for k in range(len(rows[0])) if is_answered(source, [a[k : k + 1] for a in rows])]
        return [a[kept] for a in rows]
    return rows


def is_answered(source: Run, row: Arrays) -> bool:
    """Whether a source takes a row."""
    try:
        source(row)
    except Exception:  # noqa: BLE001 - any runtime, any model
        return False
    return True


def special_rows(signature: ModelSignature, path: Path, source: Run, example: Arrays | None) -> dict[str, Arrays]:
    """Rows on which a file and its source may part although they agree on others, by kind.

    Missing values where the source takes them, and the values at which trees split. What the gateway's kernel makes
    is always finite, and no tree reads it before it is scaled.
    """
    found: dict[str, Arrays] = {}
    if FEATURES_TENSOR in signature.inputs:
        return found
    golden = probes.golden(signature, SPECIAL_ROWS, example)
    if absent := answered(source, probes.missing(golden)):
        found["missing"] = absent
    only = golden[0].dtype.kind == "f" and len(golden) == 1 and golden[0].ndim == 2
    if only and path.suffix == ".onnx" and (splits := trees.thresholds(onnx.load(path))):
        most = min(len(splits), MOST_SPLITS, MOST_BATCHES * signature.max_batch_size // 3)
        some = [splits[k] for k in np.linspace(0, len(splits) - 1, most).astype(int)]
        found["thresholds"] = [probes.at_thresholds(golden[0][0], some)]
    return found


def answered(source: Run, rows: Arrays) -> Arrays | None:
    """Those of some rows that a source has a finite answer to; None where it has none, or does not take them."""
    if not any(np.isnan(a).any() for a in rows if a.dtype.kind == "f"):
        return None
    try:
        answers = source(rows)
    except Exception:  # noqa: BLE001 - any runtime, any model
        return None
    kept = np.logical_and.reduce([comparison.finite_rows(a) for a in answers])
    return [a[kept] for a in rows] if kept.any() else None


def in_batches(kinds: Mapping[str, Arrays], largest: int) -> dict[str, Arrays]:
    """Each kind's rows in batches that can be served."""
    return {
        f"{kind}:{start}": [a[start : start + largest] for a in arrays]
        for kind, arrays in kinds.items()
        for start in range(0, len(arrays[0]), largest)
    }


def golden_rows(
    signature: ModelSignature,
    example: Arrays | None,
    special: Mapping[str, Arrays] | None = None,
    hostile: Arrays | None = None,
) -> Arrays:
    """What a release is probed with: golden rows, adversarial ones, special ones, all within one batch."""
    if hostile is None:
        hostile = probes.adversarial(signature, hostile_rows(signature), example)
    kinds = {"golden": GOLDEN_ROWS, HOSTILE: ADVERSARIAL_ROWS} | dict.fromkeys(special or {}, SPECIAL_ROWS)
    largest, wanted = signature.max_batch_size, sum(kinds.values())
    counts = {kind: rows if wanted <= largest else rows * largest // wanted for kind, rows in kinds.items()}
    counts["golden"] = max(1, counts["golden"])
    parts = [
        probes.golden(signature, counts["golden"], example),
        [a[: counts[HOSTILE]] for a in hostile],
        *(probes.spread_out(arrays, counts[kind]) for kind, arrays in (special or {}).items()),
    ]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
