"""Why a model wanted what it wanted: exact Shapley values of a decision's target over groups of features.

Shapley (1953), A value for n-person games; on models, Lundberg and Lee (2017), A unified approach to interpreting
model predictions. Eight groups make 256 coalitions, which one call of the model answers: nothing is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from services.forensics.kinds import COMMON
from services.forensics.replay_log import place_of
from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import LogRow, TrailReader, opened, to_record
from stack.workflows.asking import ModelPlace, ask
from stack.workflows.explain import to_text
from trading.arrays import Float32Array, FloatArray
from trading.decision.schema import Decision
from trading.errors import ConfigurationError
from trading.features.definitions import COLUMN, FEATURES
from trading.replay.published import published

#: Every feature is in one of them: what moves together is told together.
GROUPS: dict[str, tuple[str, ...]] = {
    "returns": tuple(name for name in FEATURES if name.startswith("return_") and name != "return_zscore"),
    "volatility": (*(name for name in FEATURES if name.startswith("volatility_")), "range_14"),
    "spread": ("spread_bps", "spread_zscore"),
    "order book": ("size_imbalance", "microprice_deviation_bps"),
    "trades": ("trade_flow_10s", "trade_flow_10m", "tick_rate"),
    "momentum": ("rsi_14", "macd", "macd_histogram", "bollinger_position", "return_zscore"),
    "drawdown": ("drawdown_10m", "drawdown_20d"),
    "clock": ("time_of_day_sin", "time_of_day_cos", "week_sin", "week_cos", "log_gap"),
}
#: Decisions of the symbol before it whose mean features are the baseline, and how far back they are looked for.
BASELINE, LOOKED_AT = 1000, 50_000
UNREADABLE = [name for name, _ in COMMON].index("unreadable")
#: A contribution below this is not worth a word.
WORTH = 0.005
#: The recorded target is written with nine digits.
TOLERANCE = 1e-6


class Contribution(Struct, frozen=True):
    """What a group of features added to the target, and the features that are in it with their values."""

    group: str
    value: float
    features: dict[str, float]


class Explanation(Struct, frozen=True):
    """Why.

    Attributes:
        decision_id, symbol, model, version: of the decision.
        baseline: what it is compared with, in words.
        baseline_target: what the model wants there; in [-1, 1] of the position limit, as all targets.
        target: what the model wants of the recorded features now: the baseline's and all contributions.
        recorded_target: what it wanted then.
        is_same: whether both are the same within 1e-6; where not, build or device are others, and this explains
            the model as it is now.
        contributions: the largest first.
        sentence: for people.
    """

    decision_id: str
    symbol: str
    model: str
    version: str
    baseline: str
    baseline_target: float
    target: float
    recorded_target: float
    is_same: bool
    contributions: list[Contribution]
    sentence: str


def explain(settings: ForensicsSettings, place: ModelPlace, decision_id: str) -> Explanation:
    """Ask the recorded version, and divide its answer among the groups.

    Raises:
        ConfigurationError: there is no such decision, it had no answer, or its version cannot be asked.
        ServiceUnavailable: a server does not answer.
    """
    place_of(decision_id, settings.ticks_topic)
    with opened(settings.reader_url.get_secret_value()) as reader:
        found = reader.find("decisions", "decision_id", decision_id)
        if not found:
            raise ConfigurationError(f"{decision_id} is not on record")
        decision = published(found[0].record.value or b"").decision
        if decision.target_position is None:
            raise ConfigurationError(
                f"{decision_id} had no answer of a model ({decision.reason.value}): nothing to explain"
            )
        before = earlier(reader, found[0].log, found[0].record.offset, decision)
    row = np.array(decision.features, np.float32)
    base = np.zeros_like(row)
    if len(before):
        base[:] = before.mean(axis=0, dtype=np.float64)
    worths = worth_of(
        lambda rows: ask(place, decision.model_name, decision.model_version, rows).prediction.target_position,
        row,
        base,
    )
    values = shapley(worths)
    told = (
        f"the mean of {len(before):,} earlier decisions about {decision.symbol}"
        if len(before)
        else "features that are all 0"
    )
    return to_explanation(decision, told, worths, values)


def earlier(reader: TrailReader, log: LogRow, record_offset: int, decision: Decision) -> Float32Array:
    """Features of the symbol's decisions before this one, of the same model, float32 [n, 32]; the newest."""
    rows = reader.rows("decisions", log.id, max(0, record_offset - LOOKED_AT), record_offset - 1)
    mine = [
        one.features
        for one in (published(to_record(row).value or b"").decision for row in rows if row[UNREADABLE] is None)
        if (one.symbol, one.model_name, one.model_version, one.warm)
        == (decision.symbol, decision.model_name, decision.model_version, True)
    ]
    return np.array(mine[-BASELINE:], np.float32).reshape(-1, len(FEATURES))


