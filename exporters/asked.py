"""Which rows a model is asked before it is published, and by each release of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from exporters import probes
from exporters.errors import ExportError, brief
from exporters.formats import onnx, trees
from exporters.formats.tensors import Arrays, Run
from exporters.options import Options
from exporters.parity.comparison import finite_rows
from exporters.parity.tolerance import HOSTILE, INFINITE, steady, tolerances, usual
from exporters.probes import ADVERSARIAL_ROWS, GOLDEN_ROWS, SPECIAL_ROWS
from trading.models.signature import FEATURES_TENSOR, ModelSignature

#: Half of them to calibrate int8 on, and half to judge it by.
CALIBRATION_ROWS, LEAST_CALIBRATION_ROWS, LEAST_DIFFERENT_ROWS = 1024, 64, 16
#: Of golden rows so many must be answered as the source does, whatever rounding makes of the others.
LEAST_KEPT = 0.5
#: Of a large forest no more splits than these are asked about.
MOST_SPLITS, MOST_BATCHES = 2_000, 32
#: How many rows are asked one by one too, and what share of an answer may then differ: rounding, and no more.
ALONE, ALONE_SHARE = 8, 1e-3
#: Beside these, the largest.
BATCHES = (1, 2, 3, 64)


def calibration_rows(
    signature: ModelSignature, options: Options, example: Arrays | None, columns: tuple[str, ...]
) -> tuple[Arrays, Arrays]:
    """Rows like its own to calibrate on, and others to judge on. Raises ExportError where none are known."""
    if options.calibrate is not None:
        rows = probes.from_file(signature, options.calibrate, columns)
    elif FEATURES_TENSOR in signature.inputs:
        rows = probes.recorded(signature, CALIBRATION_ROWS, None) or []
    elif example is not None:
        rows = probes.golden(signature, CALIBRATION_ROWS, example)
    else:
        raise ExportError(
            f"{signature.name} can be quantized only on rows like its own, and none are known: log it with "
            "input_example=, or give some with --calibrate FILE"
        )
    # What is missing or infinite would set the scales of all the others.
    finite = np.logical_and.reduce([finite_rows(a) for a in rows])
    rows = [a[finite] for a in rows]
    flat = np.concatenate([a.reshape(len(a), int(np.prod(a.shape[1:]))).astype(np.float64) for a in rows], axis=1)
    different = len(np.unique(flat, axis=0))
    if len(flat) < LEAST_CALIBRATION_ROWS or different < LEAST_DIFFERENT_ROWS:
        raise ExportError(
            f"{signature.name}: {len(flat)} finite rows, {different} of them different, are too few to quantize it "
            f"on and to judge it by: give {LEAST_CALIBRATION_ROWS} or more with --calibrate FILE"
        )
    return [a[::2] for a in rows], [a[1::2] for a in rows]


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
    shares = [t.share for t in tolerances(signature, "fp32", "cpu")]
    if not steady(wanted, again, shares, usual(wanted)).all():
        raise ExportError(f"{signature.name} does not answer the same rows alike: what is random cannot be served")
    few = [a[: len(alone)] for a in wanted]
    joined = [np.concatenate(arrays) for arrays in zip(*alone, strict=True)]
    if (
        any(a.shape != b.shape for a, b in zip(few, joined, strict=True))
        or not steady(few, joined, [s and ALONE_SHARE for s in shares], usual(wanted)).all()
    ):
        # A network may be at a loss with noise, where rounding alone tips it over.
        made_up = "" if example is not None else ", or give rows like its own with --sample FILE: these are made up"
        raise ExportError(
            f"{signature.name} answers a row otherwise where others are beside it, and the server puts rows "
            f"together as they come: let each row's answer depend on that row alone{made_up}"
        )
    return golden


def steady_rows(
    signature: ModelSignature, precision: str, asked: Arrays, wanted: Arrays, got: Arrays
) -> tuple[Arrays, Arrays]:
    """Golden rows and their answers, without those of which rounding alone makes another answer."""
    known = probes.least_golden(signature.max_batch_size)
    shares = [t.share for t in tolerances(signature, precision, "cpu")]
    kept = steady(wanted, got, shares, usual([a[:known] for a in wanted]))
    few = kept[:known]
    if few.mean() < LEAST_KEPT:
        way = (
            "calibrate it on rows like its own, or use --precision fp16" if precision == "int8" else "log more rows"
        )
        raise ExportError(
            f"{signature.name} in {precision} answers {int(few.sum())} of {len(few)} rows like its own within "
            f"{max(shares):.0%} of its source, which are too few to ask a release with: {way}"
        )
    return [a[kept] for a in asked], [a[kept] for a in wanted]


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

    Missing values and infinities where the source takes them, and the values at which trees split. What the
    gateway's kernel makes is always finite, and no tree reads it before it is scaled.
    """
    found: dict[str, Arrays] = {}
    if FEATURES_TENSOR in signature.inputs:
        return found
    golden = probes.golden(signature, SPECIAL_ROWS, example)
    if absent := answered(source, probes.missing(golden)):
        found["missing"] = absent
    if beyond := answered(source, probes.infinite(golden)):
        found[INFINITE] = beyond
    only = golden[0].dtype.kind == "f" and len(golden) == 1 and golden[0].ndim == 2
    if only and path.suffix == ".onnx" and (splits := trees.thresholds(onnx.load(path))):
        most = min(len(splits), MOST_SPLITS, MOST_BATCHES * signature.max_batch_size // 3)
        some = [splits[k] for k in np.linspace(0, len(splits) - 1, most).astype(int)]
        found["thresholds"] = [probes.at_thresholds(golden[0][0], some)]
    return found


def answered(source: Run, rows: Arrays) -> Arrays | None:
    """Rows with values that are no finite numbers, where a source takes such rows; else None."""
    if all(np.isfinite(a).all() for a in rows if a.dtype.kind == "f"):
        return None
    try:
        source(rows)
    except Exception:  # noqa: BLE001 - any runtime, any model
        return None
    return rows


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
    # Of infinite rows another device may make another infinity, or none.
    special = {kind: arrays for kind, arrays in (special or {}).items() if kind != INFINITE}
    kinds = {"golden": GOLDEN_ROWS, HOSTILE: ADVERSARIAL_ROWS} | dict.fromkeys(special, SPECIAL_ROWS)
    largest, wanted = signature.max_batch_size, sum(kinds.values())
    counts = {kind: rows if wanted <= largest else rows * largest // wanted for kind, rows in kinds.items()}
    counts["golden"] = max(1, counts["golden"])
    parts = [
        probes.golden(signature, counts["golden"], example),
        [a[: counts[HOSTILE]] for a in hostile],
        *(probes.spread_out(arrays, counts[kind]) for kind, arrays in special.items()),
    ]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
