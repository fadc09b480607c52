"""Do the source, the exported file and the served model give the same answers?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from exporters.errors import ExportError, ParityError, brief
from exporters.formats.tensors import Array, Arrays, Run, check_shapes
from exporters.parity.tolerance import (
    CPU,
    HALF,
    HOSTILE,
    INFINITE,
    INT8,
    Usual,
    absolute,
    allowed,
    movement,
    tolerances,
    usual,
    usual_of,
    within_cell,
)
from trading.decision.policy import DecisionPolicy
from trading.decision.sizing import target_quantity
from trading.models.signature import ModelSignature
from trading.risk.limits import LimitSet

#: Of rows whose probabilities are equal in float32 so many may have been told apart in double precision.
ODD_TIES = 0.02


class Difference(Struct, frozen=True):
    """One output, one batch: how far two models are apart.

    Attributes:
        where: "file" or "served".
        rows: kind of rows: golden, adversarial, recorded or the user's own.
        batch: rows at once.
        output: tensor's name.
        max_abs, max_rel: largest absolute and relative difference.
        max_ulp: largest distance in representable numbers; 0 for whole numbers.
        allowed: largest absolute difference that passes, in the row that is worst against it.
        passed: whether it does.
    """

    where: str
    rows: str
    batch: int
    output: str
    max_abs: float
    max_rel: float
    max_ulp: int
    allowed: float
    passed: bool


class Flips(Struct, frozen=True):
    """Rows whose action differs; `tied` of them have no clear answer at the source either."""

    where: str
    rows: str
    batch: int
    flipped: int
    of: int
    tied: int = 0


class ParityComparison(Struct, frozen=True):
    """Everything that was compared."""

    differences: list[Difference]
    flips: list[Flips]

    @property
    def max_abs(self) -> float:
        """The largest absolute difference of what was judged: where any is allowed, nothing was."""
        return max((d.max_abs for d in self.differences if math.isfinite(d.allowed)), default=0.0)

    @property
    def flip_rate(self) -> float:
        """Share of rows whose action differs."""
        rows = sum(f.of for f in self.flips)
        return sum(f.flipped for f in self.flips) / rows if rows else 0.0

    @property
    def passed(self) -> bool:
        """Whether every output of every batch is within its tolerance."""
        return all(d.passed for d in self.differences)

    def __add__(self, other: ParityComparison) -> ParityComparison:
        return ParityComparison(self.differences + other.differences, self.flips + other.flips)


def compare(
    signature: ModelSignature,
    wanted: Arrays,
    got: Arrays,
    *,
    where: str,
    rows: str,
    precision: str = "fp32",
    device: str = "cpu",
    usually: Sequence[Usual] | None = None,
    moves: Sequence[Array] | None = None,
) -> ParityComparison:
    """Compare two models' answers to the same batch.

    Args:
        signature: of both.
        wanted: the source's answers.
        got: the other's.
        where: "file" or "served".
        rows: kind of rows.
        precision, device: as `tolerance` takes them.
        usually: each output's usual numbers; default: these answers'.
        moves: how far the source's own answers move when these rows hardly do, float64 [rows, 1] an output.

    Raises:
        ParityError: an answer has another shape or dtype than the signature says.
    """
    batch, usually = len(wanted[0]), usual(wanted) if usually is None else usually
    try:
        check_shapes(f"{signature.name} at its source", signature.outputs, wanted, batch)
        check_shapes(f"{signature.name} ({where})", signature.outputs, got, batch)
    except ExportError as error:
        raise ParityError(str(error)) from error
    found = []
    near = {"fp16": HALF, "int8": INT8}.get(precision, CPU if device == "cpu" else HALF)
    shares = [t.share for t in tolerances(signature, precision, device)]
    tied = ties(wanted, near.share, is_hostile=rows == HOSTILE)
    for k, (spec, a, b) in enumerate(zip(signature.outputs, wanted, got, strict=True)):
        share = shares[k]
        most = allowed(a, share, usually[k], hostile=rows == HOSTILE) if share else np.zeros((batch, 1))
        # Beyond the rows that int8 was calibrated on it says the most that it can.
        most = np.full((batch, 1), np.inf) if precision == "int8" and rows in {HOSTILE, INFINITE} else most
        most = most if moves is None else most + moves[k]
        # Which of two equal probabilities is the larger is nobody's to say.
        judged = np.ones(batch, np.bool_) if spec.dtype.startswith("FP") else ~tied
        found.append(difference(a, b, most, judged, (where, rows, batch, spec.name)))
    flipped = actions(signature, wanted) != actions(signature, got)
    return ParityComparison(
        found, [Flips(where, rows, batch, int(flipped.sum()), batch, int((flipped & tied).sum()))]
    )


def difference(
    wanted: Array, got: Array, most: Array, judged: npt.NDArray[np.bool_], about: tuple[str, str, int, str]
) -> Difference:
    """How far one output is from its source's, where no more than `most`, [rows, columns], is allowed.

    `judged`: which rows are. `about`: where, kind of rows, batch and output.
    """
    apart = absolute(wanted, got)[judged]
    most = np.broadcast_to(most[judged], apart.shape)
    worst = int(np.argmax(np.where(apart > most, np.inf, apart))) if apart.size else 0
    return Difference(
        *about,
        float(apart.max(initial=0.0)),
        max_rel(wanted, got),
        max_ulp(wanted, got),
        float(most.flat[worst]) if most.size else 0.0,
        bool((apart <= most).all()),
    )


def ties(outputs: Arrays, within: float, *, is_hostile: bool = False) -> npt.NDArray[np.bool_]:
    """Rows whose two largest probabilities, of the last output with several, are equal but for rounding.

    Not those whose label is another than the larger's, if only by its place: such labels come from elsewhere. Of
    hostile rows all: there probabilities are equal because they are as large as they can be.
    """
    wide = [a for a in outputs if a.dtype.kind == "f" and a[0].size > 1] if len(outputs[0]) else []
    if not wide:
        return np.zeros(len(outputs[0]), np.bool_)
    flat = wide[-1].reshape(len(wide[-1]), -1)
    ordered = np.sort(flat, axis=1)
    with np.errstate(invalid="ignore"):
        near = np.asarray(ordered[:, -1] - ordered[:, -2] <= within)
    labels = [a.reshape(len(a), -1)[:, 0] for a in outputs if a.dtype.kind in "iu"]
    if is_hostile or not labels or not near.any():
        return near
    best, label = flat.argmax(axis=1), labels[0]
    said = {int(k): set(label[(best == k) & ~near].tolist()) for k in np.unique(best)}
    exact = ordered[:, -1] == ordered[:, -2]
    odd = np.array(
        [bool(said[int(k)]) and value not in said[int(k)] for k, value in zip(best, label.tolist(), strict=True)]
    )
    # Where many are equal to the last bit, and the label is not the first of them, it was not read from them.
    return near & ~(exact & odd) if (exact & odd).sum() > ODD_TIES * len(near) else near


#: By kind of rows, how far the source's own answers move where a row stands for others; else `within_cell`.
MOVES = {HOSTILE: movement}


def compare_runs(
    signature: ModelSignature,
    source: Run,
    other: Run,
    probes: Mapping[str, Arrays],
    *,
    where: str,
    precision: str = "fp32",
    device: str = "cpu",
) -> ParityComparison:
    """Ask both models the same and compare; a probe is one batch.

    Raises:
        ParityError: an answer has another shape or dtype than the signature says.
        ExportError: the source has no answer to a row that it should have one to.
    """
    total, answers = ParityComparison([], []), {name: source(arrays) for name, arrays in probes.items()}
    usually = usual_of([(name.partition(":")[0], arrays) for name, arrays in answers.items()])
    for name, arrays in probes.items():
        kind, wanted = name.partition(":")[0], answers[name]
        if kind != HOSTILE:
            check_answers(signature, kind, arrays, wanted)
        try:
            got = other(arrays)
        except Exception as error:
            raise ExportError(
                f"{signature.name} as exported answers no {kind} rows at batch {len(arrays[0])}: {brief(error)}"
            ) from error
        if kind == INFINITE:
            got = [np.where(np.isfinite(a) | np.isfinite(b), b, a) for a, b in zip(wanted, got, strict=True)]
        total += compare(
            signature,
            wanted,
            got,
            where=where,
            rows=kind,
            precision=precision,
            device=device,
            usually=usually,
            moves=MOVES.get(kind, within_cell)(source, arrays, wanted),
        )
    return total


def check_answers(signature: ModelSignature, kind: str, asked: Arrays, answers: Arrays) -> None:
    """Raise ExportError where a finite row is answered with NaN or an infinity.

    Two models that say "not a number" agree about nothing.
    """
    rows = np.logical_and.reduce([finite_rows(a) for a in asked])
    for spec, array in zip(signature.outputs, answers, strict=True):
        wrong = rows & ~finite_rows(array)
        if wrong.any():
            example = [a[wrong][0].ravel()[:8].tolist() for a in asked]
            raise ExportError(
                f"{signature.name} answers {spec.name} {array[wrong][0].ravel()[:8].tolist()} to {kind} rows that "
                f"are finite, {int(wrong.sum())} of {len(rows)}, such as {example}: train it again; or where "
                "such rows never come, log it with an input_example of some that do"
            )


def finite_rows(array: Array) -> npt.NDArray[np.bool_]:
    """Which rows hold neither NaN nor an infinity."""
    if array.dtype.kind != "f":
        return np.ones(len(array), np.bool_)
    return np.asarray(np.isfinite(array).reshape(len(array), -1).all(axis=1))


def require(signature: ModelSignature, found: ParityComparison) -> None:
    """Raise ParityError with the worst difference that is not allowed."""
    failed = [d for d in found.differences if not d.passed]
    if not failed:
        return
    worst = max(failed, key=lambda d: math.inf if math.isnan(d.max_abs) else d.max_abs)
    raise ParityError(
        f"{signature.name}: {worst.output} differs by {worst.max_abs:.3g} ({worst.where}) at batch {worst.batch} "
        f"on {worst.rows} rows; {worst.allowed:.1e} is allowed, and {found.flip_rate:.2%} of the actions flip: "
        "nothing was released"
    )


def max_abs(a: Array, b: Array) -> float:
    """The largest |a - b| of all."""
    return float(absolute(a, b).max(initial=0.0))


def max_rel(a: Array, b: Array) -> float:
    """|a - b| / |a|; where a is 0, infinite unless b is too."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(x - y) / np.abs(x))
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))


