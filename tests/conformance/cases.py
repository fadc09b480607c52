"""A row of the conformance table: a model that people train, and what its export ends in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import infer_signature


@dataclass(frozen=True)
class Exact:
    """Every answer is the source's own, bit for bit."""

    def __str__(self) -> str:
        return "exact"


@dataclass(frozen=True)
class Within:
    """No answer is further from the source's than this share of the row's largest number, or of the usual one."""

    share: float = 1e-5

    def __str__(self) -> str:
        return f"within {self.share:.0e}".replace("e-0", "e-")


@dataclass(frozen=True)
class Refused:
    """Nothing is published; the sentence holds these words."""

    words: str

    def __str__(self) -> str:
        return f"refused: “{self.words}”"


Ends = Exact | Within | Refused


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        save: writes it to a path, as people would: an MLflow folder, or a file.
        answers: what the library itself answers to some rows, in the order in which they are served.
        rows: some that it was trained on, an array an input.
        predict: what MLflow's pyfunc answers, where that is one of `answers`: its number.
        fractions: whether it says what a part of a category is.
    """

    save: Callable[[Path], None]
    answers: Callable[[list[Any]], list[Any]]
    rows: list[Any]
    predict: int | None = 0
    fractions: bool = False


@dataclass(frozen=True)
class Case:
    """A row. `arguments` are those of the export."""

    library: str
    kind: str
    options: str
    make: Callable[[], Model]
    ends: Ends
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.library, self.kind, self.options)))


def save(flavour: Any, model: Any, rows: Any, answers: Any, path: Path, **given: Any) -> None:
    """Through MLflow, with the signature of what it was trained on and answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flavour.save_model(
            model, str(path), signature=infer_signature(rows, answers), pip_requirements=["numpy"], **given
        )


# ---- tables that most models are trained on ------------------------------------------------------

RNG = np.random.default_rng(3)
NUMBERS = RNG.normal(size=(240, 4)).astype(np.float32)
SCORE = 2 * NUMBERS[:, 0] - NUMBERS[:, 1] * NUMBERS[:, 2] + 0.3 * NUMBERS[:, 3] ** 2
BINARY, CLASSES = (SCORE > 0.3).astype(int), np.digitize(SCORE, [-0.8, 0.9])
COUNTS = RNG.integers(0, 6, (240, 4)).astype(np.float32)
COUNTED = np.digitize(COUNTS.sum(axis=1), [8, 12])
MISSING = NUMBERS.copy()
MISSING[(RNG.random(NUMBERS.shape) < 0.15) & (NUMBERS > -0.5)] = np.nan
GAPS = np.nan_to_num(MISSING[:, 0], nan=1.5) - 2 * np.isnan(MISSING[:, 1]) + np.nan_to_num(MISSING[:, 2]) ** 2
#: The first column is a category; so is the last, with one number missing between.
CODES = NUMBERS.copy()
CODES[:, 0] = RNG.integers(0, 5, 240)
CODES[:, 3] = RNG.choice([0, 1, 3, 7], 240)
CODED = np.array([3.0, -1.0, 0.5, 2.0, -4.0])[CODES[:, 0].astype(int)] + CODES[:, 1] + (CODES[:, 3] == 3)
WORDS = np.array(["hold", "buy", "sell"])[CLASSES]
TARGETS = np.column_stack([SCORE, NUMBERS[:, 1] - NUMBERS[:, 0]]).astype(np.float32)
COLUMNS = ["price", "spread", "imbalance", "age"]
#: Seconds since 1970, of one afternoon: no two of them within 128 s are two numbers in float32.
SECONDS = NUMBERS.astype(np.float64)
SECONDS[:, 0] = 1_700_000_000.0 + RNG.integers(0, 600, 240)
LATER = np.where(SECONDS[:, 0] > 1_700_000_300.0, 20.0, 10.0) + SECONDS[:, 1]
