"""Do the source, the exported file and the served model give the same answers?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from exporters.errors import ExportError, ParityError, brief
from exporters.formats.tensors import Array, Arrays, Run, check_shapes
from exporters.parity.decisions import actions, in_words, rank_correlation, task_of
from exporters.parity.distance import max_rel, max_ulp
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
from trading.models.signature import ModelSignature

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
        relative: largest difference on the scale of `limit`: as a share of the row's largest number, or of the
            usual one where that is more.
        limit: the largest such share that passes.
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
    relative: float
    limit: float


class Flips(Struct, frozen=True):
    """Rows whose action differs; `tied` of them have no clear answer at the source either.

    `rank_correlation` is Spearman's of the answers, the lowest of their columns; None where nothing is ranked.
    """

    where: str
    rows: str
    batch: int
    flipped: int
    of: int
    tied: int = 0
    rank_correlation: float | None = None


class ParityComparison(Struct, frozen=True):
    """Everything that was compared."""

    differences: list[Difference]
    flips: list[Flips]

    @property
    def max_abs(self) -> float:
        """The largest absolute difference of what was judged: where any is allowed, nothing was."""
        return max((d.max_abs for d in self.differences if math.isfinite(d.allowed)), default=0.0)

    @property
    def worst(self) -> Difference | None:
        """What is furthest off on the scale that it is judged on; None where nothing was judged."""
        judged = [d for d in self.differences if math.isfinite(d.allowed)]
        return max(judged, key=lambda d: d.relative / d.limit if d.limit else d.max_abs, default=None)

    @property
    def relative(self) -> float:
        """Of `worst`; 0 where nothing was judged."""
        return self.worst.relative if self.worst is not None else 0.0

    @property
    def limit(self) -> float:
        """What `relative` may be."""
        return self.worst.limit if self.worst is not None else 0.0

    @property
    def rank_correlation(self) -> float | None:
        """The lowest of all that was ranked."""
        return min((f.rank_correlation for f in self.flips if f.rank_correlation is not None), default=None)

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
    check_alike(signature, wanted, got, where)
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
        found.append(difference(a, b, most, judged, share, (where, rows, batch, spec.name)))
    flipped = actions(signature, wanted) != actions(signature, got)
    # Rows that mean nothing have no order that counts.
    ranked = rank_correlation(wanted, got) if rows not in {HOSTILE, INFINITE} else None
    return ParityComparison(
        found, [Flips(where, rows, batch, int(flipped.sum()), batch, int((flipped & tied).sum()), ranked)]
    )


def check_alike(signature: ModelSignature, wanted: Arrays, got: Arrays, where: str) -> None:
    """Raise ParityError for answers of another shape or dtype than the signature says."""
    try:
        check_shapes(f"{signature.name} at its source", signature.outputs, wanted, len(wanted[0]))
        check_shapes(f"{signature.name} ({where})", signature.outputs, got, len(wanted[0]))
    except ExportError as error:
        raise ParityError(str(error)) from error


def difference(
    wanted: Array,
    got: Array,
    most: Array,
    judged: npt.NDArray[np.bool_],
    share: float,
    about: tuple[str, str, int, str],
) -> Difference:
    """How far one output is from its source's, where no more than `most`, [rows, columns], is allowed.

    `judged`: which rows are. `share`: of the tolerance that `most` comes from. `about`: where, kind of rows, batch
    and output.
    """
    apart = absolute(wanted, got)[judged]
    most = np.broadcast_to(most[judged], apart.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_allowed = np.where(apart > 0.0, apart / most, 0.0)
    worst = int(np.argmax(np.where(apart > most, np.inf, apart))) if apart.size else 0
    worst_share = np.nan_to_num(of_allowed, nan=np.inf, posinf=np.inf).max(initial=0.0)
    return Difference(
        *about,
        float(apart.max(initial=0.0)),
        max_rel(wanted, got),
        max_ulp(wanted, got),
        float(most.flat[worst]) if most.size else 0.0,
        bool((apart <= most).all()),
        float(worst_share) * share if share else float(apart.any()),
        share,
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
    decided = in_words(task_of(signature), found.flip_rate, found.rank_correlation)
    worst = max(failed, key=lambda d: math.inf if math.isnan(d.max_abs) else d.max_abs)
    raise ParityError(
        f"{signature.name}: {worst.output} differs by {worst.max_abs:.3g} ({worst.where}) at batch {worst.batch} "
        f"on {worst.rows} rows, {worst.relative:.1e} of what is usual there; {worst.allowed:.1e}, "
        f"{worst.limit:.0e} of it, is allowed, and {decided}: nothing was released"
    )
