"""How far an exported or served answer may be from its source's, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from exporters.formats.tensors import Array, Arrays, Run
from trading.models.signature import Dtype

#: Rows that a model may well have no answer to.
HOSTILE = "adversarial"
#: What is added up to a small answer is rounded, too: a difference of this share of the tolerance is no difference,
#: as long as it is no more than a hundredth of the usual answer.
ROUNDED, NOTICED = 0.1, 0.01
#: How far hostile rows are moved to see what their answers hang on: some units in float32's last place.
MOVED = 4 * float(np.finfo(np.float32).eps)


class Tolerance(Struct, frozen=True):
    """|got - wanted| <= share * (the row's largest |wanted|, or the usual one where that is more)."""

    share: float
    why: str


CPU = Tolerance(1e-5, "float32 through other kernels and other orders of summation")
GPU = Tolerance(1e-4, "float32 on CUDA with TF32 off: other kernels for each batch size")
GPU_TF32 = Tolerance(5e-3, "TF32 keeps 10 bits of a product's factors")
HALF = Tolerance(2e-2, "float16 keeps 10 bits")
INT8 = Tolerance(1e-1, "int8 keeps 7 bits; it is judged by what would be decided differently")
DOUBLE = Tolerance(1e-9, "float64 through other orders of summation")
EXACT = Tolerance(0.0, "whole numbers")


def tolerance(dtype: Dtype, precision: str, device: str, *, tf32: bool = False) -> Tolerance:
    """What is allowed for an output.

    Args:
        dtype: of the output.
        precision: "fp32", "fp16" or "int8", of the model's weights; "fp64", of its rows and its arithmetic.
        device: "cpu" or "gpu".
        tf32: whether matrix products may round to TF32; config.pbtxt turns it off.
    """
    if not dtype.startswith("FP"):
        return EXACT
    if precision == "int8":
        return INT8
    if precision == "fp16" or dtype == "FP16":
        return HALF
    if dtype == "FP64":
        return DOUBLE
    if device == "cpu":
        return CPU
    return GPU_TF32 if tf32 else GPU


def usual(outputs: Arrays) -> list[float]:
    """The usual magnitude of each output's numbers: the median of those that are neither zero nor infinite.

    A few rows that mean nothing do not move it, however large their answers. 1 where there is none.
    """
    found = []
    for array in outputs:
        sizes = np.abs(array[np.isfinite(array)].astype(np.float64)) if array.dtype.kind == "f" else np.zeros(0)
        sizes = sizes[sizes > 0.0]
        found.append(float(np.median(sizes)) if sizes.size else 1.0)
    return found


def allowed(wanted: Array, share: float, usually: float, *, hostile: bool) -> Array:
    """The largest difference that passes, float64 [rows, 1].

    Args:
        wanted: the source's answers, [rows, *dims].
        share: of the tolerance.
        usually: magnitude of the output's usual numbers.
        hostile: whether these rows mean nothing: they are judged by the largest answer among them, because what is
            added up to one of them may be as large as to any other.
    """
    flat = wanted.reshape(len(wanted), -1).astype(np.float64)
    sizes = np.where(np.isfinite(flat), np.abs(flat), 0.0)
    scale = np.maximum(sizes.max(axis=1, keepdims=True, initial=0.0), usually)
    if hostile:
        scale[:] = max(float(sizes.max(initial=0.0)), usually, 1.0)
    return np.maximum(share * scale, min(ROUNDED * share, NOTICED * usually))


def movement(source: Run, rows: Arrays, answers: Arrays) -> list[Array]:
    """How far the source's own answers move when rows move by rounding: float64 [rows, 1] an output.

    Each number is moved by some units in its last place, up and down; and what is denormal counts as zero, as it
    does on some devices.
    """
    moved = [[_moved(a, way) for a in rows] for way in ("up", "down", "apart", "flushed")]
    most = [np.zeros((len(a), 1)) for a in answers]
    for nearby in moved:
        try:
            answered = source(nearby)
        except Exception:  # noqa: BLE001, S112 - any runtime, any model: what it takes for no row moves nothing
            continue
        for k, (there, here) in enumerate(zip(answered, answers, strict=True)):
            most[k] = np.maximum(most[k], absolute(there, here))
    return most


def _moved(array: Array, way: str) -> Array:
    if array.dtype.kind != "f":
        return array
    if way == "flushed":
        return np.where(np.abs(array) < np.finfo(np.float32).tiny, array.dtype.type(0), array)
    signs = {"up": np.ones(array.shape[1:]), "down": -np.ones(array.shape[1:])}
    # Columns against one another: what they have in common may well cancel.
    apart = np.where(np.arange(array[0].size) % 2, 1.0, -1.0).reshape(array.shape[1:])
    return array * (1.0 + MOVED * signs.get(way, apart)).astype(array.dtype)


def steady(wanted: Arrays, got: Arrays, shares: Sequence[float], usually: Sequence[float]) -> Array:
    """Which rows are answered alike by any two runtimes, bool [rows]: those that a file answers as its source."""
    kept = np.ones(len(wanted[0]), np.bool_)
    for a, b, share, size in zip(wanted, got, shares, usually, strict=True):
        most = allowed(a, share, size, hostile=False) if share else 0.0
        kept &= (absolute(a, b) <= most)[:, 0]
    return kept


def absolute(a: Array, b: Array) -> Array:
    """Each row's largest |a - b|, float64 [rows, 1]; infinite where one is NaN or infinite and the other not so."""
    if a.dtype.kind != "f":
        a, b = a.astype(np.int64), b.astype(np.int64)
    x, y = (v.reshape(len(v), -1).astype(np.float64) for v in (a, b))
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(x - y))
    return np.where(np.isnan(apart), np.inf, apart).max(axis=1, keepdims=True, initial=0.0)


def usual_of(answers: Sequence[tuple[str, Arrays]]) -> list[float] | None:
    """The usual magnitudes, of what is not hostile among kinds of rows with their answers; None where all are."""
    known = [arrays for kind, arrays in answers if kind != HOSTILE]
    return usual([np.concatenate(arrays) for arrays in zip(*known, strict=True)]) if known else None
