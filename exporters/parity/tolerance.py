"""How far an exported or served answer may be from its source's, row by row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from exporters.formats.tensors import Array, Arrays, Run
from trading.models.signature import Dtype, ModelSignature

#: Rows that a model may well have no answer to.
HOSTILE = "adversarial"
#: Rows with an infinity: where a source has no finite answer it is all one which the other has.
INFINITE = "infinite"
#: What is added up to a small answer is rounded, too: a difference of this share of the tolerance is no difference,
#: as long as it is no more than a hundredth of the usual answer.
ROUNDED, NOTICED = 0.1, 0.01
#: The distance of two numbers of single precision, as a share of them.
ONE_BIT = float(np.finfo(np.float32).eps)
#: What a function whose answers lie within 1 is off by rounding.
UNIT = 2 * ONE_BIT
#: Where columns are made of one another, as two classes' probabilities are, so many of them.
BESIDE = 4
#: Of fewer answers nothing is known of how far they lie from one another.
LEAST_SPREAD = 4
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


def tolerances(signature: ModelSignature, precision: str, device: str, *, tf32: bool = False) -> list[Tolerance]:
    """What is allowed for each output.

    Doubles that are made of rows in single precision are no more exact than those.

    Args:
        signature: whose outputs.
        precision: "fp32", "fp16" or "int8", of the model's weights; "fp64", of its rows and its arithmetic.
        device: "cpu" or "gpu".
        tf32: whether matrix products may round to TF32; config.pbtxt turns it off.
    """
    taken = {t.dtype for t in signature.inputs}
    single = CPU if device == "cpu" else GPU_TF32 if tf32 else GPU
    double = single if "FP32" in taken and "FP64" not in taken else DOUBLE

    def of(dtype: Dtype) -> Tolerance:
        if not dtype.startswith("FP"):
            return EXACT
        if precision == "int8":
            return INT8
        if precision == "fp16" or dtype == "FP16" or taken == {"FP16"}:
            return HALF
        return double if dtype == "FP64" else single

    return [of(t.dtype) for t in signature.outputs]


class Usual(Struct, frozen=True):
    """An output's usual numbers.

    Attributes:
        size: their median magnitude, of those that are neither zero nor infinite: a few rows that mean nothing do
            not move it, however large their answers. 1 where there is none.
        spread: how far they lie from one another, column by column, float64 [columns]: the distance from the lower
            to the upper decile; infinite where they are all alike, or fewer than four.
    """

    size: float = 1.0
    spread: Array | float = np.inf


def usual(outputs: Arrays) -> list[Usual]:
    """The usual numbers of each output."""
    found = []
    for array in outputs:
        known = array[np.isfinite(array)].astype(np.float64) if array.dtype.kind == "f" else np.zeros(0)
        sizes = np.abs(known[known != 0.0])
        found.append(Usual(float(np.median(sizes)) if sizes.size else 1.0, _spread(array)))
    return found


def _spread(array: Array) -> Array:
    flat = array.reshape(len(array), -1)
    if array.dtype.kind != "f" or len(flat) < LEAST_SPREAD:
        return np.full(flat.shape[1], np.inf)
    known = np.where(np.isfinite(flat), flat, np.nan).astype(np.float64)
    with warnings.catch_warnings():
        # A column without any number.
        warnings.simplefilter("ignore", RuntimeWarning)
        far = np.ptp(np.nanquantile(known, [0.1, 0.9], axis=0), axis=0)
    return np.where(far > 0.0, far, np.inf)


def allowed(wanted: Array, share: float, usually: Usual, *, hostile: bool) -> Array:
    """The largest difference that passes, float64 [rows, columns], or [rows, 1] where it is the same for all.

    Args:
        wanted: the source's answers, [rows, *dims].
        share: of the tolerance.
        usually: the output's usual numbers.
        hostile: whether these rows mean nothing: they are judged by the largest answer among them, because what is
            added up to one of them may be as large as to any other.
    """
    flat = wanted.reshape(len(wanted), -1).astype(np.float64)
    sizes = np.where(np.isfinite(flat), np.abs(flat), 0.0)
    scale = np.maximum(sizes.max(axis=1, keepdims=True, initial=0.0), usually.size)
    if hostile:
        scale[:] = max(float(sizes.max(initial=0.0)), usually.size, 1.0)
        return share * scale
    most = np.maximum(share * scale, min(ROUNDED * share, NOTICED * usually.size))
    # What all answers have in common is no measure of how far two of them may be apart, nor is what stands beside
    # them: a price of 60,000 says nothing of a return of 0.001.
    bits = ONE_BIT if flat.shape[1] == 1 else BESIDE * ONE_BIT
    # A sigmoid, a softmax or a tanh rounds as numbers of about one do, however small its answer.
    least = np.maximum(bits * usually.size, UNIT)
    return np.minimum(most, np.maximum(NOTICED * max(share / CPU.share, 1.0) * usually.spread, least))


def movement(source: Run, rows: Arrays, answers: Arrays) -> list[Array]:
    """How far the source's own answers move when rows move by rounding: float64 [rows, columns] an output.

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


def within_cell(source: Run, rows: Arrays, answers: Arrays) -> list[Array]:
    """How far the source's answers differ among the doubles that a float32 row stands for: float64 [rows, columns].

    Nothing where it takes no double, or rounds what it takes.
    """
    most = [np.zeros((len(a), 1)) for a in answers]
    for end in (-np.inf, np.inf):
        near = []
        for array in rows:
            if array.dtype.kind != "f":
                near.append(array)
                continue
            exact = array.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                beside = np.nextafter(array, array.dtype.type(end)).astype(np.float64)
                near.append(np.where(np.isfinite(beside), exact + 0.499 * (beside - exact), exact))
        try:
            answered = source(near)
        except Exception:  # noqa: BLE001 - any runtime, any model
            return most
        most = [np.maximum(m, absolute(a, b)) for m, a, b in zip(most, answered, answers, strict=True)]
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


def steady(wanted: Arrays, got: Arrays, shares: Sequence[float], usually: Sequence[Usual]) -> Array:
    """Which rows are answered alike by any two runtimes, bool [rows]: those that a file answers as its source."""
    kept = np.ones(len(wanted[0]), np.bool_)
    for a, b, share, size in zip(wanted, got, shares, usually, strict=True):
        most = allowed(a, share, size, hostile=False) if share else 0.0
        kept &= (absolute(a, b) <= most).all(axis=1)
    return kept


def absolute(a: Array, b: Array) -> Array:
    """|a - b|, float64 [rows, columns]; infinite where one is NaN or infinite and the other not so."""
    if a.dtype.kind != "f":
        a, b = a.astype(np.int64), b.astype(np.int64)
    x, y = (v.reshape(len(v), -1).astype(np.float64) for v in (a, b))
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(x - y))
    return np.where(np.isnan(apart), np.inf, apart)


def usual_of(answers: Sequence[tuple[str, Arrays]]) -> list[Usual] | None:
    """The usual numbers, of what is not hostile among kinds of rows with their answers; None where all are."""
    known = [arrays for kind, arrays in answers if kind != HOSTILE]
    return usual([np.concatenate(arrays) for arrays in zip(*known, strict=True)]) if known else None