def max_ulp(a: Array, b: Array) -> int:
    """Largest distance in units in the last place: how many numbers lie between, of the array's own dtype."""
    if a.dtype.kind != "f":
        return 0
    both = np.isfinite(a) & np.isfinite(b)
    return int(np.abs(_ordered(a[both]) - _ordered(b[both])).max(initial=0))


def _ordered(values: Array) -> Array:
    """Floats as integers in the same order: negative ones count down from zero."""
    width = values.dtype.itemsize
    bits = np.ascontiguousarray(values).view(f"i{width}").astype(np.int64)
    lowest = -(2 ** (8 * width - 1))
    return np.where(bits < 0, lowest - bits, bits)


def actions(signature: ModelSignature, outputs: Arrays) -> Array:
    """What would be done about each row, as a whole number.

    A model with a target_position: buy, hold or sell from a flat book at default limits. Else the label; else
    the largest of several outputs; else the sign.
    """
    by_name = {t.name: a for t, a in zip(signature.outputs, outputs, strict=True)}
    if "target_position" in by_name:
        return orders(by_name["target_position"][:, 0])
    whole = [a for a in outputs if a.dtype.kind in "iub"]
    if whole:
        return whole[0].reshape(len(whole[0]), -1)[:, 0].astype(np.int64)
    wide = [a for a in outputs if a[0].size > 1]
    if wide:
        return np.asarray(wide[-1].reshape(len(wide[-1]), -1).argmax(axis=1))
    with np.errstate(invalid="ignore"):
        return np.sign(outputs[0].reshape(len(outputs[0]), -1)[:, 0]).astype(np.int64)


def orders(targets: Array) -> Array:
    """Sign of the order that the gateway would send for each target, from a flat book at a price of 100."""
    policy = DecisionPolicy(LimitSet())
    limits, price = policy.limits.book, 100.0
    units = np.array(
        [
            target_quantity(float(t), price, limits.max_position_notional, limits.lot) if math.isfinite(t) else 0.0
            for t in targets
        ]
    )
    units[np.abs(units) * price < policy.rebalance_band * limits.max_position_notional] = 0.0
    return np.sign(units).astype(np.int64)
