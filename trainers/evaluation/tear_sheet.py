"""An evaluation as one page that needs nothing else; its first line is the verdict."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from matplotlib.figure import Figure

from trading.models.signature import STRATEGIES
from trading.spans import span_text
from trainers.costs import Costs
from trainers.data.manifest import Manifest
from trainers.evaluation import baselines, plots
from trainers.evaluation.evaluate import Evaluation

TEMPLATES = Path(__file__).parent / "templates"


def tear_sheet(evaluation: Evaluation, manifest: Manifest, costs: Costs, more: dict[str, Figure]) -> str:
    """HTML; `more` are pictures beside those of the evaluation."""
    pictures = {"Equity": plots.equity(evaluation.series), "Drawdown": plots.drawdown(evaluation.series),
                "Returns": plots.returns(evaluation.series[baselines.META]), **more}  # fmt: skip
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(default=True), trim_blocks=True
    )
    environment.globals.update(percent=percent, number=number, money=money)
    mine = evaluation.series[baselines.META]
    overfit = "unknown" if math.isnan(evaluation.overfitting) else f"{evaluation.overfitting:.0%}"
    return environment.get_template("tear_sheet.html.j2").render(
        e=evaluation,
        title=f"Out of sample: {manifest.named}",
        span=f"{when(int(mine.time_ns[0]))} to {when(int(mine.time_ns[-1]))}, {len(mine.net):,} periods of "
        f"{span_text(mine.period_ns)}",
        trials=f"{evaluation.trials} ways to trade were tried: deflated Sharpe ratio "
        f"{evaluation.deflated_sharpe:.2f}, probability of backtest overfitting {overfit}.",
        rows=list(evaluation.figures.items()), minor=STRATEGIES,
        pictures={name: encode(figure) for name, figure in pictures.items()}, facts=facts(manifest, costs),
    )  # fmt: skip


def facts(manifest: Manifest, costs: Costs) -> list[tuple[str, str]]:
    """Of the data and the costs, as name and text."""
    labels = f"triple barrier, {span_text(manifest.horizon_ns)}, +{manifest.up:g} and -{manifest.down:g} deviations"
    paid = f"fee {costs.fee_bps:g} bp, slippage {costs.slippage_bps:g} bp"
    read = f"{manifest.ticks:,} ticks, {manifest.rows:,} rows ({manifest.bars}), hash {manifest.data_hash[:16]}"
    return [
        ("sources", manifest.named),
        ("data", read),
        ("labels", labels),
        ("feature version", str(manifest.feature_version)),
        ("costs", f"spread as quoted (else {costs.half_spread_bps:g} bp a side), {paid}"),
    ]


def when(time_ns: int) -> str:
    """UTC, to the minute."""
    return str(np.datetime64(time_ns, "ns").astype("datetime64[m]")).replace("T", " ")


def encode(figure: Figure) -> str:
    """A PNG as text."""
    return base64.b64encode(png(figure)).decode()


def png(figure: Figure) -> bytes:
    """A PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def percent(value: float) -> str:
    """A share in percent; a dash for what is unknown."""
    return "–" if math.isnan(value) else f"{value:.2%}"


def number(value: float) -> str:
    """Three digits; a dash for what is unknown."""
    return "–" if math.isnan(value) else f"{value:.3g}"


def money(value: float) -> str:
    """Whole money; a dash for what is unknown."""
    return "–" if math.isnan(value) else f"{value:,.0f}"
