"""What a release came to."""

from __future__ import annotations

from msgspec import Struct

from exporters.parity.comparison import ParityComparison
from exporters.parity.decisions import Task, task_of
from trading.models.signature import ModelSignature


class Released(Struct, frozen=True):
    """What a release or rollback did. Parity is the largest absolute difference as served, from the source.

    `parity_relative` is on the scale that is judged, of which `parity_limit` is allowed; `task` says what is
    decided from its answers, and `rank_correlation` is None where nothing was ranked. `alone` says why the version
    before is not kept loaded; "" where it is, where there was none, and of an ensemble (its steps are).
    """

    model: str
    version: int
    previous: int | None
    action: str
    parity_max_abs_diff: float
    flip_rate: float
    flip_seconds: float
    seconds: float
    device: str
    alone: str = ""
    task: Task = "action"
    parity_relative: float = 0.0
    parity_limit: float = 0.0
    rank_correlation: float | None = None


def judged(signature: ModelSignature, compared: ParityComparison) -> tuple[Task, float, float, float | None]:
    """What is decided from a model's answers, and how far they are off: the last four of `Released`."""
    return task_of(signature), compared.relative, compared.limit, compared.rank_correlation
