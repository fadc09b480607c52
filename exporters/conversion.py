"""A model written in the target's format, checked against the target, proven equal to its source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from msgspec.structs import asdict, replace

from exporters import probes, quantization
from exporters.asked import (
    answerable,
    answered,
    asked_for,
    calibration_rows,
    golden_rows,
    hostile_rows,
    in_batches,
    probe_set,
    special_rows,
    steady_rows,
)
from exporters.errors import ExportError, ParityError
from exporters.fault_points import reach
from exporters.formats import graph, onnx
from exporters.formats.tensors import Arrays, Run
from exporters.options import Converted, Options, Progress
from exporters.parity import comparison
from exporters.parity.tolerance import steady, tolerances, usual
from exporters.profiles import Gpu
from exporters.repository.files import sha256
from exporters.repository.lineage import Lineage, tool_versions
from exporters.sources.opened import Format, ModelSource
from exporters.sources.running import run_file, run_onnx
from exporters.target import memory
from trading.models.signature import FEATURES_TENSOR, ModelSignature, contract

#: Flavours that compute in double precision where their rows are; and of how many logged rows that is asked.
HAS_DOUBLE, LOGGED_ROWS = ("sklearn", "lightgbm"), 256


def convert(source: ModelSource, folder: Path, options: Options, progress: Progress) -> Converted:
    """Write the model, check it against the target, compare it with its source in this process."""
    origin = source.origin
    signature, path = write(source, folder, options, progress)
    check_narrowing(source, signature, path)
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
        columns=source.columns or origin.columns,
        tools=tool_versions(),
        data_hash=origin.data_hash,
        git_commit=origin.git_commit,
        trusted=options.trust,
    )
    example = source.example
    if example is None and options.calibrate is not None and FEATURES_TENSOR not in signature.inputs:
        # What it is calibrated on is what it will be asked.
        example = probes.from_file(signature, options.calibrate, lineage.columns)
    full = reduced(signature, path, options, example, lineage.columns)
    keep_missing(signature, path, source)
    try:
        return proven(signature, path, source.run, options, progress, example=example, lineage=lineage, full=full)
    except ParityError as error:
        ways = []
        if origin.example is None and signature.feature_version is None:
            ways.append("its rows are made up: log it with input_example=, if its own are unlike them")
        if origin.flavour in HAS_DOUBLE and options.precision == "fp32":
            ways.append("try --precision fp64, in which its rows and arithmetic are")
        raise ParityError("; ".join([str(error), *ways])) from error


def keep_missing(signature: ModelSignature, path: Path, source: ModelSource) -> None:
    """Let the file answer rows with a missing number with NaN, where its source does so always and the file not."""
    if path.suffix != ".onnx" or FEATURES_TENSOR in signature.inputs:
        return
    rows = answered(source.run, probes.missing(probes.golden(signature, probes.SPECIAL_ROWS, source.example)))
    if rows is None:
        return
    floats = [k for k, t in enumerate(signature.outputs) if t.dtype.startswith("FP")]
    absent = ~np.logical_and.reduce([comparison.finite_rows(a) for a in rows])
    wanted = source.run(rows)
    got = answers_of_file(signature, path, rows, wanted)
    if got is None:
        return
    if floats and all(np.isnan(wanted[k][absent]).all() for k in floats):
        if all(np.isnan(got[k][absent]).all() for k in floats):
            return
        model = onnx.load(path)
        graph.guard_missing(model)
        onnx.save(model, path)


def answers_of_file(signature: ModelSignature, path: Path, rows: Arrays, wanted: Arrays) -> Arrays | None:
    """What a file answers; None where it has no answer of the right shape, which the comparison will tell."""
    try:
        found = quantization.in_batches(run_file(signature, path), rows, signature.max_batch_size)
    except Exception:  # noqa: BLE001 - any runtime, any model
        return None
    return found if [a.shape for a in found] == [a.shape for a in wanted] else None


def check_narrowing(source: ModelSource, signature: ModelSignature, path: Path) -> None:
    """Raise ExportError where rows like its own are answered otherwise once rounded to float32, as callers send."""
    origin, spec = source.origin, source.signature.inputs[0]
    if origin.flavour not in HAS_DOUBLE or spec.dtype != "FP32" or source.example is None:
        return
    given = [a[:LOGGED_ROWS].astype(np.float64) for a in source.example]
    exact = np.concatenate(given, axis=1)
    narrow = exact.astype(np.float32)
    if np.array_equal(exact, narrow, equal_nan=True):
        return
    rounded = [a.astype(np.float32) for a in given]
    try:
        wanted, by_source = source.run(given), source.run(rounded)
    except ExportError:
        # It takes single precision only: there is nothing to lose.
        return
    by_file = answers_of_file(signature, path, rounded, wanted)
    if by_file is None:
        return
    shares = [t.share for t in tolerances(signature, "fp32", "cpu")]
    # A split may be rounded as the rows are; and what else the file makes of them is not to do with rounding.
    same = steady(wanted, by_file, shares, usual(wanted)) | steady(wanted, by_source, shares, usual(wanted))
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
    return signature, path


def reduced(
    signature: ModelSignature, path: Path, options: Options, example: Arrays | None, columns: tuple[str, ...]
) -> bytes | None:
    """Halve a file's matrix products, or quantize them; of the latter, returns the file as it was."""
    if options.precision not in {"fp16", "int8"}:
        return None
    if path.suffix == ".pt":
        raise ExportError(f"{signature.name}: --precision {options.precision} is for ONNX: add --format onnx")
    if options.precision == "fp16":
        onnx.save(onnx.halve(onnx.load(path), signature.outputs), path)
        return None
    full = path.read_bytes()
    quantization.quantize(signature, path, calibration_rows(signature, options, example, columns)[0])
    return full


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
    full: bytes | None = None,
) -> Converted:
    """Check and compare an exported file; `full` is what int8 was in float32. Raises ExportError or ParityError."""
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
    if full is None:
        comparison.require(signature, found)
    else:
        lineage = in_eight_bits(lineage, source, full, run, options, example, weights)
    asked = golden_rows(signature, example, special, hostile)
    return Converted(
        replace(
            lineage,
            parity_max_abs=found.max_abs,
            parity_flip_rate=found.flip_rate,
            parity_relative=found.relative,
            parity_limit=found.limit,
            parity_rank=found.rank_correlation,
            weights_bytes=weights,
            activation_bytes=activations,
        ),
        path.parent,
        *steady_rows(signature, options.precision, asked, source(asked), run(asked)),
    )


def in_eight_bits(
    lineage: Lineage, source: Run, full: bytes, run: Run, options: Options, example: Arrays | None, weights: int
) -> Lineage:
    """The lineage with what int8 costs and saves. Raises ExportError where it costs too much."""
    signature, columns = lineage.contract, lineage.columns
    before = run_onnx(full, [t.name for t in signature.inputs], [t.name for t in signature.outputs])
    share = weights / max(1, memory.measure_onnx(signature, onnx.parse(full))[0])
    _, rows = calibration_rows(signature, options, example, columns)
    found = quantization.judged(signature, source, before, run, rows, share)
    quantization.require(signature, found)
    if options.calibrate is not None and (example is not None or FEATURES_TENSOR in signature.inputs):
        # Whatever the file holds, rows like its own must be answered as well.
        _, rows = calibration_rows(signature, replace(options, calibrate=None), example, columns)
        quantization.require(signature, quantization.judged(signature, source, before, run, rows, share))
    return replace(lineage, int8={name: float(value) for name, value in asdict(found).items()})


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
