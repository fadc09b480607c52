"""How good the regimes are: the teacher's own figures, and how well the student says what the teacher would."""

from __future__ import annotations

import numpy as np
import torch
from msgspec import Struct

from trading.arrays import FloatArray, Int64Array
from trading.models.signature import REGIMES
from trainers.data.dataset import Dataset
from trainers.models import calibration
from trainers.models.calibration import Curve
from trainers.models.regime_teacher import Teacher, observe
from trainers.training.fold import Fold
from trainers.training.loop import batches


class RegimeReport(Struct, frozen=True):
    """Of one fold, on its test rows.

    Attributes:
        log_likelihood: of the teacher, predictive, a row.
        agreement: share of rows where student and teacher call the same regime likeliest.
        cross_entropy, teacher_entropy: the student's against the teacher, and the least that it could be.
        curve: the student's calibration against the teacher.
        stability: share of rows that this teacher and the one before call the same; NaN without one before.
        transitions: float64 [3, 3], of the teacher, a row.
        expected_dwell, dwell: rows in a regime, by the teacher's matrix, and as the student's likeliest one has it.
        shares: of the student's likeliest regimes.
        disruption_mean, disruption_p95: what a change of the likeliest regime does to the target position, all else
            being equal, as a share of the position limit; 0 without any change.
        changes: of the likeliest regime, a row.
    """

    log_likelihood: float
    agreement: float
    cross_entropy: float
    teacher_entropy: float
    curve: Curve
    stability: float
    transitions: FloatArray
    expected_dwell: FloatArray
    dwell: FloatArray
    shares: FloatArray
    disruption_mean: float
    disruption_p95: float
    changes: float

    def metrics(self) -> dict[str, float]:
        """What MLflow keeps."""
        found = {
            "agreement": self.agreement, "cross_entropy": self.cross_entropy,
            "teacher_entropy": self.teacher_entropy,
            "teacher_log_likelihood": self.log_likelihood, "calibration_error": self.curve.error,
            "disruption_mean": self.disruption_mean, "disruption_p95": self.disruption_p95,
            "regime_changes": self.changes,
        }  # fmt: skip
        if np.isfinite(self.stability):
            found["stability"] = self.stability
        for k, name in enumerate(REGIMES):
            found[f"share_{name}"] = float(self.shares[k])
            found[f"dwell_{name}"] = float(self.dwell[k])
            found[f"stay_{name}"] = float(self.transitions[k, k])
        return found


def report(data: Dataset, fold: Fold, before: Teacher | None) -> RegimeReport:
    """All figures of a fold's regimes on its test rows; `before` is the teacher of the fold before."""
    rows = fold.split.test
    p, taught = fold.answers.probabilities, fold.filtered[rows]
    likeliest = p.argmax(axis=1)
    stability = float("nan")
    if before is not None:
        old = before.filtered(observe(data), data.symbols)[rows]
        stability = float((old.argmax(axis=1) == taught.argmax(axis=1)).mean())
    jumps = disruption(data, fold)
    return RegimeReport(
        log_likelihood=fold.teacher.log_likelihood,
        agreement=float((likeliest == taught.argmax(axis=1)).mean()),
        cross_entropy=float(-(taught * np.log(p + 1e-12)).sum(axis=1).mean()),
        teacher_entropy=float(-(taught * np.log(taught + 1e-12)).sum(axis=1).mean()),
        curve=calibration.curve(p, taught), stability=stability, transitions=fold.teacher.regime_transitions,
        expected_dwell=fold.teacher.dwell, dwell=dwell_times(likeliest, data.symbols[rows]),
        shares=np.bincount(likeliest, minlength=len(REGIMES)) / len(rows),
        disruption_mean=float(jumps.mean()) if len(jumps) else 0.0,
        disruption_p95=float(np.quantile(jumps, 0.95)) if len(jumps) else 0.0,
        changes=len(jumps) / len(rows),
    )  # fmt: skip


def previous(symbols: Int64Array) -> Int64Array:
    """The place of each row's symbol's row before, int64 [n]; -1 for its first."""
    order = np.argsort(symbols, kind="stable")
    found = np.full(len(symbols), -1, np.int64)
    same = symbols[order[1:]] == symbols[order[:-1]]
    found[order[1:][same]] = order[:-1][same]
    return found


def disruption(data: Dataset, fold: Fold) -> FloatArray:
    """At each change of the likeliest regime, abs(target with the new probabilities - target with the old ones)."""
    rows, answers = fold.split.test, fold.answers
    before = previous(data.symbols[rows])
    likeliest = answers.probabilities.argmax(axis=1)
    at = np.flatnonzero((before >= 0) & (likeliest != likeliest[before]))
    parts = [np.empty(0)]
    with torch.inference_mode():
        for part in batches(len(at)):
            here = at[part]
            features = torch.from_numpy(np.asarray(data.features[rows[here]]))
            old, signals = (
                torch.from_numpy(values.astype(np.float32))
                for values in (answers.probabilities[before[here]], answers.signals[here])
            )
            _, target = fold.meta(features, old, signals)
            parts.append(np.abs(answers.target[here] - target[:, 0].numpy()))
    return np.concatenate(parts)


def dwell_times(likeliest: Int64Array, symbols: Int64Array) -> FloatArray:
    """Mean rows of a symbol in each regime before it is left, float64 [3]; 0 for one that never is likeliest."""
    order = np.argsort(symbols, kind="stable")
    sequence, owner = likeliest[order], symbols[order]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(sequence) != 0) | (np.diff(owner) != 0)]))
    lengths = np.diff(np.concatenate([starts, [len(sequence)]]))
    found = np.zeros(len(REGIMES))
    for k in range(len(REGIMES)):
        mine = lengths[sequence[starts] == k]
        found[k] = mine.mean() if len(mine) else 0.0
    return found