def worth_of(model: Callable[[Float32Array], Any], row: Float32Array, base: Float32Array) -> FloatArray:
    """What the model wants for every coalition, float64 [2**n]: bit k says that group k is the decision's own."""
    names = list(GROUPS)
    rows = np.tile(base, (2 ** len(names), 1))
    for coalition in range(len(rows)):
        for k, name in enumerate(names):
            if coalition >> k & 1:
                columns = [COLUMN[feature] for feature in GROUPS[name]]
                rows[coalition, columns] = row[columns]
    return np.asarray(model(rows), np.float64).ravel()


def shapley(worths: FloatArray) -> FloatArray:
    """Shapley's value of each player, float64 [n], of a game with a worth for each of its 2**n coalitions.

    Their sum is the worth of all of them less that of none.
    """
    n = int(math.log2(len(worths)))
    shares = [math.factorial(s) * math.factorial(n - s - 1) / math.factorial(n) for s in range(n)]
    values = np.zeros(n)
    for coalition in range(len(worths)):
        share = shares[min(n - 1, coalition.bit_count())]
        for k in range(n):
            if not coalition >> k & 1:
                values[k] += share * (worths[coalition | 1 << k] - worths[coalition])
    return values


def to_explanation(decision: Decision, baseline: str, worths: FloatArray, values: FloatArray) -> Explanation:
    """In numbers and in a sentence."""
    recorded = decision.target_position or 0.0
    parts = [
        Contribution(name, float(value), {f: decision.features[COLUMN[f]] for f in GROUPS[name]})
        for name, value in zip(GROUPS, values, strict=True)
    ]
    parts.sort(key=lambda one: -abs(one.value))
    none, whole = float(worths[0]), float(worths[-1])
    told = [
        f"{one.group} {'raised' if one.value > 0 else 'lowered'} it by {abs(one.value):.3f}"
        for one in islice(parts, 4)
        if abs(one.value) >= WORTH
    ]
    sentence = (
        f"{decision.symbol} at {to_text(decision.event_time_ns)}: the model wanted {whole:+.3f} of the position "
        f"limit, against {none:+.3f} for {baseline}; {', '.join(told) or 'no group of features moved it'}. "
        f"{what_followed(decision)}"
    )
    return Explanation(
        decision.decision_id, decision.symbol, decision.model_name, decision.model_version, baseline, none, whole,
        recorded, abs(whole - recorded) <= TOLERANCE, parts, sentence,
    )  # fmt: skip


def what_followed(decision: Decision) -> str:
    """What the desk did, in words."""
    if decision.quantity:
        return (
            f"The desk decided to {decision.action.value} {abs(decision.quantity):g} at "
            f"{decision.reference_price:g}, from {decision.position_before:g} to {decision.position_after:g}."
        )
    if decision.verdict is not None:
        return f"The order was denied: {', '.join(decision.verdict.broken)}."
    return f"The desk held: {decision.reason.value.replace('_', ' ')}."


def plot(path: Path, told: Explanation) -> None:
    """From the baseline to the target, a bar a group, the largest first. Raises ConfigurationError."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in known:
        raise ConfigurationError(f"--plot {path}: a picture ends in .png, .svg or .pdf")
    axes = figure.subplots()
    names = ["baseline", *(one.group for one in told.contributions), "target"]
    at = told.baseline_target
    bars = [(0.0, at, "#8d99ae")]
    for one in told.contributions:
        bars.append((at, one.value, "#2a9d8f" if one.value > 0 else "#d1495b"))
        at += one.value
    bars.append((0.0, told.target, "#264653"))
    for k, (left, width, colour) in enumerate(bars):
        axes.barh(k, width, left=left, color=colour)
        axes.text(max(left, left + width), k, f" {width:+.3f}", va="center", fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.use_sticky_edges = False
    axes.margins(x=0.15)
    axes.set_xlabel(f"share of the position limit; baseline: {told.baseline}")
    axes.set_title(f"{told.decision_id}: {told.model} version {told.version}", fontsize=10)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise ConfigurationError(f"--plot {path} cannot be written: {error.strerror}") from error
